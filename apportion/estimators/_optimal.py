"""Coalitions chosen so that Shapley values are known as precisely as can be."""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from ._spectrum import Parts, distances

FALLING = 0.2  # variance of sets of one more player, relative
REST = 1e-3  # variance of what has no structure, relative to that of single players
FREE = 1e3  # variance of the constant and of single players: they are to be found whatever they are
POOL = (2048, 8192)  # candidates a design is chosen from, at least and at most


def chosen(n: int, rows: int, rng: Generator) -> Bool[Tensor, "row player"]:
    """`rows` coalitions, the most telling first: every prefix is a design too.

    The ends, all single players and all but one; all pairs where they take at most half of the
    rows (games of order three are determined from there on); then one by one the coalition that
    lowers the summed posterior variance of the Shapley values most, for a game whose interactions
    fall by `FALLING` from order to order. The design depends on no value. Players are relabelled at
    random.
    """
    start = _start(n, rows)
    pool = torch.cat([start, _candidates(n, rows, start, rng)])
    order = _greedy(pool, rows, len(start)) if len(start) < rows else list(range(rows))
    return pool[order][:, torch.randperm(n, generator=rng)]


def _start(n: int, rows: int) -> Bool[Tensor, "row player"]:
    small = [frozenset[int](), frozenset(range(n))]
    for i in range(n):
        small += [frozenset([i]), frozenset(range(n)) - {i}]
    if 2 + 2 * n + n * (n - 1) // 2 <= rows / 2:
        small += map(frozenset, combinations(range(n), 2))
    out = torch.zeros(len(small), n, dtype=torch.bool)
    for row, members in enumerate(small):
        out[row, list(members)] = True
    return out.unique(dim=0) if n < 4 else out


def _candidates(n: int, rows: int, start: Tensor, rng: Generator) -> Bool[Tensor, "row player"]:
    """All other coalitions, or where these are too many random ones, every size as often."""
    if 2**n <= POOL[1]:
        every = ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).bool()
    else:
        count = max(POOL[0], min(4 * rows, POOL[1]))
        sizes = torch.randint(2, n - 1, (count,), generator=rng)
        rank = torch.rand(count, n, generator=rng).argsort(1).argsort(1)
        every = (rank < sizes[:, None]).unique(dim=0)
    known = {tuple(row) for row in start.tolist()}
    fresh = torch.tensor([tuple(row) not in known for row in every.tolist()])
    every = every[fresh]
    return every[torch.randperm(len(every), generator=rng)]


def _greedy(pool: Bool[Tensor, "row player"], rows: int, given: int) -> list[int]:
    """Indices into the pool: the first `given`, then always the best next one.

    A Cholesky factorisation of the pool's covariance that chooses its pivots by how much variance
    of the Shapley values each would take away.
    """
    n = pool.shape[1]
    parts = Parts.of(n)
    orders = torch.tensor([FALLING**k for k in range(len(parts.tables))]).double()
    orders[0], orders[-1] = FREE, REST
    shares = torch.linalg.solve(parts.orders.T, orders)  # a prior of one's own, not a fitted one
    table = shares @ parts.tables + FREE
    reach = parts.reach(shares, pool)
    left = table[0].repeat(len(pool))
    factor = torch.zeros(len(pool), rows, dtype=torch.float64)
    free = torch.ones(len(pool), dtype=torch.bool)
    picked: list[int] = []
    for step in range(min(rows, len(pool))):
        best = step
        if step >= given:
            gain = reach.square().sum(-1) / left.clamp(min=1e-9 * float(shares[-1]))
            best = int(gain.masked_fill(~free, -1).argmax())
        picked.append(best)
        free[best] = False
        root = left[best].clamp(min=1e-12).sqrt()
        near = table[distances(pool, pool[best : best + 1])[:, 0]]
        column = (near - factor[:, :step] @ factor[best, :step]) / root
        factor[:, step] = column
        left = left - column.square()
        reach = reach - torch.outer(column, reach[best] / root)
    return picked
