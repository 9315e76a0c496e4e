"""Sums over all 2^n coalitions of a game."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..games.base import Game
from ._designs import coalitions
from ._moments import PIECE


def gains_over_all(
    game: Game, weights: Float[Tensor, "size"]
) -> tuple[Float[Tensor, "*out player"], Tensor, Tensor]:
    """Sum over the coalitions S without player i of weights[|S|] (v(S and i) - v(S)), and both ends
    v(none) and v(all). 2^n evaluations, in pieces.
    """
    n = game.players.n
    # what v(S) counts for a player in S (a gain on the |S| - 1 others), and for one outside
    inside = torch.cat([weights.new_zeros(1), weights])
    outside = torch.cat([weights, weights.new_zeros(1)])
    total = none = full = torch.zeros(())
    step = max(PIECE // (8 * n), 1)  # the factors are float64
    for first in range(0, 2**n, step):
        present = coalitions(n, torch.arange(first, min(first + step, 2**n)))
        values = game.value(present)
        size = present.sum(1)
        factor = torch.where(present, inside[size][:, None], -outside[size][:, None])
        part = torch.einsum("r...,rp->...p", values.double(), factor)
        none, total = (values[0], part) if first == 0 else (none, total + part)
        full = values[-1]
    return total, none, full
