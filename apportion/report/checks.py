"""Can it be believed? Each check with its number, the band of random credit, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluate import Score
from ..trust import Check, Trust
from ..wording import bare, decimals, signed
from .scale import Scale, around, text
from .words import capital, sentence

GLYPHS = {"supported": "full", "weak": "half", "not supported": "barred"}
CORRELATION = "rank correlation"
COUNTS = "standard errors"  # the check whose number counts players
UNCALIBRATED = (
    "The limits behind the verdict have not yet been tested on questions whose answer is known."
)


@dataclass(frozen=True)
class Track:
    """A number on its axis, with the band where credit without information lands."""

    band: tuple[float, float]  # left and width
    zero: float | None
    tick: float
    error: tuple[float, float] | None
    low: str
    high: str
    band_text: str
    sentence: str


@dataclass(frozen=True)
class Row:
    """One check."""

    name: str
    decides: bool
    badge: str
    state: str
    glyph: str
    number: str
    unit: str
    track: Track | None
    can: str
    cannot: str


@dataclass(frozen=True)
class Verdict:
    """The outcome, beside the check that decided it."""

    state: str
    glyph: str
    head: str
    reason: str
    holds: str
    track: Track | None
    note: str


def verdict(trust: Trust) -> Verdict:
    """The strip that stands under an answer."""
    check = trust[trust.decided_by]
    number, unit = written(check)
    head = f"Decided by {check.name}: {number} {unit}." if number else f"Decided by {check.name}."
    return Verdict(
        capital(trust.verdict),
        GLYPHS[trust.verdict],
        head,
        sentence(trust.reason),
        _holds(trust),
        track(check),
        "" if trust.calibrated else UNCALIBRATED,
    )


def _holds(trust: Trust) -> str:
    """What still holds where a verdict was lowered."""
    first = next((c for c in trust.checks if c.role == "decides"), None)
    if first is None or first.name == trust.decided_by or first.score is None or not first.passed:
        return ""
    number, unit = written(first)
    return f"What holds: {first.name} is {number} {unit}; {_band(first, first.score)}."


def rows(trust: Trust) -> tuple[Row, ...]:
    """Every check, the deciding one first."""
    ordered = sorted(trust.checks, key=lambda c: (c.name != trust.decided_by, c.role == "informs"))
    return tuple(row(check, decides=check.name == trust.decided_by) for check in ordered)


def row(check: Check, *, decides: bool = False) -> Row:
    """One check's line."""
    number, unit = written(check)
    badge = "decides" if decides else "not required" if check.role == "informs" else ""
    return Row(
        capital(check.name),
        decides,
        badge,
        capital(check.state),
        glyph(check),
        number,
        _beside(check, unit),
        track(check),
        sentence(check.can),
        sentence(check.cannot),
    )


def glyph(check: Check) -> str:
    """The shape of an outcome: full, half, barred, or a dotted ring."""
    if check.passed is None:
        return "ring"
    if not check.passed:
        return "barred"
    return "half" if check.state == "just outside" else "full"


def written(check: Check) -> tuple[str, str]:
    """The number of a check and its unit."""
    score = check.score
    if score is None or score.value is None:
        return "", ""
    if check.name == COUNTS and score.best is not None:
        return f"{score.value:,.0f}", f"of {score.best:,.0f} {score.unit}"
    number = signed(score.value, decimals(abs(score.value)) if score.unit != CORRELATION else 2)
    if check.wants != "outside" and score.best is not None and score.unit != CORRELATION:
        return number, f"of {signed(score.best, decimals(abs(score.best)))} {score.unit}"
    return number, score.unit


def _beside(check: Check, unit: str) -> str:
    """The unit, with what else is known of the number."""
    score = check.score
    if score is None:
        return ""
    words = [unit] if unit else []
    if score.error is not None:
        words.append(f"standard error {_few(score.error)}")
    if score.p_value is not None:
        words.append(f"p = {score.p_value:.2g}")
    return ", ".join(words)


def _few(error: float) -> str:
    """Two digits after the point: this number only says how far another one can be trusted."""
    return "<0.01" if 0 < error < 0.005 else bare(error)


def track(check: Check) -> Track | None:
    """The axis of a check; none where it says nothing."""
    score = check.score
    if score is None or score.value is None or score.chance is None or check.wants == "nothing":
        return None
    low, high = _ends(check, score)
    scale = Scale(low, high)
    error = None
    if score.error is not None:
        first = max(score.value - score.error, low)
        error = (scale.at(first), scale.length(min(score.value + score.error, high) - first))
    words = _band(check, score)
    number, unit = written(check)
    plus = check.name != COUNTS
    left, right = max(score.chance[0], low), min(score.chance[1], high)
    return Track(
        (scale.at(left), max(scale.length(right - left), 0.4)),
        scale.at(0.0) if low < 0 < high else None,
        scale.at(score.value),
        error,
        text(low, plus=plus),
        text(high, plus=plus),
        words,
        f"{number} {unit}; {words}; scale {text(low, plus=plus)} to {text(high, plus=plus)}",
    )


def _band(check: Check, score: Score) -> str:
    if score.chance is None:
        return ""
    if check.name == COUNTS:
        return f"{check.band} {score.chance[0]:.0f} to {score.chance[1]:.0f}"
    low, high = score.chance
    digits = 2 if score.unit == CORRELATION else decimals(max(abs(low), abs(high)))
    return f"{check.band} {signed(low, digits)} to {signed(high, digits)}"


def _ends(check: Check, score: Score) -> tuple[float, float]:
    if score.unit == CORRELATION:
        return -1.0, 1.0
    if check.name == COUNTS and score.best is not None:
        return 0.0, score.best
    assert score.value is not None
    assert score.chance is not None
    low, high = min(score.value, score.chance[0]), max(score.value, score.chance[1])
    return around(1.02 * low if low < 0 else low, 1.02 * high if high > 0 else high, 8)
