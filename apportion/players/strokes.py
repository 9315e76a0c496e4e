"""Players that are the strokes of a sketch, each on a canvas of its own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from ..taps import Part, Site
from ..types import BadRequest
from .base import Geometry, Players


class Overlap(Enum):
    """How ink adds up where strokes cross."""

    SUM = "sum"  # X = sum of canvases: gates act on every stroke alone; may exceed 1
    MAX = "max"  # the darkest stroke counts, as on paper

    def __repr__(self) -> str:  # as it is written in code
        return f"Overlap.{self.name}"


class Canvas(nn.Module):
    """A model of pictures that is given a sketch stroke by stroke, (batch, stroke, ..., height,
    width), and sees the strokes on one canvas.
    """

    def __init__(self, model: nn.Module, overlap: Overlap = Overlap.SUM) -> None:
        super().__init__()
        self.model = model
        self.overlap = overlap

    def forward(self, strokes: Tensor) -> Any:
        ink = strokes.sum(1) if self.overlap is Overlap.SUM else strokes.amax(1)
        return self.model(ink)


def strokes(x: Tensor, names: Sequence[str] | None = None, *, part: Part = None) -> Players:
    """One player per stroke of a sketch. `x` is (batch, stroke, ..., height, width), one canvas for
    each, 0 = no ink; the model asked is `Canvas(model)`, which lays them over each other.

        ap.ModelGame(Canvas(model), x, value, strokes(x), ap.Blend(ap.removals.zeros()))

    `Gradient` on strokes is the stroke-level attribution of [bandyopadhyay2024], with its sign:
    sum over pixels of dL/dX times the stroke's canvas. Strokes cut into segments (`drawn` on pairs
    of points) are its partial strokes; their gradients sum to the stroke's.
    """
    if x.ndim < 4:
        raise BadRequest(
            f"strokes need axes (batch, stroke, ..., height, width); got {tuple(x.shape)}. Draw "
            "them with ap.players.drawn(lines, (height, width)) and add the batch axis with x[None]"
        )
    count = int(x.shape[1])
    if names is not None and len(names) != count:
        raise BadRequest(f"{len(names)} names for {count} strokes")
    called = tuple(names) if names is not None else tuple(f"stroke {i + 1}" for i in range(count))
    owner = torch.arange(count).reshape(count, *(1,) * (x.ndim - 2))
    site = Site("", "in", part)
    return Players(called, ("stroke",) * count, {site: owner}, {"stroke": Geometry("parts")})


def drawn(
    lines: Sequence[Tensor],
    size: tuple[int, int],
    *,
    radius: float = 1.0,
    softness: float = 0.5,
) -> Tensor:
    """Canvases of polylines (point, 2) in pixels, x before y: (stroke, height, width).

    Ink falls off around each line as sigmoid((radius - distance) / softness), so derivatives by
    the points exist.
    """
    if radius <= 0 or softness <= 0 or min(size) < 1:
        raise BadRequest(
            f"drawn(size={size}, radius={radius}, softness={softness}): all must be positive"
        )
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in size)
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (height, width, 2)
    canvases = []
    for k, line in enumerate(lines):
        if line.ndim != 2 or line.shape[1] != 2 or not len(line):
            raise BadRequest(
                f"line {k} has shape {tuple(line.shape)}; give its points as (point, 2), x before y"
            )
        apart = _distance(pixels.to(line), line)
        canvases.append(((radius - apart) / softness).sigmoid())
    if not canvases:
        raise BadRequest("there are no players: no lines were given")
    return torch.stack(canvases)


def _distance(pixels: Tensor, line: Tensor) -> Tensor:
    """Distance of every pixel to the nearest segment of a polyline, (height, width)."""
    start, end = (line[:-1], line[1:]) if len(line) > 1 else (line, line)
    along = end - start
    length = (along**2).sum(-1).clamp(min=1e-12)
    off = pixels[..., None, :] - start
    share = ((off * along).sum(-1) / length).clamp(0, 1)
    gone = off - share[..., None] * along
    # the square root has no derivative where a pixel lies on the line
    return ((gone**2).sum(-1) + 1e-12).sqrt().amin(-1)
