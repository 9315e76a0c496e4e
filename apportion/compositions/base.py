"""One method of the literature as choices of this library, and its code."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from ..backward import Rules
from ..estimators import Method


@dataclass(frozen=True)
class Composition:
    """One method of the literature as choices of this library."""

    means: str  # what its number says of a player
    estimator: Method[Any]
    players: str = "pixels(x)"
    removal: str = "Blend(removals.zeros())"
    rules: Rules | None = None
    game: str = ""  # how the game is built, where it is not a ModelGame of these players
    then: str = ""  # what is made of the credit
    lines: str = ""  # the whole code, where it has another shape
    kept: str = ""  # what is promised, where it is not what the estimator promises
    given: tuple[str, ...] = ()  # what the code needs besides model, x and value
    cites: tuple[str, ...] = ()  # besides those of the rules; none = those of the estimator
    differs: str = ""  # from what other libraries call so

    @property
    def works(self) -> tuple[str, ...]:
        """Keys of the works to cite: those of the composition, else those of its estimator."""
        rules = () if self.rules is None else self.rules.cites
        return tuple(dict.fromkeys((*self.cites, *rules))) or self.estimator.cites

    @property
    def promises(self) -> str:
        """What holds of the numbers; a bent derivative keeps no promise of its estimator."""
        if self.kept:
            return self.kept
        if self.rules is None:
            return ", ".join(sorted(axiom.value for axiom in self.estimator.axioms)) or "nothing"
        if self.rules.conserves:
            return "to sum to a value linear in the logits, where there are no biases"
        return "nothing, as derivatives are bent"

    @property
    def code(self) -> str:
        """A few lines of Python that end with a `credit`."""
        if self.lines:
            return self.lines
        removal = self.removal
        for name in ("removals.", "Blend(", "Jitter("):
            removal = removal.replace(name, f"ap.{name}")
        under = "" if self.rules is None else f".under(ap.backward.{self.rules})"
        built = self.game or (
            f"ap.ModelGame(model, x, value, ap.players.{self.players}, {removal})"
        )
        asked = f"credit = ap.attribute(game{under}, {written(self.estimator)})"
        return "\n".join([f"game = {built}", asked, *([self.then] if self.then else [])])


def plain(name: str) -> str:
    """A name as it is compared: hyphens, underscores, spaces and capitals make no difference, plus
    signs do (grad-cam, grad-cam++).
    """
    return re.sub(r"[-_\s]", "", name.lower())


def written(estimator: Method[Any]) -> str:
    """An estimator as one writes it: options at their defaults are left out."""
    kind: Any = type(estimator)
    given = [(f.name, vars(estimator)[f.name], f.default) for f in fields(kind)]
    changed = [
        f"{name}={_code(v)}" for name, v, default in given if default is MISSING or v != default
    ]
    return f"ap.{kind.__name__}({', '.join(changed)})"


def _code(option: object) -> str:
    """An option as it is written where only `ap` is imported."""
    return f"ap.{option!r}" if isinstance(option, Enum) else repr(option)


UNIT = "Blend(removals.step(1.0))"
ROWS = "Blend(removals.rows(background))"
GRID = "patches(x, 32)"
CELLS = "cells(model, layer, input=x)"
