"""Dependence of the value on who is present, measured with kernels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._moments import PIECE
from ._options import choice, counts
from ._points import Points, admit_points, unit_points

MOST_SAMPLES = 8192  # the kernel of the values is samples x samples


class Bandwidth(Enum):
    """How wide the kernel of the values is."""

    MEDIAN_DISTANCE = "median-distance"  # median distance of two values: does not see offsets
    MEDIAN_VALUE = "median-value"  # median of the values themselves, as in the paper's code

    def __repr__(self) -> str:  # as it is written in code
        return f"Bandwidth.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Hsic:
    """Hilbert-Schmidt independence criterion between a player's presence and the value.

        score_i = sum_jk [ H K_i H ]_jk [ H L H ]_jk / N^2,           H = 1 - 11'/N,
        K_i = 1/2 - (m_ji - m_ki)^2,   L = exp( -(v_j - v_k)^2 / (2 width^2) )

    over N random coalitions m_j with values v_j. 0 in the limit exactly if presence and value are
    independent: it sees any effect, also one without a mean, and has no sign and no unit. A player
    that does nothing scores about E[1 - L] / (2 N), not 0. The error is a jackknife over
    coalitions. `samples` evaluations whatever the number of players. [novello2022]
    """

    samples: int = 512  # coalitions
    points: Points = Points.LATIN  # how they are drawn: points of a unit cube, present above 1/2
    bandwidth: Bandwidth = Bandwidth.MEDIAN_DISTANCE  # width of the kernel of the values

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset()
    cites: ClassVar[tuple[str, ...]] = ("novello2022",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "Hsic", "samples")
        choice(self.points, Points, "Hsic", "points")
        choice(self.bandwidth, Bandwidth, "Hsic", "bandwidth")
        admit_points(self.points, self.samples, "Hsic")
        if self.samples > MOST_SAMPLES:
            raise BadRequest(
                f"Hsic(samples={self.samples:,}) compares all pairs of values; the most is "
                f"{MOST_SAMPLES:,}, and several seeds can be averaged"
            )

    def cost(self, n: int) -> Cost:
        """One evaluation per coalition."""
        return Cost(evaluations=self.samples)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        present = unit_points(self.points, self.samples, n, rng) >= 0.5
        values = torch.cat([game.value(rows) for rows in present.split(max(PIECE // n, 1))])
        found = [
            dependence(present, similarity(column, self.bandwidth))
            for column in values.double().reshape(self.samples, -1).T
        ]
        shape = (*values.shape[1:], n)
        scores = torch.stack([score for score, _ in found]).reshape(shape)
        regular = self.points in (Points.SOBOL, Points.HALTON)
        error = torch.stack([e for _, e in found]).reshape(shape)
        return Attribution.of(
            game,
            scores,
            error=None if regular else error,
            freedom=self.samples - 1,
            error_note="the points of a sequence are not independent; ask for Points.LATIN"
            if regular
            else "",
            unit="",
        )


def similarity(values: Float[Tensor, "row"], bandwidth: Bandwidth) -> Float[Tensor, "row other"]:
    """Gaussian kernel of the values; at width 0, which values are equal."""
    distance = (values[:, None] - values).abs()
    if bandwidth is Bandwidth.MEDIAN_VALUE:
        width = values.quantile(0.5)
    else:
        width = distance[tuple(torch.triu_indices(len(values), len(values), 1))].median()
    if float(width) == 0:
        return (distance == 0).to(values)
    return torch.exp(-((distance / width) ** 2) / 2)


def dependence(
    present: Tensor, kernel: Float[Tensor, "row other"]
) -> tuple[Float[Tensor, "player"], Float[Tensor, "player"]]:
    """HSIC of each player with the values, and its jackknife standard error.

    On binary masks K is 2 (m - 1/2)(m' - 1/2), so the double sum is 2 c' L c with c the centred
    column. Leaving row j out moves the other c by d = c_j / (N - 1): the sum loses row and column
    j, and gains what d adds.
    """
    count = len(present)
    c = present.double() - present.double().mean(0)
    pull, rows = kernel @ c, kernel.sum(1)[:, None]
    own = kernel.diagonal()[:, None]
    whole = (c * pull).sum(0)
    d = c / (count - 1)
    inner = whole - 2 * c * pull + c.square() * own
    cross = pull.sum(0) - c * rows - pull + c * own
    rest = kernel.sum() - 2 * rows + own
    without = 2 * (inner + 2 * d * cross + d.square() * rest) / (count - 1) ** 2
    squares = (without - without.mean(0)).square().sum(0)
    return 2 * whole / count**2, (squares * (count - 1) / count).sqrt()
