"""Sobol indices: how much of the value's variance a player's gate accounts for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import FIRST, PIECE, Until, ceiling_note
from ._options import choice, counts, precision
from ._points import Points, admit_points, unit_points


class Sensitivity(Enum):
    """Which share of the variance, and how it is estimated from f(A), f(B) and f(C_i)."""

    JANSEN = "jansen"  # total: mean of (f(A) - f(C_i))^2 / 2
    HOMMA = "homma"  # total: variance less the covariance of f(A) and f(C_i) [homma1996]
    JANON = "janon"  # total: as Jansen, variance and mean from f(A) and f(C_i) [janon2014]
    GLEN = "glen"  # total: 1 - correlation of f(A) and f(C_i) [glen2012]
    FIRST_ORDER = "first-order"  # first: mean of f(B) (f(C_i) - f(A)) [saltelli2010]

    def __repr__(self) -> str:  # as it is written in code
        return f"Sensitivity.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Sobol:
    """Share of the value's variance under random gates that involves the player's gate.

        total_i = E[ Var( v(g) | all gates but i ) ] / Var v(g),        g_j ~ U(0, 1), independent
        first_i = Var( E[ v(g) | g_i ] ) / Var v(g)

    Gates are points A of a design; C_i is A with gate i taken from a second design B. Totals are
    not negative and sum to 1 or more: an interaction counts for each of its players; first orders
    sum to 1 or less. Not a decomposition of the value, and without sign. Adding a constant to the
    value or scaling it changes nothing. On a sum of w_j g_j both are w_i^2 / sum_j w_j^2. Several
    `designs` are independent, and the error is their jackknife. designs * samples * (n + 1)
    evaluations, one more of each for first orders. [fel2021]
    """

    samples: int = 32  # points of each design
    designs: int = 4  # independent designs (with `until`: at most); 1 gives no error
    index: Sensitivity = Sensitivity.JANSEN  # which share, by which estimator
    points: Points = Points.SOBOL  # how points fill the cube of gates
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k), from 8 designs on

    needs: ClassVar[Need] = "soft"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.DUMMY})
    cites: ClassVar[tuple[str, ...]] = (
        "fel2021", "jansen1999", "homma1996", "janon2014", "glen2012", "saltelli2010",
    )  # fmt: skip
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Sobol", "samples")
        counts(self.designs, "Sobol", "designs")
        choice(self.index, Sensitivity, "Sobol", "index")
        choice(self.points, Points, "Sobol", "points")
        precision(self.until, "Sobol", "until")
        admit_points(self.points, self.samples, "Sobol")
        if self.designs < 1:
            raise BadRequest(f"Sobol(designs={self.designs}): at least one; 4 give an error")

    def cost(self, n: int) -> Cost:
        """A, and C_i for each player; B itself only for first orders."""
        blocks = n + 1 + (self.index is Sensitivity.FIRST_ORDER)
        return Cost(evaluations=self.designs * self.samples * blocks)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        above: list[Tensor] = []
        below: list[Tensor] = []
        scores = flat = torch.zeros(())
        error: Tensor | None = None
        look, stopped = FIRST, False
        for count in range(1, self.designs + 1):
            top, bottom = self._design(game, rng)
            above, below = [*above, top], [*below, bottom]
            if count < self.designs and (self.until is None or count < look):
                continue
            scores, error, flat = pooled(torch.stack(above), torch.stack(below))
            look = count + max(count // 2, 1)
            stopped = self.until is not None and error is not None and self.until(scores, error)
            if stopped:
                break
        notes = ceiling_note(self.until, stopped, f"{self.designs} designs", error)
        if bool(flat.any()):
            notes += ("the value is the same at all gates asked: every share of its variance is 0",)
        return Attribution.of(
            game,
            scores,
            error=error,
            freedom=len(above) - 1,
            error_note=""
            if error is not None
            else "one design has no standard error; ask for designs=4",
            notes=notes,
            unit="",
        )

    def _design(self, game: Game, rng: Generator) -> tuple[Tensor, Tensor]:
        """Numerators and denominators of one design, each (*out, player)."""
        n = game.players.n
        both = unit_points(self.points, self.samples, 2 * n, rng)
        a, b = both[:, :n], both[:, n:]
        at_a = game.value(a)
        at_b = game.value(b) if self.index is Sensitivity.FIRST_ORDER else None
        parts = []
        for which in torch.arange(n).split(max(PIECE // (8 * n * self.samples), 1)):
            mixed = a.expand(len(which), *a.shape).clone()
            mixed[torch.arange(len(which)), :, which] = b[:, which].T
            values = game.value(mixed.flatten(0, 1)).unflatten(0, (len(which), self.samples))
            parts.append(shares(self.index, at_a, values, at_b))
        tops, bottoms = zip(*parts, strict=True)
        return torch.cat(tops).movedim(0, -1), torch.cat(bottoms).movedim(0, -1)


def shares(
    index: Sensitivity, at_a: Tensor, at_c: Tensor, at_b: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Numerator and denominator per player from f(A) (point, *out) and f(C_i) (player, point,
    *out). Where the value varies by no more than its rounding, both are 0.

    Variances divide by the number of points, by which a player who changes nothing has exactly 0
    in every form. (Published forms divide some by one less: on points that fill the cube evenly
    that is a bias of 1/N, more than their error.)
    """
    a, c = at_a.double(), at_c.double()
    mean, var = a.mean(0), a.var(0, correction=0)
    product = (a * c).mean(1)
    if index is Sensitivity.JANSEN:
        top, bottom = (a - c).square().mean(1) / 2, var.expand_as(product)
    elif index is Sensitivity.HOMMA:
        top, bottom = var - (product - mean**2), var.expand_as(product)
    elif index is Sensitivity.JANON:
        middle = (mean + c.mean(1)) / 2
        bottom = (a.square() + c.square()).mean(1) / 2 - middle**2
        top = bottom - (product - middle**2)
    elif index is Sensitivity.GLEN:
        bottom = (var * c.var(1, correction=0)).sqrt()
        top = bottom - (product - mean * c.mean(1))
    else:
        if at_b is None:
            raise AssertionError("first orders need f(B)")
        # about the mean of f(A): an offset of the value would only add noise
        top = ((at_b.double() - mean) * (c - a)).mean(1)
        bottom = var.expand_as(product)
    rounding = 8 * torch.finfo(at_a.dtype).eps * a.abs().amax(0)
    varies = var > rounding.square()
    return top * varies, bottom * varies


def pooled(top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Ratio of the sums over designs, its jackknife standard error (None from one design), and
    where there is no variance to share; inputs (design, *out, player).
    """
    flat = bottom.sum(0) <= 0

    def ratio(above: Tensor, below: Tensor) -> Tensor:
        return torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)

    scores = ratio(top.sum(0), bottom.sum(0))
    count = len(top)
    if count < 2:
        return scores, None, flat
    without = ratio(top.sum(0) - top, bottom.sum(0) - bottom)
    squares = (without - without.mean(0)).square().sum(0)
    return scores, (squares * (count - 1) / count).sqrt(), flat
