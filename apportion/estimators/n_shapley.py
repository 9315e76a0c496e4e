"""Shapley interactions that add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, Cost
from ._indices import n_shapley
from ._moments import Until
from ._sets import Plan


@dataclass(frozen=True, kw_only=True)
class NShapley:
    """Shapley interactions of up to `order` players, made to add up.

        score_S = sum_{T with S, |T| <= order} B_(|T| - |S|) SII_T,   B the Bernoulli numbers

    SII is the Shapley interaction index: what a larger set holds is taken out of the smaller ones,
    from a pair half of it from either player. At order 1 the Shapley value; at order n every set
    keeps its own term, and v is their sum. Scores add up to v(all) - v(no player). Also called
    k-SII.

    Exact from all 2^n coalitions where `samples` allows it. Else a polynomial of that order is
    fitted to a paired sample, and the index of what it leaves is summed over the sample: exact
    where players interact at most in sets of `order`. The error is a jackknife over pairs.
    """

    order: int = 2  # players in the largest sets
    samples: int = 4096  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.RECOVERY, Axiom.EFFICIENCY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("bordt2023", "fumagalli2023", "witter2025")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._plan().admit()

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        return self._plan().cost(n)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        return self._plan()(game, rng)

    def _plan(self) -> Plan:
        return Plan("NShapley", n_shapley, self.order, self.samples, self.until)
