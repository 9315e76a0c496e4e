"""Shapley values from all coalitions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._enumerate import gains_over_all

MOST_PLAYERS = 20  # a million coalitions


@dataclass(frozen=True, kw_only=True)
class ExactShapley:
    """Shapley value: mean gain of each player over all orders of arrival, from all 2^n coalitions.

        score_i = sum_{S without i} |S|! (n - 1 - |S|)! / n! [ v(S and i) - v(S) ]

    The only scores that add up, give twins the same and a dummy nothing, and are linear in the
    game [shapley1953]. Exact, nothing is sampled. For up to 20 players.
    """

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(Axiom)
    cites: ClassVar[tuple[str, ...]] = ("shapley1953",)
    own_draws: ClassVar[bool] = False

    def cost(self, n: int) -> Cost:
        """Every coalition once."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"ExactShapley asks about all 2^n coalitions, too many for {n:,} players; the most "
                f"is {MOST_PLAYERS}. Use KernelShap or PermutationShapley, or coarsen the players "
                "with players.merge(...) or larger patches."
            )
        return Cost(evaluations=2**n)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        weights = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
        scores, none, full = gains_over_all(game, torch.tensor(weights, dtype=torch.float64))
        return Attribution.of(
            game, scores, none=none, full=full, error_note="exact: nothing is sampled"
        )
