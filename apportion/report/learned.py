"""Which training rows: the most helpful and the most harmful, and what refits without them did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..attribution import Attribution
from ..explanation import Explanation, Refitted
from ..wording import decimals, signed
from .bars import Bars, bars, explained
from .checks import Row, Verdict, row, verdict
from .encode import SMALL, photograph, png, resized
from .words import capital, sentence, unit

SHOWN = 5  # rows at either end
SIDE = 52  # pixels of a drawn row


@dataclass(frozen=True)
class Line:
    """What training without some rows did."""

    rows: str
    measured: str
    foretold: str


@dataclass(frozen=True)
class Learned:
    """Everything that is drawn of the credit of training rows."""

    bars: Bars
    sheet: str
    thumbs: int
    shown: bool
    lede: str
    verdict: Verdict | None
    decider: Row | None
    lines: tuple[Line, ...]
    seeds: str
    notes: tuple[str, ...]
    unit: str


def learned(asked: Explanation) -> Learned | None:
    """The drawings and numbers of the training rows; None where none were asked about."""
    credit, trust = asked.examples, asked.example_trust
    if credit is None:
        return None
    sheet, places = _sheet(asked)
    first = next((c for c in trust.checks if c.role == "decides"), None) if trust else None
    ends = (SHOWN, SHOWN)
    told = asked.refitted
    seeds = f"Means over {told[0].seeds} training seeds, with 95% intervals." if told else ""
    return Learned(
        bars(credit, thumbs=places, note=explained(credit), ends=ends),
        sheet,
        len(places),
        False,
        _lede(asked, credit),
        None if trust is None else verdict(trust),
        row(first, decides=True) if first is not None and first.score is not None else None,
        tuple(_line(r) for r in told),
        seeds,
        tuple(sentence(note) for note in dict.fromkeys(credit.provenance.notes)),
        unit(credit),
    )


def _lede(asked: Explanation, credit: Attribution) -> str:
    """What a credit of a row is, and what its absence means."""
    game = credit.provenance.game
    words = f"Influence of each training row on {asked.value or 'the value'}"
    words += f", in {unit(credit)} per row." if unit(credit) else "."
    how = capital(game.removal.partition(" (")[0]) if game is not None else ""
    return f"{words} {sentence(how)}" if how else words


def _line(r: Refitted) -> Line:
    digits = decimals(max(abs(r.measured), r.half))
    return Line(
        f"the {len(r.rows)} most {r.kind}",
        f"{signed(r.measured, digits)} ± {r.half:.{digits}f}",
        signed(r.predicted, digits),
    )


def _sheet(asked: Explanation) -> tuple[str, dict[int, float]]:
    """One sheet with the pictures of the shown rows, and where each stands in it."""
    pictures, players = asked.example_pictures, asked.examples_shown
    if pictures is None or not players:
        return "", {}
    seen = pictures.numpy()
    cuts = [resized(picture, SIDE, SIDE) for picture in seen]
    last = max(len(cuts) - 1, 1)
    where = {p: round(100 * k / last, 3) for k, p in enumerate(players)}
    sheet = np.concatenate(cuts)
    small = max(seen.shape[1:3]) <= SMALL
    return (png(sheet) if small else photograph(sheet, len(sheet))), where
