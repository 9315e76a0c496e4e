"""Credit collected along the straight path from absent to present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE
from ._options import counts, number, quadrature
from ._quadrature import Quadrature, nodes_and_weights


@dataclass(frozen=True, kw_only=True)
class PathIntegral:
    """Integral of the gate gradient while all gates rise together from 0 to 1.

        score_i = integral_0^1  d v / d g_i (a, ..., a)  da

    Integrated gradients on input players; on a multilinear game the Shapley value. Scores add up to
    v(all) - v(none) up to the quadrature error, which is `gap`. Where the gap exceeds `tolerance`
    the nodes are doubled once, and a note says so if that does not help. `steps` gradients (3 x
    with doubling) and both ends.
    """

    steps: int = 50  # nodes on the path
    nodes: Quadrature = Quadrature.GAUSS_LEGENDRE  # where they lie
    # share of v(all) - v(none) that the gap may reach before nodes are doubled; None = never
    tolerance: float | None = 0.05

    needs: ClassVar[Need] = "gradient"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.EFFICIENCY, Axiom.DUMMY, Axiom.SYMMETRY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("sundararajan2017",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.steps, "PathIntegral", "steps")
        quadrature(self.nodes, "PathIntegral", "nodes")
        if self.tolerance is not None:
            number(self.tolerance, "PathIntegral", "tolerance")
        least = 2 if self.nodes is Quadrature.TRAPEZOID else 1
        if self.steps < least or (self.tolerance is not None and not self.tolerance > 0):
            raise BadRequest(f"{self}: at least {least} steps, and a positive tolerance (or None)")

    def cost(self, n: int) -> Cost:
        """Both ends, and the nodes, with those of one doubling."""
        return Cost(evaluations=2, gradients=self.steps * (1 if self.tolerance is None else 3))

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        change = full.double() - none.double()
        scores = _integral(game, self.nodes, self.steps)
        notes: tuple[str, ...] = ()
        if self.tolerance is not None and game.exact and _share(change, scores) > self.tolerance:
            before = _share(change, scores)
            scores = _integral(game, self.nodes, 2 * self.steps)
            after = _share(change, scores)
            notes = (
                f"gap {before:.0%} with {self.steps} nodes, {after:.0%} with {2 * self.steps}",
            )
            if after > self.tolerance:
                notes = (
                    notes[0]
                    + ": it does not vanish, so the scores are not what was integrated. Choose "
                    "another reference.",
                )
        return Attribution.of(
            game,
            scores,
            none=none,
            full=full,
            error_note="quadrature, not sampling: its error is the gap",
            notes=notes,
        )


def _integral(game: Game, rule: Quadrature, steps: int) -> Tensor:
    level, weight = nodes_and_weights(rule, steps)
    n = game.players.n
    total: Tensor | None = None
    piece = max(PIECE // (8 * n), 1)
    for a, w in zip(level.split(piece), weight.split(piece), strict=True):
        _, grads = game.grad(a[:, None].expand(-1, n))
        part = torch.einsum("r,r...->...", w, grads.double())
        total = part if total is None else total + part
    assert total is not None  # there is at least one node
    return total


def _share(change: Tensor, scores: Tensor) -> float:
    """The gap as a share of what is to be explained, the worst output's."""
    gap = (change - scores.sum(-1)).abs()
    return float((gap / change.abs().clamp(min=1e-12)).max()) if float(gap.max()) > 1e-9 else 0.0
