"""Indices of sets as tables of weights: what the value of a coalition counts in the score of a set.

Every symmetric index is linear in the values, score_S = sum_A W(|S|, |A and S|, |A|) v(A), and most
are defined by the share of a Moebius term m_T (the part of v that only T as a whole makes) that the
sets inside T get. Both are worked out in fractions: the sums alternate in sign.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import comb

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..types import BadRequest

# of the term of a set of t players, what each set of s of them gets, where sets of up to `order`
# players are scored
Share = Callable[[int, int, int], Fraction]
MOST_PLAYERS = 200  # tables of weights are worked out in fractions


def shapley_interaction(s: int, t: int, order: int) -> Fraction:
    """A term is shared equally, a set counting as one player. [grabisch1999]"""
    return Fraction(1, t - s + 1)


def n_shapley(s: int, t: int, order: int) -> Fraction:
    """Shapley interactions, where larger sets give back what smaller ones hold of them.
    [bordt2023]
    """
    return sum(
        (
            comb(t - s, j) * bernoulli_number(j) * shapley_interaction(s + j, t, order)
            for j in range(min(order, t) - s + 1)
        ),
        Fraction(0),
    )


def shapley_taylor(s: int, t: int, order: int) -> Fraction:
    """Small terms stay with their set; larger ones go to the sets of `order` players.
    [sundararajan2020]
    """
    return Fraction(int(s == t)) if s < order else Fraction(1, comb(t, order))


def faithful_shapley(s: int, t: int, order: int) -> Fraction:
    """Coefficients of the best fit of degree `order` under the Shapley kernel. [tsai2023]"""
    if t <= order:
        return Fraction(int(s == t))
    sign = (-1) ** (order - s)
    ratio = Fraction(comb(t - 1, order), comb(t + order - 1, order + s))
    return sign * Fraction(s, order + s) * comb(order, s) * ratio


def banzhaf_interaction(s: int, t: int, order: int) -> Fraction:
    """Half of a term per player beyond the set. [grabisch1999]"""
    return Fraction(1, 2 ** (t - s))


def faithful_banzhaf(s: int, t: int, order: int) -> Fraction:
    """Coefficients of the best fit of degree `order` over all coalitions alike. [tsai2023]"""
    if t <= order:
        return Fraction(int(s == t))
    return Fraction((-1) ** (order - s) * comb(t - s - 1, order - s), 2 ** (t - s))


@cache
def bernoulli_number(j: int) -> Fraction:
    """B_0 = 1, B_1 = -1/2, B_2 = 1/6, ..."""
    if j == 0:
        return Fraction(1)
    return -sum((comb(j + 1, i) * bernoulli_number(i) for i in range(j)), Fraction(0)) / (j + 1)


@cache
def weights(share: Share, n: int, order: int) -> Float[Tensor, "size inside coalition"]:
    """W(s, w, a): what v(A) counts for a set S of s players, w of whom are among the a of A."""
    few(n)
    table = torch.zeros(order + 1, order + 1, n + 1, dtype=torch.float64)
    for s in range(1, order + 1):
        shares = [Fraction(0)] * s + [share(s, t, order) for t in range(s, n + 1)]
        for w in range(s + 1):
            for a in range(w, n - s + w + 1):
                table[s, w, a] = float(_weight(shares, a, a + s - w))
    return table


def _weight(shares: list[Fraction], a: int, union: int) -> Fraction:
    """Over all terms T that hold A and S: m_T counts v(A) with the sign of |T| - |A|."""
    n = len(shares) - 1
    return sum(
        (
            (-1) ** (t - a) * comb(n - union, t - union) * shares[t]
            for t in range(union, n + 1)
        ),
        Fraction(0),
    )  # fmt: skip


def joint_shapley(n: int, order: int) -> list[Fraction]:
    """How much a gain over r players counts, q_0 ... q_(n-1), in the joint Shapley value of sets of
    at most `order` players. [harris2022]
    """
    q = [1 / Fraction(sum(comb(n, i) for i in range(1, order + 1)))]
    for r in range(1, n):
        reached = sum((comb(r, s) * q[s] for s in range(max(r - order, 0), r)), Fraction(0))
        q.append(reached / sum(comb(n - r, s) for s in range(1, min(order, n - r) + 1)))
    return q


@cache
def joint_weights(n: int, order: int) -> Float[Tensor, "size inside coalition"]:
    """Weights of sum over R without T of q_|R| [v(R and T) - v(R)]: A is R with T, or R."""
    few(n)
    q = joint_shapley(n, order)
    table = torch.zeros(order + 1, order + 1, n + 1, dtype=torch.float64)
    for s in range(1, order + 1):
        for r in range(n - s + 1):
            table[s, s, r + s] += float(q[r])
            table[s, 0, r] -= float(q[r])
    return table


def spread(
    table: Float[Tensor, "size inside coalition"],
    present: Bool[Tensor, "row player"],
    sets: Bool[Tensor, "set player"],
) -> Float[Tensor, "row set"]:
    """What the value of each coalition counts in the score of each set."""
    inside = (present.double() @ sets.double().T).long()
    return table[sets.sum(-1)[None, :], inside, present.sum(-1)[:, None]]


def few(n: int) -> None:
    """Refuses more players than weights are worked out for."""
    if n > MOST_PLAYERS:
        raise BadRequest(
            f"indices of sets are worked out for at most {MOST_PLAYERS} players, here are {n:,}; "
            "coarsen them with players.merge(...) or larger patches, or use SecondDifference"
        )
