"""The linear model that best predicts the value of coalitions near the full one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from jaxtyping import Float
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import bernoulli
from ._grow import Fit, grow, looks
from ._moments import Until, ceiling_note
from ._options import choice, counts, number, precision
from ._regress import ordinary, ridge

MOST_PLAYERS = 4000


class Distance(Enum):
    """How far a coalition of k of n players is from all of them."""

    COSINE = "cosine"  # 1 - sqrt(k / n): the angle between the masks
    EUCLIDEAN = "euclidean"  # sqrt(n - k): the length of their difference

    def __repr__(self) -> str:  # as it is written in code
        return f"Distance.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Lime:
    """Slope of each player in a linear fit of the value that counts coalitions near the full one
    most.

        scores = argmin_w,b E_S k(S) [ v(S) - b - sum_{i in S} w_i ]^2 + penalty sum_i w_i^2,
        k(S) = exp( -distance(S, all)^2 / width^2 ),    S ~ each player present with probability 1/2

    The expectation is the one weighted by k. A wide kernel gives `LinearSurrogate(keep=1/2)`, a
    narrow one tends to what `LeaveOneOut` asks and leaves few samples in effect (a note tells).
    Distances are between masks, not inputs. Errors are HC3; with a penalty there are none.
    [ribeiro2016]
    """

    samples: int = 1024  # evaluations (with `until`: at most)
    width: float = 0.25  # of the kernel, in units of the distance
    distance: Distance = Distance.COSINE  # between a coalition and all players
    penalty: float = 0.0  # weight of sum w^2 in the fit (ridge)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("ribeiro2016",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Lime", "samples")
        number(self.width, "Lime", "width")
        number(self.penalty, "Lime", "penalty")
        choice(self.distance, Distance, "Lime", "distance")
        precision(self.until, "Lime", "until")
        if not self.width > 0 or not 0 <= self.penalty < float("inf"):
            raise BadRequest(
                f"{self}: the width is positive and the penalty not negative; write width=0.25"
            )

    def cost(self, n: int) -> Cost:
        """`samples` evaluations; the ends are not asked."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"Lime solves an n x n system, too large for {n:,} players; coarsen them with "
                "players.merge(...) or larger patches"
            )
        if self.penalty == 0 and self.samples < n + 2:
            raise BadRequest(
                f"Lime(samples={self.samples}) cannot determine {n} slopes; the minimum is "
                f"{n + 2} (or penalty > 0)"
            )
        return Cost(evaluations=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n

        def draw(rows: int) -> tuple[Tensor, Tensor]:
            present = bernoulli(rows, n, 0.5, rng)
            return present, game.value(present)

        found = grow(draw, self._fit, looks(n, self.samples, self.until), self.until)
        if found is None:
            raise BadRequest(
                f"Lime(samples={self.samples}): the coalitions drawn cannot tell {n} players "
                f"apart; ask for more samples, at least {4 * n}, a larger width, or penalty > 0"
            )
        weights = nearness(found.x, self.distance, self.width)
        effective = float(weights.sum() ** 2 / weights.square().sum())
        notes = ceiling_note(self.until, found.stopped, f"{self.samples} samples", found.error)
        if effective < 2 * (n + 2):
            notes += (
                f"the kernel leaves {effective:.0f} of {len(found.x)} samples in effect for {n} "
                "slopes; ask for a larger width or more samples",
            )
        return Attribution.of(
            game,
            found.scores,
            error=found.error,
            freedom=max(int(effective) - n - 1, 1),
            error_note=self._reason(found.error),
            notes=notes,
        )

    def _fit(self, present: Tensor, values: Tensor) -> Fit | None:
        weights = nearness(present, self.distance, self.width)
        if self.penalty > 0:
            return ridge(present.double(), values, self.penalty, weights), None
        return ordinary(present.double(), values, weights)

    def _reason(self, error: Tensor | None) -> str:
        if error is not None:
            return ""
        shrunk = "a penalised fit shrinks: its standard error is not known"
        return shrunk if self.penalty else "too few samples for errors; ask for more"


def nearness(present: Tensor, distance: Distance, width: float) -> Float[Tensor, "row"]:
    """Kernel weight of each coalition, scaled so that the largest is 1 (only ratios matter)."""
    size, n = present.sum(1).double(), present.shape[1]
    away = 1 - (size / n).sqrt() if distance is Distance.COSINE else (n - size).sqrt()
    log = -((away / width) ** 2)
    return (log - log.max()).exp()
