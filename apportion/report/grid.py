"""A map of pairs: rows by columns of coloured cells, blue for and orange against."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..wording import decimals, signed
from .page import ENVIRONMENT
from .picture import AGAINST, FOR

MOST = 40  # rows and columns that are drawn, those of largest scores
NAMED = 60  # labels along one side of a figure
ID = 6  # bytes that tell one block of a notebook from the next


@dataclass(frozen=True)
class Cell:
    """One pair."""

    opacity: float
    negative: bool
    title: str


@dataclass(frozen=True)
class Row:
    """One player's pairs."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """The pairs that are drawn, and what is left out."""

    rows: tuple[Row, ...] = ()
    columns: tuple[str, ...] = ()
    left_out: str = ""


def grid(scores: Tensor, down: Sequence[str], across: Sequence[str], unit: str = "") -> Grid:
    """Cells of the rows and columns with the largest scores, in their own order."""
    size = scores.double().abs()
    rows, columns = _leading(size.sum(1)), _leading(size.sum(0))
    largest, places = float(size.max()) or 1.0, decimals(float(size.max()))

    def cell(i: int, j: int) -> Cell:
        x = float(scores[i, j])
        title = f"{down[i]}, {across[j]}: {signed(x, places)} {unit}".rstrip()
        return Cell(round(abs(x) / largest, 3), x < 0, title)

    lines = tuple(Row(down[i], tuple(cell(i, j) for j in columns)) for i in rows)
    parts = [
        f"{len(shown)} of {len(names)} {what}"
        for shown, names, what in ((rows, down, "rows"), (columns, across, "columns"))
        if len(shown) < len(names)
    ]
    note = f"The map shows {' and '.join(parts)}, those of largest scores." if parts else ""
    return Grid(lines, tuple(across[j] for j in columns), note)


def block(head: str, drawn: Grid, top: Sequence[str], note: str) -> str:
    """A block for notebooks."""
    said = " ".join(filter(None, (note, drawn.left_out)))
    return ENVIRONMENT.get_template("grid.html").render(
        id=f"ap{secrets.token_hex(ID)}",
        head=head,
        rows=drawn.rows,
        columns=drawn.columns,
        top=top,
        note=said,
    )


def cells(ax: Any, scores: Tensor, down: Sequence[str], across: Sequence[str]) -> None:
    """The map as a drawing: full colour is the largest score."""
    values = scores.double().cpu().numpy()
    largest = float(np.abs(values).max()) or 1.0
    colour = np.where((values < 0)[..., None], np.array(AGAINST), np.array(FOR)) / 255
    share = np.abs(values)[..., None] / largest
    ax.imshow(1 - share * (1 - colour), interpolation="nearest", aspect="auto")
    for names, place, turned in ((across, ax.set_xticks, 90), (down, ax.set_yticks, 0)):
        every = -(-len(names) // NAMED)
        at = list(range(0, len(names), every))
        place(at, [names[i] for i in at], rotation=turned, fontsize=8)
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        label.set_parse_math(False)
    ax.tick_params(length=0)


def _leading(size: Tensor) -> list[int]:
    return torch.topk(size, min(MOST, len(size))).indices.sort().values.tolist()
