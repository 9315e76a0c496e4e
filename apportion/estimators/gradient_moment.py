"""How much a player's gradient varies, or how large its square is, over noise or the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE, Running, Until, ceiling_note, portions, reached
from ._options import choice, counts, number, precision
from ._spread import FEWEST, Spread

UNLIMITED = 2**31 - 1


class Moment(Enum):
    """What of the gradient's distribution is the score."""

    VARIANCE = "variance"  # VarGrad: unbiased, about the mean
    SQUARE = "square"  # SmoothGrad-squared: mean square

    def __repr__(self) -> str:  # as it is written in code
        return f"Moment.{self.name}"


@dataclass(frozen=True, kw_only=True)
class GradientMoment:
    """Variance or mean square of the player's gate gradient over draws of the game.

        score_i = Var [ d v / d g_i ]   or   E [ (d v / d g_i)^2 ]   at  g = (a, ..., a)

    with a ~ U(start, 1). On a game with `Jitter` and step(1.0) these are VarGrad [adebayo2018b] and
    SmoothGrad-squared [hooker2019]; square = variance + (averaged gradient)^2. Scores have no sign
    and the value's unit squared: they say how strongly and how unsteadily a player acts, not which
    way, and add up to nothing. One gradient per sample.
    """

    moment: Moment = Moment.VARIANCE  # about the mean, or about 0
    samples: int = 200  # gradients (with `until`: at most); each has its own draw and gate level
    # lowest gate level: 1 = only at the input, 0 = all the way from the reference
    start: float = 1.0
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "gradient"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.DUMMY, Axiom.SYMMETRY})
    cites: ClassVar[tuple[str, ...]] = ("adebayo2018b", "hooker2019", "smilkov2017")
    own_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice(self.moment, Moment, "GradientMoment", "moment")
        counts(self.samples, "GradientMoment", "samples")
        number(self.start, "GradientMoment", "start")
        precision(self.until, "GradientMoment", "until")
        if self.samples < 2 or not 0 <= self.start <= 1:
            raise BadRequest(f"{self}: at least two samples, and start lies between 0 and 1")

    def cost(self, n: int) -> Cost:
        """One gradient per sample."""
        return Cost(gradients=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        if game.draws == 1 and self.start == 1:
            raise BadRequest(
                "GradientMoment(start=1) sees one gradient again and again: the game has one draw. "
                "Wrap its removal in Jitter(removal, sigma) for VarGrad, or set start=0."
            )
        about_mean = self.moment is Moment.VARIANCE
        n, stopped = game.players.n, False
        pile: Spread | Running = Spread() if about_mean else Running()
        for count in portions(self.samples, PIECE // (8 * n), self.until):
            top = UNLIMITED if game.draws is None else game.draws
            draw = torch.randint(top, (count,), generator=rng)
            share = torch.rand(count, 1, generator=rng, dtype=torch.float64)
            level = self.start + (1 - self.start) * share
            _, grads = game.grad(level.expand(count, n), draw)
            pile.add(grads if about_mean else grads.double() ** 2)
            stopped = reached(self.until, pile)
            if stopped:
                break
        scores, error = pile.result()
        reason = (
            ""
            if error is not None
            else f"{self.samples} samples do not tell how sure a variance is; ask for {FEWEST}"
        )
        return Attribution.of(
            game,
            scores,
            error=error,
            freedom=pile.count - 1,
            error_note=reason,
            notes=ceiling_note(self.until, stopped, f"{self.samples} samples", error),
            unit=f"{game.describe().unit}²",
        )
