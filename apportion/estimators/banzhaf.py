"""Banzhaf values: what a player adds to a coalition drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import pair_sides
from ._grow import Fit, grow, looks
from ._moments import Until, ceiling_note
from ._options import counts, precision
from ._regress import through_origin

MOST_PLAYERS = 4000  # the fit solves an n x n system


@dataclass(frozen=True, kw_only=True)
class Banzhaf:
    """Mean gain of each player over coalitions of the others, all equally likely.

        score_i = 2^(1-n) sum_{S without i} [ v(S and i) - v(S) ]

    Robust to noise in the value [wang2023]; the scores do not add up to v(all) - v(none)
    [dubey1979]. From samples >= 2^n on every coalition is asked and the answer is exact. Below
    that it is fitted to coalitions drawn with their complements,

        scores = argmin_w sum_S [ v(S) - v(complement of S) - sum_i +-w_i ]^2    (+ where i is in S)

    exact where players interact at most in pairs, elsewhere with a bias that falls as 1/samples.
    Every value serves every player, as in the maximum-sample-reuse estimator, without the noise
    that the other players' terms put into its means.
    """

    samples: int = 2048  # evaluations (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("dubey1979", "wang2023")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Banzhaf", "samples")
        precision(self.until, "Banzhaf", "until")

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"Banzhaf solves an n x n system, too large for {n:,} players; coarsen them with "
                "players.merge(...) or larger patches"
            )
        least = min(2 * (n + 2), 2**n)
        if self.samples < least:
            raise BadRequest(
                f"Banzhaf(samples={self.samples}) cannot determine {n} scores; the minimum is "
                f"{least}, and about {8 * n} for errors that can be relied on"
            )
        return Cost(evaluations=2 * min(self.samples // 2, 2 ** (n - 1)))

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        most = min(self.samples // 2, 2 ** (n - 1))
        sides = pair_sides(n, most, rng)

        def draw(rows: int) -> tuple[Tensor, Tensor]:
            side = sides(rows)
            values = game.value(torch.cat([side, ~side])).double()
            return 2.0 * side.double() - 1, values[:rows] - values[rows:]

        found = grow(draw, _fit, looks(n, most, self.until), self.until)
        if found is None:
            raise BadRequest(
                f"Banzhaf(samples={self.samples}): the coalitions drawn cannot tell {n} players "
                f"apart; ask for more samples, at least {8 * n}"
            )
        enough = found.stopped or len(found.x) == 2 ** (n - 1)
        return Attribution.of(
            game,
            found.scores,
            error=found.error,
            freedom=max(len(found.x) - n, 1),
            error_note="" if found.error is not None else "too few samples for errors",
            notes=ceiling_note(self.until, enough, f"{self.samples} samples", found.error),
        )


def _fit(signs: Tensor, odd: Tensor) -> Fit | None:
    """Least squares on the pairs; drawn without replacement, so that nothing is left to chance
    once they are all there.
    """
    fit = through_origin(signs, odd)
    if fit is None:
        return None
    scores, error = fit
    left = 1 - min(len(signs) / 2 ** (signs.shape[1] - 1), 1)
    if left == 0:
        return scores, torch.zeros_like(scores)
    return scores, None if error is None else error * left**0.5
