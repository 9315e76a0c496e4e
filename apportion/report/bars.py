"""The ranked list: who got how much, how sure that is, and what the list leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..attribution import Attribution
from ..types import BadRequest
from ..wording import UNIT_NOTES, signed
from .scale import Scale, Tick, around, text
from .words import half, noun, places, unit

SHORT = 16  # players that are all listed at once
LONG = 60  # players of which the middle can still be unfolded
FIRST, LAST = 9, 2


@dataclass(frozen=True)
class Bar:
    """One player's line."""

    player: int
    rank: int
    name: str
    shown: str  # a column's value
    thumb: float | None  # where its picture stands in the sheet of thumbnails, per cent
    left: float
    width: float
    negative: bool
    whisker: tuple[float, float] | None  # left and width
    score: str
    error: str


@dataclass(frozen=True)
class Bars:
    """The list, its axis and its sum."""

    first: tuple[Bar, ...]
    between: tuple[Bar, ...]  # folded
    last: tuple[Bar, ...]
    gap: str  # what stands between first and last
    zero: float
    ticks: tuple[Tick, ...]
    unit: str
    total: str
    ends: str
    note: str
    noise: bool


def order(credit: Attribution) -> list[int]:
    """Players from the most positive credit down; ties by number."""
    if credit.scores.ndim != 1:
        raise BadRequest(
            f"a list needs one output, this credit has {tuple(credit.scores.shape[:-1])}; choose "
            "with credit.pick(...)"
        )
    return credit.scores.argsort(descending=True, stable=True).tolist()


def listed(
    credit: Attribution, ends: tuple[int, int] = (FIRST, LAST)
) -> tuple[list[int], list[int], list[int]]:
    """The players that stand first in the list, between, and last."""
    ranked, (first, last) = order(credit), ends
    if len(ranked) <= SHORT:
        return ranked, [], []
    return ranked[:first], ranked[first:-last], ranked[-last:]


def bars(
    credit: Attribution,
    *,
    shown: Sequence[str] = (),
    thumbs: Mapping[int, float] | None = None,
    note: str = "",
    ends: tuple[int, int] = (FIRST, LAST),
) -> Bars:
    """The drawn list of one credit."""
    first, between, last = listed(credit, ends)
    folded = between if credit.players.n <= LONG else []
    scale = _scale(credit, [*first, *folded, *last])
    rank = {player: k + 1 for k, player in enumerate(order(credit))}

    def rows(players: list[int]) -> tuple[Bar, ...]:
        pictures = thumbs or {}
        return tuple(
            _bar(credit, p, rank[p], shown[p] if shown else "", pictures.get(p), scale)
            for p in players
        )

    who = noun(credit, len(between))
    sum_ = signed(float(credit.scores[between].double().sum()), places(credit)) if between else ""
    return Bars(
        rows(first),
        rows(folded),
        rows(last),
        f"{len(between):,} {who} between, together {sum_}" if between else "",
        scale.at(0.0),
        _ticks(scale),
        unit(credit),
        *whole(credit),
        note,
        credit.noise,
    )


def clear(credit: Attribution) -> str:
    """How many credits clear zero, in words."""
    if credit.error is None:
        return ""
    count = int((credit.scores.abs() > credit.reach * credit.error).sum())
    return f"{count:,} of {credit.players.n:,} {noun(credit)} clear zero."


def explained(credit: Attribution, chance: str = "") -> str:
    """What the whiskers and the unit mean."""
    if credit.error is not None:
        words = f"± and whiskers are 95% intervals from {credit.cost}. {chance or clear(credit)}"
    else:
        words = f"No intervals: {credit.provenance.error_note or 'nothing was sampled'}."
    return f"{words} {UNIT_NOTES.get(unit(credit), '')}".strip()


def _bar(
    credit: Attribution, player: int, rank: int, shown: str, thumb: float | None, scale: Scale
) -> Bar:
    name, score, error, _ = credit[player]
    whisker = None
    if error is not None:
        whisker = (scale.at(score - credit.reach * error), scale.length(2 * credit.reach * error))
    digits = places(credit)
    return Bar(
        player,
        rank,
        name,
        shown,
        thumb,
        scale.at(min(score, 0.0)),
        scale.length(score),
        score < 0,
        whisker,
        signed(score, digits),
        half(error, digits, credit.reach),
    )


def _scale(credit: Attribution, players: list[int]) -> Scale:
    scores = credit.scores[players].double()
    wide = credit.reach * credit.error[players].double() if credit.error is not None else 0 * scores
    return Scale(*around(float((scores - wide).min()), float((scores + wide).max())))


def _ticks(scale: Scale) -> tuple[Tick, ...]:
    ends = [scale.low, 0.0, scale.high]
    return tuple(Tick(scale.at(x), text(x)) for x in dict.fromkeys(ends))


def whole(credit: Attribution) -> tuple[str, str]:
    """The sum or the difference the credits divide, and its two ends."""
    who, digits = noun(credit, credit.players.n), places(credit)
    if credit.full is None or credit.none is None:
        sum_ = signed(float(credit.sum()), digits)
        full = "" if credit.full is None else f"; with all present {signed(float(credit.full))}"
        return f"{sum_} {unit(credit)}", f"sum of all {who}{full}"
    none, full_ = float(credit.none), float(credit.full)
    total = signed(full_ - none, digits)
    ends = f"all {who}, from {signed(none, digits)} (absent) to {signed(full_, digits)}"
    return f"{total} {unit(credit)}", ends
