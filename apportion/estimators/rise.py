"""Expected value when a player is visible, under smooth random masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import bernoulli, grid_masks
from ._moments import PIECE, Running, Until, ceiling_note, portions, reached
from ._options import counts, number, precision


@dataclass(frozen=True, kw_only=True)
class Rise:
    """Mean value of the masked input, weighted by how visible the player is.

        score_i = E_M[ v(M) M_i ] / keep

    The masks are coarse grids of coins, enlarged smoothly and shifted at random; players without a
    grid are masked one by one. Scores are a map of heat in units of the value: they do not add up
    to anything, and a player that does nothing scores E[v], not 0. [petsiuk2018]
    """

    samples: int = 4000  # masks (with `until`: at most)
    cells: int = 7  # cells of the coarse grid along each axis
    keep: float = 0.5  # how likely a cell is visible
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "soft"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("petsiuk2018",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Rise", "samples")
        counts(self.cells, "Rise", "cells")
        number(self.keep, "Rise", "keep")
        precision(self.until, "Rise", "until")
        if self.samples < 1 or self.cells < 1 or not 0 < self.keep < 1:
            raise BadRequest(
                f"{self}: samples and cells are at least 1, and keep lies between 0 and 1"
            )

    def cost(self, n: int) -> Cost:
        """One evaluation per mask."""
        return Cost(evaluations=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        running, stopped = Running(), False
        for rows in portions(self.samples, PIECE // (8 * n), self.until):  # masks are float64
            masks = self._masks(game, rows, rng)
            values = game.value(masks).double()
            running.add(torch.einsum("r...,rp->r...p", values, masks.double()) / self.keep)
            stopped = reached(self.until, running)
            if stopped:
                break
        scores, error = running.result()
        notes = ceiling_note(self.until, stopped, f"{self.samples} masks", error)
        reason = "" if error is not None else "one mask has no standard error; ask for more samples"
        return Attribution.of(
            game, scores, error=error, freedom=running.count - 1, error_note=reason, notes=notes
        )

    def _masks(self, game: Game, rows: int, rng: Generator) -> Tensor:
        grid = game.players.grid
        if grid is None:
            return bernoulli(rows, game.players.n, self.keep, rng)
        return grid_masks(rows, grid, self.cells, self.keep, rng)
