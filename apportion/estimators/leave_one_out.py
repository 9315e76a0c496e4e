"""What is lost when one player leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, Cost
from ._designs import without_one
from ._moments import PIECE


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Drop of the value when one player leaves and all others stay.

        score_i = v(all) - v(all without i)

    Exact, nothing is sampled. Misses players that stand in for each other. With patches this is
    occlusion, with channels or heads single ablation. n + 1 evaluations.
    """

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("zeiler2014",)
    own_draws: ClassVar[bool] = False

    def cost(self, n: int) -> Cost:
        """One evaluation per player and one of all."""
        return Cost(evaluations=n + 1)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        # the last row leaves nobody out; with the others it fills a batch
        parts = [
            game.value(without_one(n, which))
            for which in torch.arange(n + 1).split(max(PIECE // n, 1))
        ]
        values = torch.cat(parts)
        full = values[-1]
        drops = full.double() - values[:-1].double()
        return Attribution.of(
            game, drops.movedim(0, -1), full=full, error_note="exact: nothing is sampled"
        )
