"""What one player adds alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, Cost
from ._moments import PIECE


@dataclass(frozen=True, kw_only=True)
class AddOneIn:
    """Rise of the value when one player joins nobody.

        score_i = v(only i) - v(none)

    Exact, nothing is sampled. Misses players that need each other, where `LeaveOneOut` misses those
    that stand in for each other. On components whose absence is a corrupted prompt this is
    denoising activation patching: what restores the answer alone [meng2022]. n + 1 evaluations.
    """

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("meng2022",)
    own_draws: ClassVar[bool] = False

    def cost(self, n: int) -> Cost:
        """One evaluation per player and one of nobody."""
        return Cost(evaluations=n + 1)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        none = game.value(torch.zeros(1, n, dtype=torch.bool))[0]
        parts = [
            game.value(torch.arange(n) == which[:, None])
            for which in torch.arange(n).split(max(PIECE // n, 1))
        ]
        rises = torch.cat(parts).double() - none.double()
        return Attribution.of(
            game, rises.movedim(0, -1), none=none, error_note="exact: nothing is sampled"
        )
