"""Does the order matter? The value while players are added or removed, among random orders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..attribution import Attribution
from ..evaluate import Curve, Score
from ..wording import bare, decimals
from .scale import Scale, Tick, marks, text
from .words import capital, noun, unit

LEFT, RIGHT, TOP, BOTTOM = 44.0, 462.0, 24.0, 198.0
WAYS = {"insertion": "added", "deletion": "removed"}


@dataclass(frozen=True)
class Drawing:
    """One pair of curve and band."""

    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    zero: float | None
    band: str  # outline
    line: str  # points
    dots: tuple[tuple[float, float], ...]
    along: str
    unit: str
    sentence: str
    caption: str


def curves(credit: Attribution, score: Score) -> tuple[Drawing, ...]:
    """The curves of a score on one pair of axes."""
    if not score.curves:
        return ()
    every = [x for c in score.curves.values() for x in (c.own, c.low, c.high)]
    low, high = min(float(x.min()) for x in every), max(float(x.max()) for x in every)
    ends = _near(low, high)
    up = Scale(*ends, size=-(BOTTOM - TOP), start=BOTTOM)
    return tuple(_drawing(credit, score, way, curve, up) for way, curve in score.curves.items())


def _near(low: float, high: float) -> tuple[float, float]:
    """A range with some room."""
    room = 0.05 * (high - low) or abs(high) or 1.0
    return low - room, high + room


def _drawing(credit: Attribution, score: Score, way: str, curve: Curve, up: Scale) -> Drawing:
    n, who = credit.players.n, noun(credit)
    done = WAYS.get(way, way)
    across = Scale(0.0, float(n), size=RIGHT - LEFT, start=LEFT)
    xs = [across.at(float(c)) for c in curve.counts]
    own, low, high = (
        [up.at(float(v)) for v in line] for line in (curve.own, curve.low, curve.high)
    )
    there = [f"{x} {y}" for x, y in zip(xs, high, strict=True)]
    back = [f"{x} {y}" for x, y in zip(xs[::-1], low[::-1], strict=True)]
    rows = tuple(Tick(up.at(v), text(v)) for v in marks(up.low, up.high, 5))
    whole = [v for v in marks(0, n, 5) if v == int(v) and v < 0.93 * n]
    columns = tuple(Tick(across.at(v), f"{int(v):,}") for v in [*whole, float(n)])
    start, end = bare(float(curve.own[0])), bare(float(curve.own[-1]))
    orders = f"{score.random} random orders" if score.random else "random orders"
    return Drawing(
        rows,
        columns,
        up.at(0.0) if up.low < 0 < up.high else None,
        f"M{'L'.join(there)}L{'L'.join(back)}Z",
        " ".join(f"{x},{y}" for x, y in zip(xs, own, strict=True)),
        tuple(zip(xs, own, strict=True)),
        f"{who} {done}, of {n:,}",
        unit(credit),
        f"The value while {who} are {done}, largest credit first: from {start} to {end} "
        f"{unit(credit)}, against the range of {orders}.",
        _caption(way, curve, who),
    )


def _caption(way: str, curve: Curve, who: str) -> str:
    """After how many players half of the way is gone, by credit and by chance."""
    head = {"insertion": "Adding.", "deletion": "Removing."}.get(way, f"{capital(way)}.")
    first, last = float(curve.own[0]), float(curve.own[-1])
    if first == last:
        return head
    middle = (first + last) / 2
    rises = last > first
    own = _reached(curve, curve.own, middle, rises=rises)
    ends = (curve.high, curve.low) if rises else (curve.low, curve.high)
    soon, late = (_reached(curve, line, middle, rises=rises) for line in ends)
    places = decimals(abs(last - first))
    way_ = f"Half of the way from {bare(first, places)} to {bare(last, places)}"
    return f"{head} {way_} is reached with {own:,} {who}; random orders take {_range(soon, late)}."


def _reached(curve: Curve, line: Tensor, middle: float, *, rises: bool) -> int:
    """How many players it takes to pass the middle for the first time."""
    past = (line >= middle) if rises else (line <= middle)
    return (
        int(curve.counts[int(past.long().argmax())]) if bool(past.any()) else int(curve.counts[-1])
    )


def _range(soon: int, late: int) -> str:
    return f"{soon:,}" if soon == late else f"{soon:,} to {late:,}"
