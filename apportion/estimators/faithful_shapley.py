"""The polynomial of who is present that predicts coalitions best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, Cost
from ._indices import faithful_shapley
from ._moments import Until
from ._sets import Plan


@dataclass(frozen=True, kw_only=True)
class FaithfulShapley:
    """Faithful Shapley interaction index: the best polynomial fit, as KernelShap is the best
    linear one.

        scores = argmin sum_A k(A) [ v(A) - v(none) - sum_{S in A} score_S ]^2
        with sum_S score_S = v(all) - v(none)  and  k(A) = (n - 1) / ( C(n,a) a (n - a) )

    Scores are what to read a game from: v(A) is close to v(none) plus the scores of the sets inside
    A. They add up to v(all) - v(no player).

    Exact from all 2^n coalitions where `samples` allows it. Else the fit is made on a paired
    sample: exact where players interact at most in sets of `order`. The error is a jackknife over
    pairs.
    """

    order: int = 2  # players in the largest sets
    samples: int = 4096  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.RECOVERY, Axiom.EFFICIENCY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("tsai2023",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._plan().admit()

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        return self._plan().cost(n)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        return self._plan()(game, rng)

    def _plan(self) -> Plan:
        return Plan("FaithfulShapley", faithful_shapley, self.order, self.samples, self.until)
