"""Shapley values of a game as those of a proposal, and sampled coalitions that correct it.

Coalitions are asked in pairs of one and its complement. With S the smaller side and s its size,

    phi_i(v) = [ v(all) - v(none) ] / n + sum_s mean_{|S| = s} h_i(S) [ v(S) - v(complement) ]
    h_i(S) = 1 / s for members, - 1 / (n - s) for others, half of it where s = n / 2

[zhang2023] is exact over all coalitions, and holds of the game less a proposal too, whose Shapley
values are known. What a fold of the sample says of the part of a stratum that the other folds did
not ask about is unbiased whatever was proposed from those others, and so is the mean over folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

FOLDS = 5  # parts of the sample, each corrected by a proposal from the others


@dataclass(frozen=True, eq=False)
class Asked:
    """Pairs of coalitions that were asked, and both ends."""

    side: Bool[Tensor, "pair player"]  # the smaller coalition of each pair
    stratum: Int[Tensor, "pair"]  # its size
    pairs: dict[int, int]  # how many there are of each stratum
    values: Float[Tensor, "pair 2 out"]  # of the coalition and of its complement
    ends: Float[Tensor, "2 out"]  # of nobody and of all

    @property
    def odd(self) -> Float[Tensor, "pair out"]:
        return self.values[:, 0] - self.values[:, 1]

    @property
    def total(self) -> Float[Tensor, "out"]:
        return self.ends[1] - self.ends[0]

    def part(self, kept: Bool[Tensor, "pair"]) -> Asked:
        """Some of the pairs."""
        return Asked(self.side[kept], self.stratum[kept], self.pairs, self.values[kept], self.ends)


@dataclass(frozen=True, eq=False)
class Proposed:
    """A game whose Shapley values are known."""

    scores: Float[Tensor, "out player"]
    odd: Callable[[Tensor], Tensor]  # (pair, player) -> (pair, out): its v(S) - v(complement)
    rounding: float = 0.0  # how far off its scores may be


def worth(side: Bool[Tensor, "pair player"]) -> Float[Tensor, "pair player"]:
    """H: what the odd part of a pair counts in each player's Shapley value."""
    n, size = side.shape[1], side.sum(1, keepdim=True).double()
    each = torch.where(side, 1 / size, -1 / (n - size))
    return torch.where(2 * size == n, each / 2, each)


def folded(asked: Asked, rng: Generator) -> Int[Tensor, "pair"]:
    """Fold of each pair, -1 where its stratum is exhausted and nothing is left to correct. Every
    fold has its share of every other stratum.
    """
    count = {k: int((asked.stratum == k).sum()) for k in asked.pairs}
    left = [k for k, taken in count.items() if taken < asked.pairs[k]]
    fold = torch.full_like(asked.stratum, -1)
    for k in left:
        at = (asked.stratum == k).nonzero().flatten()
        at = at[torch.randperm(len(at), generator=rng)]
        fold[at] = torch.arange(len(at)) % min(FOLDS, *(count[j] for j in left))
    return fold


def corrected(
    asked: Asked, fold: Int[Tensor, "pair"], propose: Callable[[Asked], Proposed]
) -> tuple[Float[Tensor, "out player"], Float[Tensor, "out player"], int]:
    """Scores, standard errors and the degrees of freedom of these: in each fold the proposal from
    the others, and what it misses.
    """
    n, each, rounding = asked.side.shape[1], worth(asked.side), 0.0
    missed, found = torch.zeros_like(asked.odd), []
    for k in range(max(int(fold.max()) + 1, 1)):
        others = fold != k
        proposed = propose(asked.part(others))
        rounding = max(rounding, proposed.rounding)
        wrong = asked.odd - proposed.odd(asked.side)
        missed[~others] = wrong[~others]
        rest = (asked.total - proposed.scores.sum(-1))[:, None] / n
        weight = _expansion(asked, others)[:, None] * each
        found.append(proposed.scores + rest + torch.einsum("jo,ji->oi", wrong, weight))
    error, freedom = _error(asked, missed, each)
    return torch.stack(found).mean(0), error.clamp(min=rounding), freedom


def _expansion(asked: Asked, others: Bool[Tensor, "pair"]) -> Float[Tensor, "pair"]:
    """How many pairs, as a share of its stratum, each pair stands for: the others for themselves,
    those of the fold for all that are left.
    """
    weight = torch.zeros(len(others), dtype=torch.float64)
    for k, total in asked.pairs.items():
        known = (asked.stratum == k) & others
        own = (asked.stratum == k) & ~others
        weight[known] = 1 / total
        if bool(own.any()):
            weight[own] = (total - int(known.sum())) / int(own.sum()) / total
    return weight


def _error(asked: Asked, missed: Tensor, each: Tensor) -> tuple[Float[Tensor, "out player"], int]:
    """Of means over strata that are sampled without replacement, and its degrees of freedom by
    Satterthwaite: (sum_k V_k)^2 / sum_k [ V_k^2 / (pairs of k - 1) ], V_k the mean over scores.
    """
    variance = torch.zeros(missed.shape[1], each.shape[1], dtype=torch.float64)
    spent = 0.0
    for k, total in asked.pairs.items():
        own = asked.stratum == k
        count = int(own.sum())
        if count < total:
            spread = torch.einsum("jo,ji->joi", missed[own], each[own]).var(0)
            part = (1 - count / total) / count * spread
            variance += part
            spent += float(part.mean()) ** 2 / (count - 1)
    freedom = int(float(variance.mean()) ** 2 / spent) if spent else 1
    return variance.sqrt(), max(freedom, 1)
