"""What is lost under a window that slides over the players' grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE
from ._options import lengths


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """Mean drop of the value over the windows that cover the player.

        score_i = mean over windows W that hold i of [ v(all) - v(all without W) ]

    Windows slide over the grid that the players fill; at the far border, and along sides shorter
    than the window, they cover what there is. Exact, nothing is sampled. Everybody under a window
    shares its whole drop: scores grow with the window, a dummy beside a strong player scores, and
    nothing adds up. With window=1 this is `LeaveOneOut`. One evaluation per window, at most n, and
    one of all. [zeiler2014]
    """

    # players along each axis of the grid that leave together; one number for all axes, or one each
    window: int | tuple[int, ...] = 3
    # players that the window moves by, at most its own length so that nobody is missed
    stride: int | tuple[int, ...] = 1

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("zeiler2014",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for given, name in ((self.window, "window"), (self.stride, "stride")):
            lengths(given, "Occlusion", name)

    def cost(self, n: int) -> Cost:
        """No more windows than players, and one evaluation of all."""
        return Cost(evaluations=n + 1)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n, grid = game.players.n, game.players.grid
        if grid is None:
            raise BadRequest(
                f"Occlusion slides windows over a grid, and these players fill none "
                f"({game.players}). Use LeaveOneOut, which leaves them out one by one, or players "
                "on a grid such as patches(x, size) or pixels(x)."
            )
        window, stride = self._along(grid, "window"), self._along(grid, "stride")
        if any(s > w for w, s in zip(window, stride, strict=True)):
            raise BadRequest(
                f"{self}: a stride longer than the window leaves players between the windows "
                f"uncovered; write stride={self.window} or shorter"
            )
        full = game.value(torch.ones(1, n, dtype=torch.bool))[0]
        total = torch.zeros(*full.shape, n, dtype=torch.float64)
        times = torch.zeros(n)
        corners = list(product(*starts(grid, window, stride)))
        step = max(PIECE // n, 1)
        for first in range(0, len(corners), step):
            covered = windows(grid, window, corners[first : first + step])
            drops = full.double() - game.value(~covered).double()
            total += torch.einsum("r...,rp->...p", drops, covered.double())
            times += covered.sum(0)
        return Attribution.of(
            game, total / times, full=full, error_note="exact: nothing is sampled"
        )

    def _along(self, grid: tuple[int, ...], name: str) -> tuple[int, ...]:
        given = self.window if name == "window" else self.stride
        each = (given,) * len(grid) if isinstance(given, int) else given
        if len(each) != len(grid):
            raise BadRequest(
                f"{self}: the players fill a grid of {len(grid)} axes {grid}, {name} has "
                f"{len(each)}; give one number for all axes, or one for each of them"
            )
        return each


def starts(grid: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]) -> list[range]:
    """Where windows begin along each axis: as often as it takes to reach the far border."""
    return [
        range(0, math.ceil(max(side - w, 0) / s) * s + 1, s)
        for side, w, s in zip(grid, window, stride, strict=True)
    ]


def windows(
    grid: tuple[int, ...], window: tuple[int, ...], corners: list[tuple[int, ...]]
) -> Bool[Tensor, "row player"]:
    """The players under the window at each corner."""
    covered = torch.zeros(len(corners), *grid, dtype=torch.bool)
    for row, corner in enumerate(corners):
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        covered[row][place] = True
    return covered.flatten(1)
