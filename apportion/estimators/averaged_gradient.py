"""Mean gradient over noise, or over backgrounds and the way from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE, Running, Until, ceiling_note, portions, reached
from ._options import counts, number, precision

UNLIMITED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class AveragedGradient:
    """Mean derivative by the player's gate over draws of the game, at gates between `start` and 1.

        score_i = E_draw,a [ d v / d g_i  at  g = (a, ..., a) ],   a ~ U(start, 1)

    start=1 on a game with `Jitter` is SmoothGrad (x input, or plain with step(1.0)); start=0 on a
    game with rows(background) is expected gradients, whose sum tends to v(x) - E v(background).
    """

    samples: int = 200  # gradients (with `until`: at most); each has its own draw and gate level
    # lowest gate level: 1 = only at the input, 0 = all the way from the reference
    start: float = 1.0
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "gradient"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("smilkov2017", "erion2021")
    own_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        counts(self.samples, "AveragedGradient", "samples")
        number(self.start, "AveragedGradient", "start")
        precision(self.until, "AveragedGradient", "until")
        if self.samples < 1 or not 0 <= self.start <= 1:
            raise BadRequest(f"{self}: at least one sample, and start lies between 0 and 1")

    def cost(self, n: int) -> Cost:
        """One gradient per sample."""
        return Cost(gradients=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        if game.draws == 1 and self.start == 1:
            raise BadRequest(
                "AveragedGradient(start=1) has nothing to average: the game has one draw. Wrap its "
                "removal in Jitter(removal, sigma) for SmoothGrad, or set start=0 and use "
                "rows(background) for expected gradients."
            )
        n, running, stopped = game.players.n, Running(), False
        for count in portions(
            self.samples, PIECE // (8 * n), self.until
        ):  # gates and gradients are float64
            draw = torch.randint(
                UNLIMITED if game.draws is None else game.draws, (count,), generator=rng
            )
            level = self.start + (1 - self.start) * torch.rand(
                count, 1, generator=rng, dtype=torch.float64
            )
            _, grads = game.grad(level.expand(count, n), draw)
            running.add(grads)
            stopped = reached(self.until, running)
            if stopped:
                break
        scores, error = running.result()
        notes = ceiling_note(self.until, stopped, f"{self.samples} samples", error)
        reason = "" if error is not None else "one sample has no standard error; ask for more"
        return Attribution.of(
            game, scores, error=error, freedom=running.count - 1, error_note=reason, notes=notes
        )
