"""Which coalitions to ask about: orders of groups, random subsets, kernel-weighted pairs, soft
masks on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import interpolate

ENUMERATED = 200_000  # coalitions that are listed rather than drawn
SPARSE = 8  # subsets of one size are listed, not drawn, from this share (1/8) of them on


def group_arrivals(
    orders: int, group: Int[Tensor, "player"], *, paired: bool, rng: Generator
) -> Int[Tensor, "order player"]:
    """When each player arrives, 0 to n - 1, where each group arrives in one go: groups in random
    order, and so the players of each. The reverse of such an order is one, too.
    """
    draws, n = orders // 2 if paired else orders, len(group)
    turn = torch.rand(draws, int(group.max()) + 1, generator=rng).argsort(1).argsort(1)
    within = torch.rand(draws, n, generator=rng, dtype=torch.float64)
    rank = (turn[:, group] + within).argsort(1).argsort(1)
    if not paired:
        return rank
    return torch.stack([rank, n - 1 - rank], 1).flatten(0, 1)


def bernoulli(rows: int, players: int, keep: float, rng: Generator) -> Bool[Tensor, "row player"]:
    """Independent coins: each player present with probability `keep`."""
    return torch.rand(rows, players, generator=rng) < keep


def coalitions(players: int, number: Int[Tensor, "row"]) -> Bool[Tensor, "row player"]:
    """Coalitions by number, of the 2^n: player i is bit i."""
    return (number[:, None] >> torch.arange(players)) % 2 == 1


def pair_sides(
    players: int, most: int, rng: Generator
) -> Callable[[int], Bool[Tensor, "row player"]]:
    """A source of random coalitions, to be asked with their complements: all equally likely, and
    without repeats where there are few enough of them to be listed, or to be asked all.
    """
    every = 2 ** (players - 1)
    if every > max(ENUMERATED, most):
        return lambda rows: bernoulli(rows, players, 0.5, rng)
    left = iter(torch.randperm(every, generator=rng).tolist())
    return lambda rows: coalitions(players, torch.tensor([next(left) for _ in range(rows)]))


def without_one(players: int, which: Int[Tensor, "row"]) -> Bool[Tensor, "row player"]:
    """All players but one per row."""
    return torch.arange(players) != which[:, None]


class Sizes(Enum):
    """How often coalitions of each size are asked."""

    KERNEL = "kernel"  # as the Shapley kernel weighs them: mostly the smallest and largest
    LEVERAGE = "leverage"  # all sizes as often: the leverage scores of the fit [musco2025]

    def __repr__(self) -> str:  # as it is written in code
        return f"Sizes.{self.name}"


class KernelDesign:
    """Pairs of a coalition and its complement under the Shapley kernel, growing without repeats.

    Class k holds the pairs of sizes (k, n - k); its share of the kernel is W_k = 1 / (k (n - k)),
    doubled where the sizes differ. Small classes are exhausted while the budget's share covers
    them; what is left is spread over the other classes in proportion to W_k, or to the number of
    sizes for `Sizes.LEVERAGE`, without replacement.
    Each drawn pair stands for W_k / (pairs drawn of class k). Fewer than 2 n
    pairs begin with the single players, whatever their share: these alone determine n scores.
    With `least` they always do, and every other class gets as many pairs as that, or all it has.
    """

    def __init__(
        self, players: int, rng: Generator, sizes: Sizes = Sizes.KERNEL, least: int = 0
    ) -> None:
        self.n, self.rng, self.least = players, rng, least
        self.classes = range(1, players // 2 + 1)
        self.available = {
            k: math.comb(players, k) // (2 if 2 * k == players else 1) for k in self.classes
        }
        self.weight = {
            k: (1.0 if 2 * k == players else 2.0) / (k * (players - k)) for k in self.classes
        }
        self.often = (
            self.weight
            if sizes is Sizes.KERNEL
            else {k: 1.0 if 2 * k == players else 2.0 for k in self.classes}
        )
        self.taken: dict[int, int] = dict.fromkeys(self.classes, 0)
        self._seen: set[tuple[int, ...]] = set()
        self._queue: dict[int, list[tuple[int, ...]]] = {}
        self.size_class: list[int] = []  # class of each pair, in the order they were given out

    @property
    def pairs(self) -> int:
        """How many pairs there are in all; at that many the design is exhaustive."""
        return sum(self.available.values())

    def grow(self, pairs: int) -> Bool[Tensor, "pair player"]:
        """Further pairs (the smaller side of each), so that there are `pairs` in all."""
        goal = self._allocation(min(pairs, self.pairs))
        fresh: list[tuple[int, ...]] = []
        for k in self.classes:
            new = self._more(k, max(goal[k] - self.taken[k], 0))
            self.taken[k] += len(new)
            self.size_class += [k] * len(new)
            fresh += new
        present = torch.zeros(len(fresh), self.n, dtype=torch.bool)
        for row, members in enumerate(fresh):
            present[row, list(members)] = True
        return present

    def weights(self) -> Float[Tensor, "pair"]:
        """Kernel weight each pair stands for, scaled to sum to 1."""
        each = torch.tensor(
            [self.weight[k] / self.taken[k] for k in self.size_class], dtype=torch.float64
        )
        return each / each.sum()

    def sampled(self) -> Float[Tensor, "pair"]:
        """Share of its class that was left out, per pair: 0 where the class is exhausted and
        nothing is random.
        """
        left = {k: 1 - self.taken[k] / self.available[k] for k in self.classes}
        return torch.tensor([left[k] for k in self.size_class], dtype=torch.float64)

    def _allocation(self, pairs: int) -> dict[int, int]:
        goal = {k: min(self.least, self.available[k]) for k in self.classes}
        if self.classes and (self.least or pairs < 2 * self.n):
            goal[1] = min(pairs, self.available[1])
        left = pairs - sum(goal.values())
        open_classes = [k for k in self.classes if goal[k] < self.available[k]]
        while open_classes and left > 0:
            total = sum(self.often[k] for k in open_classes)
            shares = {k: left * self.often[k] / total for k in open_classes}
            full = [k for k in open_classes if goal[k] + shares[k] >= self.available[k]]
            if not full:
                rest = left - sum(int(share) for share in shares.values())
                first = sorted(open_classes, key=lambda k: int(shares[k]) - shares[k])[:rest]
                for k in open_classes:
                    goal[k] += int(shares[k]) + (k in first)
                break
            for k in full:  # exhaust, and share what is left among the others
                left -= self.available[k] - goal[k]
                goal[k] = self.available[k]
                open_classes.remove(k)
        return goal

    def _more(self, k: int, count: int) -> list[tuple[int, ...]]:
        if count == 0:
            return []
        if k in self._queue or SPARSE * (self.taken[k] + count) > self.available[k]:
            return self._listed(k, count)
        new: list[tuple[int, ...]] = []
        while len(new) < count:  # far more subsets than are asked for, so repeats are rare
            chosen = (
                torch.rand(count - len(new), self.n, generator=self.rng)
                .topk(k)
                .indices.sort(-1)
                .values
            )
            for drawn in map(tuple, chosen.tolist()):
                members = self._half(drawn) if 2 * k == self.n else drawn
                if members not in self._seen:
                    self._seen.add(members)
                    new.append(members)
        return new

    def _half(self, members: tuple[int, ...]) -> tuple[int, ...]:
        """Of two halves the one with player 0."""
        return members if members[0] == 0 else tuple(i for i in range(self.n) if i not in members)

    def _listed(self, k: int, count: int) -> list[tuple[int, ...]]:
        """The next subsets of a shuffled list of all those of size k that were not given out."""
        if k not in self._queue:
            halves = 2 * k == self.n
            every = [
                c
                for c in combinations(range(self.n), k)
                if c not in self._seen and not (halves and c[0] != 0)
            ]
            order = torch.randperm(len(every), generator=self.rng).tolist()
            self._queue[k] = [every[i] for i in order]
        queue = self._queue[k]
        self._queue[k] = queue[count:]
        return queue[:count]


def grid_masks(
    rows: int, grid: Sequence[int], cells: int, keep: float, rng: Generator
) -> Float[Tensor, "row player"]:
    """Smooth random masks over a grid of players: coarse coins, enlarged linearly, cut at a random
    shift. [petsiuk2018]
    """
    coarse = [min(cells, side) for side in grid]
    block = [-(-side // c) for side, c in zip(grid, coarse, strict=True)]
    coins = (torch.rand(rows, 1, *(c + 1 for c in coarse), generator=rng) < keep).double()
    size = [(c + 1) * b for c, b in zip(coarse, block, strict=True)]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    large = interpolate(coins, size=size, mode=mode, align_corners=False)[:, 0]
    shifts = [torch.randint(b, (rows,), generator=rng) for b in block]
    out = torch.empty(rows, *grid, dtype=torch.float64)
    for row in range(rows):
        window = tuple(
            slice(int(s[row]), int(s[row]) + side) for s, side in zip(shifts, grid, strict=True)
        )
        out[row] = large[row][window]
    return out.flatten(1).clamp(0, 1)
