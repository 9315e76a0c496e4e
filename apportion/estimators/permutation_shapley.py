"""Shapley values from random orders of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import arrivals
from ._gains import on_arrival
from ._moments import PIECE, Running, Until, ceiling_note, portions, reached
from ._options import counts, precision


@dataclass(frozen=True, kw_only=True)
class PermutationShapley:
    """Mean gain of each player over random orders of arrival.

        score_i = E_order[ v(players before i, and i) - v(players before i) ]

    Unbiased for the Shapley value. Scores add up to v(all) - v(no player) for any number of orders.
    With `paired`, two orders are already exact when players interact at most in pairs. n - 1
    evaluations per order, and the ends.
    """

    # how many orders are sampled (with `until`: at most); the error falls as 1/sqrt(orders)
    orders: int = 64
    paired: bool = True  # follow every order by its reverse: cancels all pairwise error
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.EFFICIENCY, Axiom.DUMMY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("shapley1953", "castro2009", "mitchell2022")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.orders, "PermutationShapley", "orders")
        precision(self.until, "PermutationShapley", "until")
        least = 2 if self.paired else 1
        if self.orders < least or (self.paired and self.orders % 2):
            raise BadRequest(
                f"PermutationShapley(orders={self.orders}): needs at least {least}"
                + (
                    ", and an even number because orders come in pairs (or paired=False)"
                    if self.paired
                    else ""
                )
            )

    def cost(self, n: int) -> Cost:
        """Both ends are shared by all orders."""
        return Cost(evaluations=self.orders * (n - 1) + 2)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n, block = game.players.n, 1 + self.paired
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        running, stopped = Running(), False
        for samples in portions(self.orders // block, PIECE // (block * n * n), self.until):
            arrival = arrivals(samples * block, n, paired=self.paired, rng=rng)
            gains = on_arrival(game, arrival, none, full)
            running.add(gains.unflatten(0, (samples, block)).mean(1))  # a pair is one sample
            stopped = reached(self.until, running)
            if stopped:
                break
        scores, error = running.result()
        notes = ceiling_note(self.until, stopped, f"{self.orders} orders", error)
        reason = (
            "" if error is not None else "one sample has no standard error; ask for more orders"
        )
        return Attribution.of(
            game,
            scores,
            error=error,
            freedom=running.count - 1,
            none=none,
            full=full,
            error_note=reason,
            notes=notes,
        )
