"""Gains of players who arrive one after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..games.base import Game


def on_arrival(
    game: Game, arrival: Tensor, none: Tensor, full: Tensor
) -> Float[Tensor, "order *out player"]:
    """What each player added when it arrived; `arrival` (order, player) says when that was."""
    orders, n = arrival.shape
    present = (
        arrival[:, None, :] < torch.arange(1, n)[:, None]
    )  # order size player, without both ends
    inner = game.value(present.flatten(0, 1)).unflatten(0, (orders, n - 1))
    first, last = (end.expand(orders, 1, *end.shape) for end in (none, full))
    steps = torch.cat([first, inner, last], dim=1).double().diff(dim=1)  # order size *out
    return steps[torch.arange(orders)[:, None], arrival].movedim(1, -1)
