"""How fast the value changes with each player's gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._options import number


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Derivative of the value by the player's gate, everyone else present.

        score_i = d v / d g_i  at  g = (at, ..., at)

    With removal zeros this is gradient x input, with step(1.0) the saliency map, between two
    prompts attribution patching; under a rule table it is that table's relevance. On a multilinear
    game it is leave-one-out at 1 and the Banzhaf value at 1/2. One gradient.
    """

    at: float = 1.0  # the gate level where the derivative is taken

    needs: ClassVar[Need] = "gradient"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("simonyan2014", "shrikumar2017")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number(self.at, "Gradient", "at")
        if not self.at >= 0:
            raise BadRequest(f"Gradient(at={self.at}): a gate level is at least 0")

    def cost(self, n: int) -> Cost:
        """One gradient."""
        return Cost(gradients=1)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        values, grads = game.grad(torch.full((1, game.players.n), self.at, dtype=torch.float64))
        full = values[0] if self.at == 1 else None
        return Attribution.of(
            game, grads[0], full=full, error_note="a derivative at one point: nothing is sampled"
        )
