"""The linear model that best predicts the value of gates near the middle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._grow import grow, looks
from ._moments import Until, ceiling_note
from ._options import counts, number, precision
from ._regress import through_origin

MOST_PLAYERS = 4000
MIDDLE = 0.5
CUT = 4  # standard deviations from the middle to the end of a gate, at the least


@dataclass(frozen=True, kw_only=True)
class CLime:
    """Slope of each player in a linear fit of the value at gates drawn around 1/2.

        scores = argmin_w,b E_x [ v(1/2 + x) - b - sum_i w_i x_i ]^2,       x_i ~ N(0, sigma^2)

    Continuous LIME where gate 1/2 is the input: with the removal `Around(width)`, x is noise of
    standard deviation sigma * width added to it, and the score is width times the slope. By
    Stein's identity it estimates the mean gradient under that noise, SmoothGrad, from values
    alone. (Under a removal that blends, gate 1/2 is the input half faded.) Every x is asked with
    -x: exact where the value is quadratic in the gates. Errors are HC3 over these pairs.
    [agarwal2021]
    """

    samples: int = 1024  # evaluations (with `until`: at most)
    sigma: float = 0.1  # standard deviation of a gate; at most 1/8, or the ends of gates cut it
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "soft"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("agarwal2021", "han2022")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "CLime", "samples")
        number(self.sigma, "CLime", "sigma")
        precision(self.until, "CLime", "until")
        if not 0 < self.sigma <= MIDDLE / CUT:
            raise BadRequest(
                f"CLime(sigma={self.sigma}): gates reach from 0 to 1, so the noise around 1/2 has "
                f"a standard deviation up to {MIDDLE / CUT:g}. For more noise widen the box: "
                "Around(width) with sigma * width the standard deviation at the input."
            )

    def cost(self, n: int) -> Cost:
        """`samples` evaluations. Pairs leave an odd one unused."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"CLime solves an n x n system, too large for {n:,} players; coarsen them with "
                "players.merge(...), or use AveragedGradient with Jitter where there are gradients"
            )
        if self.samples < 2 * (n + 2):
            raise BadRequest(
                f"CLime(samples={self.samples}) cannot determine {n} slopes; the minimum is "
                f"{2 * (n + 2)}"
            )
        return Cost(evaluations=self.samples // 2 * 2)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n

        def draw(rows: int) -> tuple[Tensor, Tensor]:
            away = cut_normal(torch.rand(rows, n, generator=rng, dtype=torch.float64), self.sigma)
            values = game.value(torch.cat([MIDDLE + away, MIDDLE - away])).double()
            return away, (values[:rows] - values[rows:]) / 2

        found = grow(draw, through_origin, looks(n, self.samples // 2, self.until), self.until)
        if found is None:
            raise BadRequest(
                f"CLime(samples={self.samples}): the gates drawn cannot tell {n} players apart; "
                f"ask for more samples, at least {4 * n}"
            )
        return Attribution.of(
            game,
            found.scores,
            error=found.error,
            freedom=max(len(found.x) - n, 1),
            error_note="" if found.error is not None else "too few samples for errors",
            notes=ceiling_note(self.until, found.stopped, f"{self.samples} samples", found.error),
        )


def cut_normal(uniform: Tensor, sigma: float) -> Tensor:
    """Normal numbers of standard deviation sigma between -1/2 and 1/2, from uniform ones."""
    edge = math.erf(MIDDLE / sigma / math.sqrt(2))
    return (sigma * math.sqrt(2) * torch.erfinv(edge * (2 * uniform - 1))).clamp(-MIDDLE, MIDDLE)
