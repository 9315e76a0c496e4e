"""Credit collected along a path that moves the players with the largest gain first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._options import choice, number
from ._quadrature import gap_share


class Direction(Enum):
    """Which way the path runs."""

    REMOVE = "remove"  # from everyone present to nobody
    ADD = "add"  # from nobody to everyone
    BOTH = "both"  # the mean of the two

    def __repr__(self) -> str:  # as it is written in code
        return f"Direction.{self.name}"


NOTED = 0.05  # share of v(all) - v(none) from which a gap is spoken of


@dataclass(frozen=True, kw_only=True)
class GreedyPath:
    """Integral of the gate gradient along a path on which, at every step, the few players move that
    promise most of the change v(end) - v(start).

        score_i = sum over steps of  (mean of d v / d g_i at both ends of the step) x (move of g_i)

    A path integral whose path concentrates the credit on few players; the idea of choosing the path
    greedily is [zhang2024]'s. Of what is not fixed there this is our definition: the players are
    ranked by sign(v(end) - v(start)) m_i (way left to i), with m the running mean of gradients;
    the first of them share each step in proportion to the way they have left, as many as it takes
    to fill it; true gradients are summed, by the trapezoid rule. The sum misses v(all) - v(none) by
    `gap`, which falls with the square of `step` on smooth games. Where all players share small
    steps it is the path integral. ceil(n / (step share n)) + 1 gradients one after the other, for
    each direction, and both ends.
    """

    share: float = 0.01  # of the players, that share a step at least; one where that is less
    step: float = 1.0  # how much of their way (from 0 to 1 each) those move in one step
    momentum: float = 0.5  # weight of earlier gradients in the ranking: 0 = only the last one
    direction: Direction = Direction.BOTH  # from all to none, from none to all, or both

    needs: ClassVar[Need] = "gradient"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.ADDITIVE, Axiom.EFFICIENCY, Axiom.DUMMY})
    cites: ClassVar[tuple[str, ...]] = ("zhang2024", "sundararajan2017")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("share", "step", "momentum"):
            number(vars(self)[name], "GreedyPath", name)
        choice(self.direction, Direction, "GreedyPath", "direction")
        if not (0 < self.share <= 1 and 0 < self.step <= 1 and 0 <= self.momentum < 1):
            raise BadRequest(
                f"{self}: share and step are above 0 and at most 1, momentum at least 0 and below 1"
            )

    def cost(self, n: int) -> Cost:
        """Both ends, and a gradient at both ends of every step."""
        ways = 2 if self.direction is Direction.BOTH else 1
        return Cost(evaluations=2, gradients=ways * (self._steps(n) + 1))

    def _together(self, n: int) -> int:
        return max(1, round(self.share * n))

    def _steps(self, n: int) -> int:
        return math.ceil(n / (self.step * self._together(n)) - 1e-9)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        if none.ndim:
            raise BadRequest(
                f"GreedyPath follows one output, and this game has {tuple(none.shape)}: its path "
                "is another one for each. Ask for one at a time: ap.picked(game, 0)"
            )
        rises = bool(full >= none)
        ways = {Direction.ADD: [1], Direction.REMOVE: [-1], Direction.BOTH: [1, -1]}
        walks = [self._walk(game, way, rises) for way in ways[self.direction]]
        scores = torch.stack(walks).mean(0)
        missed = gap_share(full.double() - none.double(), scores)
        notes = (
            f"gap {missed:.0%} of v(all) - v(none): the path meets slopes its steps are too long "
            "for; make step smaller, or choose another reference",
        )
        return Attribution.of(
            game,
            scores,
            none=none,
            full=full,
            error_note="a path, not sampling: its error is the gap",
            notes=notes if game.exact and missed > NOTED else (),
        )

    def _walk(self, game: Game, way: int, rises: bool) -> Tensor:
        """Credit along the path that adds (way = 1) or removes (-1)."""
        n = game.players.n
        together = self._together(n)
        reach, steps = self.step * together, self._steps(n)
        rest = torch.ones(n, dtype=torch.float64)  # way left to every player
        credit = torch.zeros(n, dtype=torch.float64)
        # removing, the change is the other way and so is every move: gains keep their sign
        aim = 1.0 if rises else -1.0
        slope = _slope(game, rest, way)
        trend = slope
        for k in range(steps):
            trend = self.momentum * trend + (1 - self.momentum) * slope
            move = rest if k + 1 == steps else _move(aim * trend * rest, rest, together, reach)
            rest = rest - move
            after = _slope(game, rest, way)
            credit += (slope + after) / 2 * move
            slope = after
        return credit


def _slope(game: Game, rest: Tensor, way: int) -> Tensor:
    gates = (1 - rest if way > 0 else rest).clamp(0, 1)
    return game.grad(gates[None])[1][0].double()


def _move(gain: Tensor, rest: Tensor, together: int, reach: float) -> Tensor:
    """How far each player moves: `reach` in all, by the players of largest gain, in proportion to
    the way they have left.
    """
    left = rest > 1e-12
    order = gain.masked_fill(~left, -torch.inf).argsort(descending=True, stable=True)
    way = rest[order].cumsum(0)
    enough = int((way < reach * (1 - 1e-12)).sum()) + 1
    count = min(max(together, enough), int(left.sum()))
    total = float(way[count - 1])
    moved = torch.zeros_like(rest)
    moved[order[:count]] = rest[order[:count]] * min(reach / total, 1.0)
    return moved
