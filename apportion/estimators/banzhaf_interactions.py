"""Interactions of players inside each set, every coalition of the others counting alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, Cost
from ._indices import banzhaf_interaction
from ._moments import Until
from ._sets import Plan


@dataclass(frozen=True, kw_only=True)
class BanzhafInteractions:
    """Banzhaf interaction index of every set of up to `order` players.

        score_S = mean_{A without S}  sum_{W in S} (-1)^(s - w) v(A and W)

    Every coalition of the others counts alike, most of them of about half the players. Single
    players get their Banzhaf value. Nothing adds up.

    Exact from all 2^n coalitions where `samples` allows it. Else a polynomial of that order is
    fitted to a paired sample, and the index of what it leaves is summed over the sample: exact
    where players interact at most in sets of `order`. The error is a jackknife over pairs.
    """

    order: int = 2  # players in the largest sets
    samples: int = 4096  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("grabisch1999", "fumagalli2023", "witter2025")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._plan().admit()

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        return self._plan().cost(n)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        return self._plan()(game, rng)

    def _plan(self) -> Plan:
        return Plan(
            "BanzhafInteractions", banzhaf_interaction, self.order, self.samples, self.until
        )
