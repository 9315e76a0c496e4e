"""Gains of players who arrive one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..attribution import Attribution
from ..games.base import Game
from ..types import BadRequest
from ._moments import PIECE, Running, Until, ceiling_note, portions, reached


@dataclass(frozen=True, eq=False)
class Orderly:
    """A sample is a number of orders that depend on each other, such as an order and its
    reverse.
    """

    samples: int  # how many at most; they are independent
    each: int  # orders of a sample
    draw: Callable[[int], Tensor]  # so many samples: when each player arrives, (order, player)

    def credit(self, game: Game, until: Until | None, note: str = "") -> Attribution:
        """Mean gain of each player, its error from sample to sample, and both ends."""
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        running, stopped = Running(), False
        for samples in portions(self.samples, PIECE // (self.each * n * n), until):
            gains = on_arrival(game, self.draw(samples), none, full)
            running.add(gains.unflatten(0, (samples, self.each)).mean(1))
            stopped = reached(until, running)
            if stopped:
                break
        scores, error = running.result()
        told = ceiling_note(until, stopped, f"{self.samples * self.each} orders", error)
        return Attribution.of(
            game,
            scores,
            error=error,
            freedom=running.count - 1,
            none=none,
            full=full,
            error_note=""
            if error is not None
            else "one sample has no standard error; ask for more orders",
            notes=((note,) if note else ()) + told,
        )


def check_orders(orders: int, paired: bool, owner: str) -> None:
    """At least one, and whole pairs."""
    if orders < 1 + paired or (paired and orders % 2):
        raise BadRequest(
            f"{owner}(orders={orders}): at least {1 + paired}, and an even number where orders "
            f"come in pairs; write orders={max(orders + orders % 2, 2)}, or paired=False"
        )


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
