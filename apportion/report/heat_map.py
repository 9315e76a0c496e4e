"""Layers by heads as a map of coloured cells: across for wide screens, upright for phones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..attribution import Attribution
from .scale import Tick
from .words import interval, places, unit

FRAMED = 5  # cells of largest credit that get a frame
GAP, HEAD = 10.0, 26.0  # before the lane of MLPs; above the first row
CELL, ROW, MARGIN = 28.0, 22.0, 56.0  # across
PHONE_CELL, PHONE_ROW, PHONE_MARGIN = 34.0, 18.0, 30.0  # upright
BROAD, PHONE_BROAD = 840.0, 330.0  # room for cells
LABELS = 15  # numbers along the layers, at most, when they run across


@dataclass(frozen=True)
class Cell:
    """One component on the map."""

    x: float
    y: float
    opacity: float
    negative: bool
    framed: bool
    title: str


@dataclass(frozen=True)
class Map:
    """Layers by heads, with the MLPs set apart."""

    width: float
    height: float
    cell: float
    row: float
    cells: tuple[Cell, ...]
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    upright: bool


@dataclass(frozen=True)
class _Frame:
    """Where lanes (heads, then MLPs) and layers lie."""

    lanes: int
    heads: int
    layers: int
    upright: bool

    @property
    def cell(self) -> float:
        if self.upright:
            return min(PHONE_CELL, PHONE_BROAD / self.lanes)
        return min(CELL, BROAD / self.layers)

    @property
    def row(self) -> float:
        return PHONE_ROW if self.upright else ROW

    @property
    def left(self) -> float:
        return PHONE_MARGIN if self.upright else MARGIN

    def lane(self, j: float) -> float:
        """Distance of a lane from the first; MLPs stand apart from the heads they follow."""
        apart = GAP if 0 < self.heads <= j else 0.0
        return j * (self.cell if self.upright else self.row) + apart

    def layer(self, k: float) -> float:
        return k * (self.row if self.upright else self.cell)

    def corner(self, layer: int, lane: int) -> tuple[float, float]:
        along, down = self.layer(layer), self.lane(lane)
        x, y = (down, along) if self.upright else (along, down)
        return round(self.left + x, 1), round(HEAD + y, 1)

    def size(self) -> tuple[float, float]:
        """Width and height, with room for the labels below where layers run across."""
        lanes, layers = self.lane(self.lanes - 1), self.layer(self.layers)
        if self.upright:
            return round(self.left + lanes + self.cell + 1, 1), round(HEAD + layers + 1, 1)
        return round(self.left + layers + 1, 1), round(HEAD + lanes + self.row + 22, 1)


def heat_map(
    credit: Attribution,
    rows: Sequence[Sequence[int]],
    heads: int,
    layers: Sequence[str],
    *,
    upright: bool,
) -> Map:
    """One row of players per layer (-1 = nobody): `heads` heads, and an MLP where there are any.

    Layers run to the right and heads downward; upright: layers downward and heads to the right.
    """
    frame = _Frame(len(rows[0]), heads, len(rows), upright)
    names = [*map(str, range(heads)), *["MLP"] * (frame.lanes - heads)]
    start = frame.left if upright else HEAD
    middle = (frame.cell if upright else frame.row) / 2
    lanes = tuple(
        Tick(round(start + frame.lane(j) + middle, 1), name) for j, name in enumerate(names)
    )
    every = 1 if upright else -(-frame.layers // LABELS)
    along = HEAD if upright else frame.left
    deep = tuple(
        Tick(round(along + frame.layer(k + 0.5), 1), layers[k])
        for k in range(0, frame.layers, every)
    )
    columns, down = (lanes, deep) if upright else (deep, lanes)
    cells = _cells(credit, rows, frame)
    return Map(*frame.size(), round(frame.cell, 2), frame.row, cells, columns, down, upright)


def _cells(credit: Attribution, rows: Sequence[Sequence[int]], frame: _Frame) -> tuple[Cell, ...]:
    sizes = credit.scores.abs()
    framed, top = set(sizes.argsort(descending=True)[:FRAMED].tolist()), float(sizes.max()) or 1.0
    cells = []
    for layer, row in enumerate(rows):
        for lane, player in enumerate(row):
            if player < 0:
                continue
            name, score, error, _ = credit[player]
            title = f"{name}: {interval(score, error, places(credit), credit.reach)} {unit(credit)}"
            x, y = frame.corner(layer, lane)
            opacity = round(abs(score) / top, 3)
            cells.append(Cell(x, y, opacity, score < 0, player in framed, title))
    return tuple(cells)
