"""A matplotlib figure of one attribution: the picture or the text with its credit, and bars."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from ..attribution import Attribution
from ..players import Geometry
from ..types import BadRequest
from ..wording import signed
from .bar_chart import BAR, BLUE, INK, ORANGE, QUIET, bar_chart
from .bars import order
from .encode import SMALL
from .picture import AGAINST, FOR, owners, pixels, shape_of
from .text import pieces, text_of
from .words import capital, kinds, places, quantity, unit

DIM = (-150, 300)  # the greys of pixel art, so that colours stay visible on black
OPACITY = 0.85


def plot(credit: Attribution, *, top: int = 12, ax: Any = None) -> Any:
    """A figure of the credit: over the picture and as bars, behind the text and as bars, or bars.

    `top` players with the largest credit become bars. With `ax` only one drawing is made, there:
    the picture, the text, or the bars. Needs matplotlib.
    """
    pyplot = matplotlib()
    if top < 1:
        raise BadRequest(f"plot(top={top}): draw at least one player")
    order(credit)  # refuses credit of several outputs
    drawn = _drawing(credit)
    if ax is not None:
        (drawn or _bars)(credit, ax, top)
        return ax.figure
    high = max(1.6, BAR * min(top, credit.players.n) + 0.9)
    figure = pyplot.Figure(figsize=(9.5 if drawn else 6.4, max(high, 3.6 if drawn else 0)))
    if drawn is None:
        _bars(credit, figure.subplots(), top)
    else:
        left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
        _bars(credit, right, top)
        figure.tight_layout()  # words are measured against axes that move no more
        drawn(credit, left, top)
        return figure
    figure.tight_layout()
    return figure


def _drawing(credit: Attribution) -> Callable[[Attribution, Any, int], None] | None:
    """What suits the players, besides bars."""
    if shape_of(credit) is not None:
        return _picture
    if text_of(credit) is not None:
        return _text
    return _curve if curve_of(credit) is not None else None


def _bars(credit: Attribution, ax: Any, top: int) -> None:
    """Horizontal bars with 95 % intervals, the largest credit on top."""
    chosen = credit.scores.abs().argsort(descending=True, stable=True)[:top].tolist()
    chosen.sort(key=lambda player: float(credit.scores[player]))
    rows = [credit[player] for player in chosen]
    bar_chart(ax, rows, credit.reach, f"{quantity(credit)}, {unit(credit)}".rstrip(", "))
    left = credit.players.n - len(rows)
    if left:
        rest = float(credit.sum()) - sum(row.score for row in rows)
        words = f"{left:,} others, together {signed(rest, places(credit))}"
        ax.set_title(words, fontsize=9, color=QUIET, loc="right")


def _picture(credit: Attribution, ax: Any, top: int) -> None:
    """The picture in grey under the colours of credit."""
    shape = shape_of(credit)
    assert shape is not None
    owner = owners(credit, shape)
    field = np.append(credit.scores.double().cpu().numpy(), 0.0)[owner]  # -1, nobody, is the last
    largest = float(np.abs(credit.scores.double().cpu().numpy()).max()) or 1.0
    height, width = owner.shape
    extent = (0, width, height, 0)
    if shape.picture is not None:
        grey = pixels(shape.picture).astype(float).mean(-1)
        low, high = DIM if max(grey.shape) <= SMALL else (0, 255)
        ax.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=extent, aspect="auto")
        ax.set_box_aspect(grey.shape[0] / grey.shape[1])
    colours = np.where((field < 0)[..., None], np.array(AGAINST) / 255, np.array(FOR) / 255)
    alpha = OPACITY * np.abs(field)[..., None] / largest
    overlay = np.concatenate([colours, alpha], -1)
    ax.imshow(overlay, extent=extent, aspect="auto", interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(_title(credit), fontsize=9, color=QUIET, loc="left")


def _text(credit: Attribution, ax: Any, top: int) -> None:
    """The text in reading order, each piece on its colour."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_title(_title(credit), fontsize=9, color=QUIET, loc="left")
    frame, x, y = ax.get_window_extent(), 0.0, 0.95
    for piece in pieces(credit):
        colour = ORANGE if piece.negative else BLUE
        box = {"facecolor": colour, "alpha": piece.opacity, "edgecolor": "none", "pad": 2.0}
        word = ax.text(
            x, y, piece.text, fontsize=12, va="top", bbox=box, parse_math=False, color=INK
        )
        wide = word.get_window_extent().width / frame.width
        if x and x + wide > 1:
            x, y = 0.0, y - 0.13
            word.set_position((x, y))
        x += wide + 0.025


def curve_of(credit: Attribution) -> Geometry | None:
    """The geometry of players that own places along a curve."""
    for shape in credit.players.geometry.values():
        if shape.view == "signal" and shape.site in credit.players.owner:
            return shape
    return None


def _curve(credit: Attribution, ax: Any, top: int) -> None:
    """The signal or its spectrum, each stretch of one player on its colour."""
    shape = curve_of(credit)
    assert shape is not None and shape.site is not None and shape.trace is not None
    place, height = shape.trace.double().numpy()
    step = place[1] - place[0] if len(place) > 1 else 1.0
    largest = float(credit.scores.abs().max()) or 1.0
    start = 0
    for player, run in groupby(credit.players.owner[shape.site].flatten().tolist()):
        stop = start + len(list(run))
        if player >= 0:
            score = float(credit.scores[player])
            ends = (place[0] + (start - 0.5) * step, place[0] + (stop - 0.5) * step)
            colour, alpha = ORANGE if score < 0 else BLUE, OPACITY * abs(score) / largest
            ax.axvspan(*ends, color=colour, alpha=alpha, linewidth=0)
        start = stop
    ax.plot(place, height, color=INK, linewidth=1.0)
    ax.margins(x=0)
    ax.tick_params(length=0, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(" ".join(shape.shown), fontsize=9, color=QUIET)
    ax.set_title(_title(credit), fontsize=9, color=QUIET, loc="left")


def _title(credit: Attribution) -> str:
    return f"{capital(kinds(credit))}: blue for, orange against"


def matplotlib() -> Any:
    """Its pyplot, or a refusal that names the extra."""
    try:
        # also tells notebooks how to show figures; no figure is kept by it
        from matplotlib import pyplot
    except ImportError as missing:
        raise BadRequest("plot needs matplotlib: pip install 'apportion[app]'") from missing
    return pyplot
