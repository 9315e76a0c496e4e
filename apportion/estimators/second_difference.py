"""What two players do together that they do not do apart, at one place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE
from ._sets import how_many


class Among(Enum):
    """Who else is there while two players come and go."""

    ALL = "everybody"  # two are left out
    NONE = "nobody"  # two are added


@dataclass(frozen=True, kw_only=True)
class SecondDifference:
    """Interaction of two players where all others stay as they are.

        score_ij = v(B, i, j) - v(B, i) - v(B, j) + v(B)

    with B everybody else (`Among.ALL`: leave two out) or nobody (`Among.NONE`: add two in). Exact
    and without sampling, but it looks at one place only: where three players stand in for each
    other, leaving out two of them changes nothing. Averages over B are the Shapley and Banzhaf
    interactions. 1 + n + n (n - 1) / 2 evaluations.
    """

    among: Among = Among.ALL  # who else is present

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.RECOVERY, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("grabisch1999", "tsang2020")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.among, Among):
            raise BadRequest(
                f"SecondDifference(among={self.among!r}): say who else is present, among="
                "ap.Among.ALL or among=ap.Among.NONE"
            )

    def cost(self, n: int) -> Cost:
        """One evaluation of the place, one per player and one per pair."""
        if n < 2:
            raise BadRequest(
                "SecondDifference needs two players, here is one; ask for LeaveOneOut(), or split "
                "the player into smaller ones"
            )
        how_many("SecondDifference", n, 2)
        return Cost(evaluations=1 + n + n * (n - 1) // 2)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        n = game.players.n
        self.cost(n)
        pairs = torch.triu_indices(n, n, 1).T
        place, single = self._moved(n, torch.arange(n)[:, None])
        base = game.value(place[None]).double()[0]
        one = game.value(single).double()
        both = torch.cat(
            [
                game.value(self._moved(n, part)[1]).double()
                for part in pairs.split(max(PIECE // n, 1))
            ]
        )
        scores = both - one[pairs[:, 0]] - one[pairs[:, 1]] + base
        sets = torch.zeros(len(pairs), n, dtype=torch.bool).scatter_(1, pairs, True)
        everybody = self.among is Among.ALL
        return Interactions.among(
            game,
            sets,
            scores.movedim(0, -1),
            none=None if everybody else base,
            full=base if everybody else None,
            error_note="exact: nothing is sampled",
        )

    def _moved(
        self, n: int, who: Int[Tensor, "row player"]
    ) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "row n"]]:
        """The place, and the place with these players changed, one row each."""
        place = torch.full((n,), self.among is Among.ALL)
        rows = place.repeat(len(who), 1)
        return place, rows.scatter_(1, who, self.among is not Among.ALL)
