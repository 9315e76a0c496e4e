"""Expected value when a player is visible, under smooth random masks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import bernoulli, grid_masks
from ._moments import FIRST, PIECE, Joint, Until, ceiling_note, portions
from ._options import choice, counts, number, precision


class RiseScore(Enum):
    """What is read from the masks M and the values v(M)."""

    VISIBLE = "visible"  # E[v M_i] / keep: the paper's
    NORMALISED = (
        "normalised"  # E[v M_i] / E[M_i] over the masks drawn: a mean of v, weighted by M_i
    )
    CENTRED = "centred"  # the same less E[v (1 - M_i)] / E[1 - M_i]: visible against hidden

    def __repr__(self) -> str:  # as it is written in code
        return f"RiseScore.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Rise:
    """Mean value of the masked input, weighted by how visible the player is.

        score_i = E_M[ v(M) M_i ] / keep

    The masks are coarse grids of coins, enlarged smoothly and shifted at random; players without a
    grid are masked one by one. Scores are a map of heat in units of the value: they do not add up
    to anything, and a player that does nothing scores E[v], not 0, unless they are `centred`: then
    it tends to 0. [petsiuk2018] On a score of detected boxes this is D-RISE [petsiuk2021], on a
    `Contrast` the contrastive variant.
    """

    samples: int = 4000  # masks (with `until`: at most)
    cells: int = 7  # cells of the coarse grid along each axis
    keep: float = 0.5  # how likely a cell is visible
    score: RiseScore = RiseScore.VISIBLE  # what is read from the masks and their values
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "soft"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("petsiuk2018", "petsiuk2021")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Rise", "samples")
        counts(self.cells, "Rise", "cells")
        number(self.keep, "Rise", "keep")
        choice(self.score, RiseScore, "Rise", "score")
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
        joint, stopped = Joint(), False
        for rows in portions(self.samples, PIECE // (24 * n), self.until):  # three float64 each
            masks = self._masks(game, rows, rng)
            values = game.value(masks).double()
            seen = (
                masks.double().reshape(rows, *(1,) * (values.ndim - 1), n).expand(*values.shape, n)
            )
            worth = values[..., None].expand_as(seen)
            joint.add(torch.stack([worth * seen, seen, worth], -1))
            if self.until is not None and joint.count >= FIRST:
                scores, error = self._read(joint)
                stopped = error is not None and self.until(scores, error)
            if stopped:
                break
        scores, error = self._read(joint)
        notes = ceiling_note(self.until, stopped, f"{self.samples} masks", error)
        reason = "" if error is not None else "one mask has no standard error; ask for more samples"
        return Attribution.of(
            game, scores, error=error, freedom=joint.count - 1, error_note=reason, notes=notes
        )

    def _read(self, joint: Joint) -> tuple[Tensor, Tensor | None]:
        """Scores, and their standard errors by the delta method, from the means of v M, M and v."""
        both, seen, worth = joint.mean.unbind(-1)
        if self.score is RiseScore.VISIBLE:
            slope = torch.tensor([1 / self.keep, 0, 0], dtype=torch.float64)
            return both / self.keep, joint.error(slope.expand_as(joint.mean))
        always = self.score is RiseScore.CENTRED and bool((seen >= 1).any())
        if bool((seen <= 0).any()) or always:
            raise BadRequest(
                f"{self}: a player was {'always' if always else 'never'} visible in "
                f"{joint.count} masks; ask for more samples, or score=ap.RiseScore.VISIBLE"
            )
        inside = both / seen
        if self.score is RiseScore.NORMALISED:
            slope = torch.stack([1 / seen, -inside / seen, torch.zeros_like(seen)], -1)
            return inside, joint.error(slope)
        hidden = 1 - seen
        outside = (worth - both) / hidden
        slope = torch.stack(
            [1 / seen + 1 / hidden, -inside / seen - outside / hidden, -1 / hidden], -1
        )
        return inside - outside, joint.error(slope)

    def _masks(self, game: Game, rows: int, rng: Generator) -> Tensor:
        grid = game.players.grid
        if grid is None:
            return bernoulli(rows, game.players.n, self.keep, rng)
        return grid_masks(rows, grid, self.cells, self.keep, rng)
