"""The polynomial in the gates that fits the values of coalitions and their complements best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ._moments import PIECE
from ._regress import inverse_of

DETERMINED = 1e-9  # share of a pair's residual that its own fit must leave for an error to be known


@dataclass(frozen=True, eq=False)
class Pairs:
    """Coalitions with their complements, what they are worth, and how much each pair counts."""

    side: Bool[Tensor, "pair player"]
    values: Float[Tensor, "pair side out"]  # of the coalition, of its complement
    weight: Float[Tensor, "pair"]


@dataclass(frozen=True, eq=False)
class Polynomial:
    """G(A) = none + sum of the terms of the sets inside A, exact with nobody and with all."""

    terms: Float[Tensor, "out set"]
    none: Float[Tensor, "out"]
    sets: Bool[Tensor, "set player"]
    inverse: Float[Tensor, "free free"]  # of the normal equations, the last term left out

    def residual(self, asked: Pairs, rows: Int[Tensor, "row"]) -> tuple[Tensor, Tensor | None]:
        """What the fit leaves of these pairs, (row, side, out), and what a fit without each pair
        would leave of it; None where a pair is fitted by itself alone.
        """
        x = held(asked.side[rows], self.sets)
        left = asked.values[rows] - self.none - torch.einsum("jsp,op->jso", x, self.terms)
        free = x[..., :-1] - x[..., -1:]
        own = torch.einsum("jsp,pq,jtq->jst", free, self.inverse, free)
        own = own * asked.weight[rows, None, None]
        share, ways = torch.linalg.eigh(torch.eye(2, dtype=own.dtype) - own)
        if len(rows) and float(share.min()) < DETERMINED:
            return left, None
        grown = torch.einsum("jst,jt,jut,juo->jso", ways, 1 / share, ways, left)
        return left, grown


def held(
    side: Bool[Tensor, "pair player"], sets: Bool[Tensor, "set player"]
) -> Float[Tensor, "pair side set"]:
    """1 where a coalition, or its complement, holds the whole set."""
    size = sets.sum(-1)
    inside = (side.double() @ sets.double().T).long()
    return torch.stack([inside == size, inside == 0], 1).double()


def fitted(
    asked: Pairs,
    sets: Bool[Tensor, "set player"],
    none: Float[Tensor, "out"],
    full: Float[Tensor, "out"],
) -> Polynomial | None:
    """Weighted least squares through both ends; None where the coalitions do not determine it."""
    count = len(sets)
    gram = torch.zeros(count - 1, count - 1, dtype=torch.float64)
    moment = torch.zeros(count - 1, len(none), dtype=torch.float64)
    total = full - none
    for rows in torch.arange(len(asked.side)).split(max(PIECE // (8 * count), 1)):
        x = held(asked.side[rows], sets)
        free = x[..., :-1] - x[..., -1:]  # the last set gets what the others leave of the total
        y = asked.values[rows] - none - x[..., -1:] * total
        gram += torch.einsum("jsp,j,jsq->pq", free, asked.weight[rows], free)
        moment += torch.einsum("jsp,j,jso->po", free, asked.weight[rows], y)
    solved = inverse_of(gram)
    if solved is None:
        return None
    terms = solved @ moment
    return Polynomial(torch.cat([terms, (total - terms.sum(0))[None]]).T, none, sets, solved)
