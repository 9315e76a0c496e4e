"""Axes: where a number lands, and which round numbers stand beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..wording import signed

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """A straight axis from `low` to `high`, drawn over `size` units from `start`."""

    low: float
    high: float
    size: float = 100.0
    start: float = 0.0

    def at(self, x: float) -> float:
        """Where x is drawn."""
        return round(self.start + self.size * (x - self.low) / (self.high - self.low), 2)

    def length(self, width: float) -> float:
        """How long a stretch of that width is drawn."""
        return round(abs(self.size * width / (self.high - self.low)), 2)


@dataclass(frozen=True)
class Tick:
    """A number beside an axis."""

    at: float
    text: str


def step(span: float, count: int = 4) -> float:
    """The round distance that divides a span into about `count` parts."""
    if not math.isfinite(span) or span <= 0:
        return 1.0
    rough = span / count
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * r for r in ROUND if unit * r >= rough * 0.999)


def around(low: float, high: float, count: int = 4) -> tuple[float, float]:
    """The round numbers that enclose a range and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    by = step(high - low, count)
    ends = math.floor(low / by + 1e-9) * by, math.ceil(high / by - 1e-9) * by
    return ends if ends[0] < ends[1] else (ends[0], ends[0] + by)


def marks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from low to high, ends included where they are round."""
    by = step(high - low, count)
    first = math.ceil(low / by - 1e-9)
    return [k * by for k in range(first, math.floor(high / by + 1e-9) + 1)]


def text(x: float, *, plus: bool = True) -> str:
    """A round number without idle zeros: 0, +0.5, a true minus."""
    for places in range(7):
        if math.isclose(round(x, places), x, rel_tol=1e-6, abs_tol=1e-12):
            break
    short = signed(x, places)
    return short if plus else short.removeprefix("+")
