"""The linear model that best predicts the value of random coalitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import bernoulli
from ._grow import Fit, grow, looks
from ._moments import Until, ceiling_note
from ._options import counts, number, precision
from ._regress import ordinary, ridge

MOST_PLAYERS = 4000


@dataclass(frozen=True, kw_only=True)
class LinearSurrogate:
    """Slope of each player in the least-squares fit of the value on who is present.

        scores = argmin_w,b E_S [ v(S) - b - sum_{i in S} w_i ]^2,   S ~ each player present with
        probability `keep`

    Estimates E[ v(S and i) - v(S without i) ], the Banzhaf value where keep = 1/2. The same fit is
    called datamodel on training rows, COAR on components, ContextCite on sources. Errors are HC3;
    with `l1` or `l2` there are none.
    """

    samples: int = 1024  # evaluations (with `until`: at most)
    keep: float = 0.5  # how likely each player is present
    # weight of sum |w| in the fit (Lasso, mean squared error / 2 + l1 * sum |w|): few non-zero
    # scores
    l1: float = 0.0
    # weight of sum w^2 in the fit (ridge, mean squared error + l2 * sum w^2): steadier where
    # samples are few
    l2: float = 0.0
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("ribeiro2016", "ilyas2022", "cohenwang2024")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "LinearSurrogate", "samples")
        number(self.keep, "LinearSurrogate", "keep")
        number(self.l1, "LinearSurrogate", "l1")
        number(self.l2, "LinearSurrogate", "l2")
        precision(self.until, "LinearSurrogate", "until")
        if not 0 < self.keep < 1 or self.l1 < 0 or self.l2 < 0:
            raise BadRequest(f"{self}: keep lies between 0 and 1, l1 and l2 are not negative")
        if self.l1 > 0 and self.l2 > 0:
            raise BadRequest(f"{self}: choose l1 (few scores) or l2 (small scores), not both")

    def cost(self, n: int) -> Cost:
        """`samples` evaluations; the ends are not asked."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"LinearSurrogate solves an n x n system, too large for {n:,} players; coarsen "
                "them with players.merge(...)"
            )
        if self.l1 == self.l2 == 0 and self.samples < n + 2:
            raise BadRequest(
                f"LinearSurrogate(samples={self.samples}) cannot determine {n} slopes; the minimum "
                f"is {n + 2} (or l1 > 0, or l2 > 0)"
            )
        return Cost(evaluations=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n

        def draw(rows: int) -> tuple[Tensor, Tensor]:
            present = bernoulli(rows, n, self.keep, rng)
            return present, game.value(present)

        found = grow(draw, self._fit, looks(n, self.samples, self.until), self.until)
        if found is None:
            raise BadRequest(
                f"LinearSurrogate(samples={self.samples}): the coalitions drawn cannot tell {n} "
                f"players apart; ask for more samples, at least {4 * n}, or l1 > 0"
            )
        return Attribution.of(
            game,
            found.scores,
            error=found.error,
            freedom=max(len(found.x) - n - 1, 1),
            error_note=self._reason(found.error),
            notes=ceiling_note(self.until, found.stopped, f"{self.samples} samples", found.error),
        )

    def _reason(self, error: Tensor | None) -> str:
        if error is not None:
            return ""
        shrunk = "a penalised fit shrinks: its standard error is not known"
        return shrunk if self.l1 or self.l2 else "too few samples for errors; ask for more"

    def _fit(self, gates: Tensor, values: Tensor) -> Fit | None:
        if self.l1 > 0:
            return _lasso(gates, values, self.l1), None
        if self.l2 > 0:
            return ridge(gates.double(), values, self.l2), None
        return ordinary(gates.double(), values)


def _lasso(gates: Tensor, values: Tensor, penalty: float) -> Tensor:
    try:
        from sklearn.linear_model import Lasso
    except ImportError as missing:
        raise BadRequest(
            "LinearSurrogate(l1=...) needs scikit-learn: pip install 'apportion[zoo]'"
        ) from missing
    x = gates.double().numpy()
    # it goes through the slopes in order, but without random_state it reads numpy's global one
    slopes = [
        Lasso(alpha=penalty, max_iter=10_000, random_state=0).fit(x, column.numpy()).coef_
        for column in values.T
    ]
    return torch.stack([torch.as_tensor(s) for s in slopes])
