"""Scores as horizontal bars, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..attribution import Credit
from ..interactions import SetCredit

BLUE, ORANGE, INK, QUIET = "#0b5fa5", "#bd5208", "#16181c", "#666c75"
PALE = "#4f8cbf"  # of bars, so that whiskers stay visible on them
HATCH = "////"
BAR = 0.28  # inches a bar takes


def bar_chart(ax: Any, rows: Sequence[Credit | SetCredit], reach: float, label: str) -> None:
    """Bars from the bottom up, with intervals of `reach` standard errors; negative ones hatched."""
    scores = [row.score for row in rows]
    told = any(row.error is not None for row in rows)
    bars = ax.barh(
        range(len(rows)),
        scores,
        xerr=[reach * (row.error or 0.0) for row in rows] if told else None,
        height=0.62,
        color=[ORANGE if score < 0 else PALE for score in scores],
        error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
    )
    for bar, score in zip(bars, scores, strict=True):
        if score < 0:
            bar.set_hatch(HATCH)
            bar.set_edgecolor("white")
    ax.set_yticks(range(len(rows)), [row.name for row in rows])
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.tick_params(length=0, labelsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(label, fontsize=9, color=QUIET)
