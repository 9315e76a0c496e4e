"""Shapley values by a proposal that sampled coalitions correct."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need, require
from ..types import Axiom, BadRequest, Cost
from ._control import Asked, Proposed, corrected, folded
from ._designs import KernelDesign, Sizes
from ._grow import looks
from ._moments import Until, ceiling_note
from ._options import choice, counts, precision
from ._regress import shapley_from_pairs
from ._spectrum import FLOOR, Parts, Surrogate, additive

MOST_SAMPLES = 4096  # the surrogate solves systems with a row per evaluation
FITTED = 256  # evaluations its variances are fitted on, in each fold


class Proposal(Enum):
    """A game with known Shapley values that resembles the one that is asked."""

    SURROGATE = "surrogate"  # a Gaussian process, as GaussianProcessShapley fits it
    LINEAR = "linear"  # the additive game of the kernel SHAP fit [witter2025]
    GRADIENT = "gradient"  # slopes of the value with all gates at 1/2; one gradient, no fit
    NONE = "none"  # nothing: complementary contributions by size of coalition [zhang2023]

    def __repr__(self) -> str:  # as it is written in code
        return f"Proposal.{self.name}"


@dataclass(frozen=True, kw_only=True)
class ControlVariateShapley:
    """Shapley value of a proposal, plus what sampled coalitions say it misses.

        scores = Shapley(m) + estimate of Shapley(v - m),   m proposed from other coalitions

    Unbiased whatever the proposal, with standard errors that follow from sampling alone; a good
    proposal makes them small. The sample is split in folds: each corrects the proposal that was
    fitted without it. The estimate is stratified by the size of coalitions, drawn without
    replacement with their complements: every player alone, and the other sizes as often as each
    other. Scores add up to v(all) - v(no player) and are exact from samples >= 2^n on.
    [goldwasser2023]
    """

    samples: int = 1024  # evaluations in all, both ends included (with `until`: at most)
    # what is corrected; SURROGATE takes 5 samples^3 steps for each output of the value, and again
    # at each look with `until`
    proposal: Proposal = Proposal.SURROGATE
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.EFFICIENCY})
    cites: ClassVar[tuple[str, ...]] = (
        "shapley1953", "goldwasser2023", "witter2025", "zhang2023", "rasmussen2006", "zhou2019",
    )  # fmt: skip
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "ControlVariateShapley", "samples")
        precision(self.until, "ControlVariateShapley", "until")
        choice(self.proposal, Proposal, "ControlVariateShapley", "proposal")
        if self.proposal is Proposal.SURROGATE and self.samples > MOST_SAMPLES:
            raise BadRequest(
                f"ControlVariateShapley(samples={self.samples}) would solve systems of that size; "
                f"ask for at most {MOST_SAMPLES}, or write proposal=ap.Proposal.LINEAR"
            )

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        least = _least(n)
        if self.samples < least:
            raise BadRequest(
                f"ControlVariateShapley(samples={self.samples}) asks {n} players alone and two "
                f"pairs of coalitions of every other size; the minimum is {least}"
            )
        slopes = self.proposal is Proposal.GRADIENT and n > 1
        return Cost(evaluations=2 + 2 * self._pairs(n), gradients=int(slopes))

    def _pairs(self, n: int) -> int:
        most = (self.samples - 2) // 2
        return min(most, 2 ** (n - 1) - 1)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        both = game.value(ends)
        if n == 1:
            scores = (both[1].double() - both[0].double())[..., None]
            error = torch.zeros_like(scores)
            return Attribution.of(game, scores, error=error, none=both[0], full=both[1])
        asked = _nothing(both.double().reshape(2, -1), n)
        design = KernelDesign(n, rng, Sizes.LEVERAGE, least=2)
        given = self._given(game, n)
        scores = error = torch.zeros(0)
        stopped, freedom = False, 1
        for pairs in looks(n, self._pairs(n), self.until):
            asked = _more(asked, design, pairs, game)
            scores, error, freedom = corrected(
                asked, folded(asked, rng), lambda x: self._propose(x, given, rng)
            )
            stopped = self.until is not None and self.until(scores, error)
            if stopped:
                break
        exact = len(asked.side) == design.pairs
        shape = (*both.shape[1:], n)
        return Attribution.of(
            game,
            scores.reshape(shape),
            error=error.reshape(shape),
            freedom=freedom,
            none=both[0],
            full=both[1],
            notes=ceiling_note(self.until, stopped or exact, f"{self.samples} samples", error),
        )

    def _given(self, game: Game, n: int) -> Tensor | None:
        """Slopes (out, player) in the middle, for a proposal by gradient."""
        if self.proposal is not Proposal.GRADIENT:
            return None
        require(game, "gradient", for_="ControlVariateShapley(proposal=Proposal.GRADIENT)")
        _, slopes = game.grad(torch.full((1, n), 0.5, dtype=torch.float64))
        return slopes[0].double().reshape(-1, n)

    def _propose(self, asked: Asked, given: Tensor | None, rng: Generator) -> Proposed:
        out, n = asked.ends.shape[1], asked.side.shape[1]
        every = len(asked.side) == sum(asked.pairs.values())  # nothing is left to propose
        if self.proposal is Proposal.NONE or every or not len(asked.side):
            return _linear(torch.zeros(out, n, dtype=torch.float64))
        if given is not None:
            return _linear(given)
        if self.proposal is Proposal.LINEAR:
            return _linear(self._fit(asked))
        return _surrogate(asked, rng)

    def _fit(self, asked: Asked) -> Tensor:
        """Slopes of kernel SHAP."""
        size = asked.stratum.double()
        share = torch.where(2 * size == asked.side.shape[1], 0.5, 1.0) / size
        share /= (asked.side.shape[1] - size) * asked.stratum.bincount()[asked.stratum]
        found = shapley_from_pairs(2.0 * asked.side.double() - 1, asked.odd, share, asked.total)
        if found is None:
            raise BadRequest(
                f"ControlVariateShapley(samples={self.samples}): the coalitions drawn cannot tell "
                f"{asked.side.shape[1]} players apart; ask for more samples, or write "
                "proposal=ap.Proposal.NONE"
            )
        return found[0]


def _least(n: int) -> int:
    """The ends, every player alone, two pairs of each other size."""
    return min(2 + 2 * (n + 2 * max(n // 2 - 1, 0)), 2**n)


def _nothing(ends: Tensor, n: int) -> Asked:
    side, values = torch.zeros(0, n, dtype=torch.bool), ends.new_zeros(0, 2, ends.shape[1])
    return Asked(side, torch.zeros(0, dtype=torch.long), {}, values, ends)


def _more(asked: Asked, design: KernelDesign, pairs: int, game: Game) -> Asked:
    """Further ones, so that there are as many pairs as that."""
    fresh = design.grow(pairs)
    values = game.value(torch.stack([fresh, ~fresh], 1).flatten(0, 1)).double()
    values = values.reshape(len(fresh), 2, -1)
    side, values = torch.cat([asked.side, fresh]), torch.cat([asked.values, values])
    stratum = torch.tensor(design.size_class, dtype=torch.long)
    return Asked(side, stratum, design.available, values, asked.ends)


def _linear(slopes: Tensor) -> Proposed:
    """The additive game with these slopes (out, player)."""
    return Proposed(slopes, lambda side: (2.0 * side.double() - 1) @ slopes.T)


def _surrogate(asked: Asked, rng: Generator) -> Proposed:
    """The game that is expected given what was asked, output by output. In random order: its
    variances are fitted on the first.
    """
    order = torch.randperm(len(asked.side), generator=rng)
    side, n = asked.side[order], asked.side.shape[1]
    both = torch.stack([side, ~side], 1).flatten(0, 1)
    ends = torch.stack([torch.zeros(n), torch.ones(n)]).bool()
    rows, values = (
        torch.cat([ends, both]),
        torch.cat([asked.ends, asked.values[order].flatten(0, 1)]),
    )
    found = [_expected(rows, column) for column in values.T.contiguous()]
    return Proposed(
        torch.cat([one.scores for one in found]),
        lambda side: torch.cat([one.odd(side) for one in found], 1),
        max(one.rounding for one in found),
    )


def _expected(rows: Tensor, values: Tensor) -> Proposed:
    """For one output; additive games leave nothing to expect."""
    slopes = additive(rows, values)
    if slopes is not None:
        return _linear(slopes[None])
    fit = Surrogate.fitted(Parts.of(rows.shape[1]), rows, values, FITTED)
    rounding = fit.unit * (FLOOR * float(fit.values.var()) / rows.shape[1]) ** 0.5
    return Proposed(fit.scores()[None], lambda side: fit.odd(side)[:, None], rounding)
