"""The polynomial of who is present that fits all coalitions alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, Cost
from ._indices import faithful_banzhaf
from ._moments import Until
from ._sets import Plan


@dataclass(frozen=True, kw_only=True)
class FaithfulBanzhaf:
    """Faithful Banzhaf interaction index: the best polynomial fit over all coalitions alike.

        scores = argmin sum_A [ v(A) - b - sum_{S in A} score_S ]^2

    What LinearSurrogate(keep=1/2) estimates at order 1. Sets of `order` players get their Banzhaf
    interaction. The constant b is free, so nothing adds up.

    Exact from all 2^n coalitions where `samples` allows it. Else a polynomial of that order is
    fitted to a paired sample, and the index of what it leaves is summed over the sample: exact
    where players interact at most in sets of `order`. The error is a jackknife over pairs.
    """

    order: int = 2  # players in the largest sets
    samples: int = 4096  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.RECOVERY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("tsai2023", "witter2025")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._plan().admit()

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        return self._plan().cost(n)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        return self._plan()(game, rng)

    def _plan(self) -> Plan:
        return Plan("FaithfulBanzhaf", faithful_banzhaf, self.order, self.samples, self.until)
