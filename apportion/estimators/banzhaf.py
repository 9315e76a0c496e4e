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
from ._moments import FIRST, Until, ceiling_note
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
        sides, odd = torch.zeros(0, n, dtype=torch.bool), torch.zeros(0)
        fit: tuple[Tensor, Tensor | None] | None = None
        scores, error, stopped = torch.zeros(0), None, False
        draw = pair_sides(n, self.samples // 2, rng)
        for pairs in self._looks(n):
            fresh = draw(pairs - len(sides))
            values = game.value(torch.cat([fresh, ~fresh])).double()
            rise = values[: len(fresh)] - values[len(fresh) :]
            sides, odd = torch.cat([sides, fresh]), rise if not len(odd) else torch.cat([odd, rise])
            fit = self._fit(sides, odd.reshape(len(sides), -1))
            if fit is None:  # these coalitions do not determine the scores; the next ones may
                continue
            scores, error = fit
            stopped = self.until is not None and error is not None and self.until(scores, error)
            if stopped:
                break
        if fit is None:
            raise BadRequest(
                f"Banzhaf(samples={self.samples}): the coalitions drawn cannot tell {n} players "
                f"apart; ask for more samples, at least {8 * n}"
            )
        shape, exact = (*odd.shape[1:], n), len(sides) == 2 ** (n - 1)
        return Attribution.of(
            game,
            scores.reshape(shape),
            error=None if error is None else error.reshape(shape),
            freedom=max(len(sides) - n, 1),
            error_note="" if error is not None else "too few samples for errors; ask for more",
            notes=ceiling_note(self.until, stopped or exact, f"{self.samples} samples", error),
        )

    def _fit(self, sides: Tensor, odd: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Least squares on the pairs; drawn without replacement, so that nothing is left to chance
        once they are all there.
        """
        fit = through_origin(2.0 * sides.double() - 1, odd)
        every = 2 ** (sides.shape[1] - 1)
        if fit is None or fit[1] is None:
            exact = fit is not None and len(sides) == every
            return (fit[0], torch.zeros_like(fit[0])) if exact and fit is not None else fit
        return fit[0], fit[1] * (1 - min(len(sides) / every, 1)) ** 0.5

    def _looks(self, n: int) -> list[int]:
        """Numbers of pairs at which the fit is made."""
        most = min(self.samples // 2, 2 ** (n - 1))
        if self.until is None:
            return [most]
        looks = [min(most, 2 * n + FIRST)]
        while looks[-1] < most:
            looks.append(min(most, looks[-1] + looks[-1] // 2))
        return looks
