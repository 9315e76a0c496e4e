"""Which words: the text with the credit of each piece behind it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from ..attribution import Attribution
from ..players import Geometry
from ..wording import signed
from .words import interval, places, unit

DARKEST = 0.6  # of the colour behind a word, so that the word stays readable
MARKS = {"\n": "↵", "\r": "", "\t": "⇥"}


@dataclass(frozen=True)
class Piece:
    """A run of text that belongs to one player, or to none."""

    text: str
    opacity: float
    negative: bool
    value: str
    title: str


def text_of(credit: Attribution) -> Geometry | None:
    """The geometry of players that can be drawn as text."""
    for shape in credit.players.geometry.values():
        if shape.view == "text" and shape.site in credit.players.owner and shape.shown:
            return shape
    return None


def pieces(credit: Attribution) -> tuple[Piece, ...]:
    """The text in reading order. Neighbouring tokens of one player are one piece."""
    shape = text_of(credit)
    if shape is None or shape.site is None:
        return ()
    owner = credit.players.owner[shape.site]
    whose = owner.reshape(len(shape.shown), -1).amax(-1).tolist()
    top = float(credit.scores.abs().max()) or 1.0
    digits = min(places(credit), 2)
    out, place = [], 0
    for player, run in groupby(whose):
        length = len(list(run))
        words = "".join(shape.shown[place : place + length])
        place += length
        if not words:
            continue  # part of a character that a later token completes
        if player < 0:
            out.append(Piece(visible(words), 0.0, False, "", "always present"))
            continue
        name, score, error, _ = credit[player]
        title = f"{name}: {interval(score, error, places(credit), credit.reach)} {unit(credit)}"
        shade = round(DARKEST * abs(score) / top, 3)
        out.append(Piece(visible(words), shade, score < 0, signed(score, digits), title))
    return tuple(out)


def visible(words: str) -> str:
    """A piece of text with its line breaks and tabs as marks, without spaces at its ends."""
    for char, mark in MARKS.items():
        words = words.replace(char, mark)
    return words.strip() or "␣"
