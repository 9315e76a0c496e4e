"""Shapley values of a surrogate: a Gaussian process over coalitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import Until, ceiling_note
from ._optimal import chosen
from ._options import counts, precision
from ._spectrum import Parts, Posterior, posterior, whole_table

MOST_SAMPLES = 4096  # the surrogate solves a system with a row per evaluation
FITTED = 512  # evaluations its variances are fitted on


@dataclass(frozen=True, kw_only=True)
class GaussianProcessShapley:
    """Shapley value of the game that is expected given the values asked.

        scores = Shapley( E[ v | values asked ] ),   v ~ constant + sum_W b_W prod_{i in W} (+-1)

    The terms of all sets W of one size share one variance, never larger for larger sets, found by
    restricted maximum likelihood: the share of the value's variation that players cause alone, in
    pairs, in threes, or without any structure. The expected game agrees with every value asked and
    its Shapley values are a closed form. Which coalitions are asked is chosen, before any value is
    known, so that the posterior variance of the scores is least. Needs far fewer evaluations than
    `KernelShap` where interactions fall with their order, and no more elsewhere. Exact from 2^n on;
    to five digits also where no more than three players interact, with more samples than there are
    sets of up to three.

    Not unbiased: the prior shrinks what it has not seen. `error` is the posterior standard
    deviation, or more where coalitions left out one by one are missed by more; the notes tell by
    how much. Takes samples^3 operations, so at most 4096 samples.
    """

    samples: int = 512  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.EFFICIENCY})
    cites: ClassVar[tuple[str, ...]] = (
        "shapley1953",
        "rasmussen2006",
        "chaloner1995",
        "zhou2019",
    )
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "GaussianProcessShapley", "samples")
        precision(self.until, "GaussianProcessShapley", "until")
        if self.samples > MOST_SAMPLES:
            raise BadRequest(
                f"GaussianProcessShapley(samples={self.samples}) would solve a system of that "
                f"size; ask for at most {MOST_SAMPLES}, or use KernelShap(samples={self.samples})"
            )

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less."""
        least = _least(n)
        if self.samples < least:
            hint = "" if least <= MOST_SAMPLES else ", too many here; use PermutationShapley"
            raise BadRequest(
                f"GaussianProcessShapley(samples={self.samples}) asks every one of {n} players "
                f"alone and missing; the minimum is {least}{hint}"
            )
        return Cost(evaluations=min(self.samples, 2**n))

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        rows = self.cost(n).evaluations
        coalitions = chosen(n, rows, rng)
        parts, values = Parts.of(n), torch.zeros(0)
        stopped = False
        found: list[Posterior] = []
        scores = error = torch.zeros(0)
        for rows_now in self._looks(n, rows):
            fresh = game.value(coalitions[len(values) : rows_now]).double()
            values = torch.cat([values, fresh]) if len(values) else fresh
            asked = coalitions[:rows_now]
            flat = values.reshape(rows_now, -1)
            if rows_now == 2**n:
                scores, error, found = whole_table(asked, flat), torch.zeros(()), []
                error = error.double().expand(scores.shape).clone()
                break
            found = [posterior(parts, asked, column, FITTED) for column in flat.T.contiguous()]
            scores = torch.stack([one.scores for one in found])
            error = torch.stack([one.error for one in found])
            stopped = self.until is not None and self.until(scores, error)
            if stopped:
                break
        none, full = values[_row(coalitions, False)], values[_row(coalitions, True)]
        rounding = (full - none).reshape(-1) - scores.sum(-1)
        shape = (*full.shape, n)
        exact = not found
        return Attribution.of(
            game,
            (scores + rounding[:, None] / n).reshape(shape),
            error=error.reshape(shape),
            none=none,
            full=full,
            notes=() if exact else (_told(found), *self._ceiling(stopped, error)),
        )

    def _ceiling(self, stopped: bool, error: Tensor) -> tuple[str, ...]:
        return ceiling_note(self.until, stopped, f"{self.samples} samples", error)

    def _looks(self, n: int, rows: int) -> list[int]:
        """After how many evaluations a fit is made."""
        if self.until is None:
            return [rows]
        looks = [min(rows, 4 * n + 2)]
        while looks[-1] < rows:
            looks.append(min(rows, looks[-1] + looks[-1] // 2))
        return looks


def _least(n: int) -> int:
    return min(2 * n + 2, 2**n)


def _row(coalitions: Tensor, full: bool) -> int:
    same = coalitions.all(-1) if full else ~coalitions.any(-1)
    return int(same.nonzero()[0])


def _told(found: list[Posterior]) -> str:
    """How well the surrogate predicts, for the output where it does worst."""
    worst = max(found, key=lambda one: one.held_out)
    parts = [f"{100 * float(share):.2g} %" for share in worst.orders]
    orders = ", ".join(f"sets of {k}: {share}" for k, share in enumerate(parts[:-1], 1))
    return (
        f"a surrogate that misses coalitions left out by {worst.held_out:.2g} of the values' "
        f"spread; variation by {orders}, without structure: {parts[-1]}"
    )
