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
from ._quadrature import Quadrature, gap_share, nodes_and_weights

# rules whose nodes are among those of twice the cells, and how many nodes more than cells they have
NESTED = {Quadrature.TRAPEZOID: 1, Quadrature.RIGHT: 0}


@dataclass(frozen=True, kw_only=True)
class PathIntegral:
    """Integral of the gate gradient while all gates rise together from 0 to 1.

        score_i = integral_0^1  d v / d g_i (a, ..., a)  da

    Integrated gradients on input players; on a multilinear game the Shapley value. Scores add up to
    v(all) - v(none) up to the quadrature error, which is `gap`. While the gap exceeds `tolerance`
    the nodes are doubled, at most `doublings` times, and a note says what that did. Nodes of
    trapezoid and right sums are used again (a trapezoid's cells are doubled). `steps` gradients
    and both ends; with d doublings up to 2^d steps where nodes are used again, (2^(d + 1) - 1)
    steps where not.
    """

    steps: int = 50  # nodes on the path
    nodes: Quadrature = Quadrature.GAUSS_LEGENDRE  # where they lie
    # share of v(all) - v(none) that the gap may reach before nodes are doubled; None = never
    tolerance: float | None = 0.05
    doublings: int = 1  # how often at most

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
        counts(self.doublings, "PathIntegral", "doublings")
        if self.doublings < 0:
            raise BadRequest(f"{self}: doublings count from 0; write tolerance=None for none")
        least = 2 if self.nodes is Quadrature.TRAPEZOID else 1
        if self.steps < least or (self.tolerance is not None and not self.tolerance > 0):
            raise BadRequest(f"{self}: at least {least} steps, and a positive tolerance (or None)")

    def cost(self, n: int) -> Cost:
        """Both ends, and the nodes, with those of every doubling."""
        times = 0 if self.tolerance is None else self.doublings
        if self.nodes not in NESTED:
            return Cost(evaluations=2, gradients=self.steps * (2 ** (times + 1) - 1))
        shared = NESTED[self.nodes]
        return Cost(evaluations=2, gradients=(self.steps - shared) * 2**times + shared)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        change = full.double() - none.double()
        # a gap below this is rounding of the ends, not of the integral
        rounding = (
            8 * torch.finfo(full.dtype).eps * float(torch.maximum(full.abs(), none.abs()).max())
        )
        scores, notes = self._refined(game, change, rounding)
        return Attribution.of(
            game,
            scores,
            none=none,
            full=full,
            error_note="quadrature, not sampling: its error is the gap",
            notes=notes,
        )

    def _refined(
        self, game: Game, change: Tensor, rounding: float
    ) -> tuple[Tensor, tuple[str, ...]]:
        """The integral, on more nodes while the gap asks for it, and what that did."""
        scores, count = _integral(game, self.nodes, self.steps), self.steps
        if self.tolerance is None or not game.exact:
            return scores, ()
        before = after = gap_share(change, scores)
        for _ in range(self.doublings):
            if after <= self.tolerance:
                break
            scores, count = _doubled(game, self.nodes, scores, count)
            after = gap_share(change, scores)
        missed = float((change - scores.sum(-1)).abs().max())
        if before <= self.tolerance or missed <= rounding:
            return scores, ()
        note = f"gap {100 * before:.2g} % with {self.steps} nodes"
        note += f", {100 * after:.2g} % with {count}" if count > self.steps else ""
        if after > self.tolerance:
            note += (
                ": it does not vanish, so the scores are not what was integrated. Choose another "
                f"reference, or doublings={self.doublings + 2}."
            )
        return scores, (note,)


def _doubled(game: Game, rule: Quadrature, scores: Tensor, count: int) -> tuple[Tensor, int]:
    """The integral on twice the cells: the midpoints are new, the rest is known where it nests."""
    if rule not in NESTED:
        return _integral(game, rule, 2 * count), 2 * count
    cells = count - NESTED[rule]
    return (scores + _integral(game, Quadrature.MIDPOINT, cells)) / 2, count + cells


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
