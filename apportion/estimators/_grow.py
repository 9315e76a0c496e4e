"""Fits on designs that grow until they are precise enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ._moments import FIRST, Until

Fit = tuple[Tensor, Tensor | None]  # (out, player): slopes, and their standard errors if known
Draw = Callable[[int], tuple[Tensor, Tensor]]  # so many rows: x (row, player), y (row, *out)


@dataclass(frozen=True)
class Grown:
    """The last fit and what it rests on."""

    scores: Float[Tensor, "*out player"]
    error: Float[Tensor, "*out player"] | None
    x: Tensor  # every row that was drawn
    stopped: bool  # whether the precision was reached


def grow(
    draw: Draw, fit: Callable[[Tensor, Tensor], Fit | None], looks: list[int], until: Until | None
) -> Grown | None:
    """Draws up to `looks` rows in all, fits at each look, and stops at the precision. None if
    not even all rows determine the slopes.
    """
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    found: Grown | None = None
    for rows in looks:
        x, y = draw(rows - sum(map(len, xs)))
        xs, ys = [*xs, x], [*ys, y.double()]
        x, y = torch.cat(xs), torch.cat(ys)
        fitted = fit(x, y.reshape(len(y), -1))
        if fitted is None:  # these rows do not determine the slopes; the next ones may
            continue
        scores, error = fitted
        shape = (*y.shape[1:], x.shape[1])
        stopped = until is not None and error is not None and until(scores, error)
        found = Grown(
            scores.reshape(shape), None if error is None else error.reshape(shape), x, stopped
        )
        if stopped:
            break
    return found


def looks(players: int, most: int, until: Until | None) -> list[int]:
    """Numbers of rows at which a fit is made: only at the end, or growing by half where a
    precision is asked.
    """
    if until is None:
        return [most]
    at = [min(most, 2 * players + FIRST)]
    while at[-1] < most:
        at.append(min(most, at[-1] + at[-1] // 2))
    return at
