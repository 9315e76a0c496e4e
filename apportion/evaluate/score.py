"""What a metric says about a credit, and where credit that knows nothing would land."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..types import BadRequest, Cost

LEVEL = 0.05  # p-value at which a score counts as better than random credit


@dataclass(frozen=True, eq=False)
class Curve:
    """The value while players are added or removed, against the range of random orders."""

    counts: Tensor  # how many players were added or removed, (point)
    own: Tensor  # the value in order of credit, (point)
    low: Tensor  # smallest value of any random order, (point)
    high: Tensor  # largest


@dataclass(frozen=True, eq=False)
class Score:
    """A number that judges a credit, with the band where credit without information lands."""

    value: float | None  # None = undefined here; `note` says why
    unit: str
    better: Literal["higher", "lower"] = "higher"
    # a random credit lies above it, and below it, with probability at most LEVEL each
    chance: tuple[float, float] | None = None
    p_value: float | None = None  # how often random credit is at least as good; one-sided
    best: float | None = None  # the largest possible value, where it is known
    random: int = 0  # how many random credits the band rests on
    error: float | None = None  # standard error of the value itself
    interval: tuple[float, float] | None = None  # 95% of the value itself, where it was drawn anew
    cost: Cost = Cost()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    note: str = ""

    @property
    def outside(self) -> bool | None:
        """Whether the value beats random credit; None where it cannot be told, as with so few
        random credits that beating them all is no surprise.
        """
        if self.value is None or self.chance is None:
            return None
        if self.random and 1 / (self.random + 1) > LEVEL:
            return None
        low, high = self.chance
        return self.value > high if self.better == "higher" else self.value < low

    @property
    def clear(self) -> bool | None:
        """Whether it beats random credit by more than its own standard error."""
        if not self.outside or self.error is None or self.value is None or self.chance is None:
            return self.outside
        low, high = self.chance
        distance = self.value - high if self.better == "higher" else low - self.value
        return distance > self.error

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined: {self.note}"
        text = f"{self.value:+.3g} {self.unit}"
        if self.interval is not None:
            text += f" (95% {self.interval[0]:+.3g} to {self.interval[1]:+.3g})"
        if self.chance is not None:
            text += f", random credit {self.chance[0]:+.3g} to {self.chance[1]:+.3g}"
        return text + (f", p = {self.p_value:.3g}" if self.p_value is not None else "")


def undefined(unit: str, why: str, cost: Cost | None = None) -> Score:
    """A score that has no value on this credit and game."""
    return Score(None, unit, note=why, cost=Cost() if cost is None else cost)


def band(random: Tensor, *, sides: Literal["above", "both"] = "above") -> tuple[float, float]:
    """The edges that random credit passes with probability at most LEVEL on each side.

    Of m random values together with the one judged, the judged one is among the j largest with
    probability j / (m + 1) if it knows nothing; the edge is the largest j with that at most LEVEL
    (half of it where both sides are looked at). With too few random values: the largest and the
    smallest.
    """
    level = LEVEL if sides == "above" else LEVEL / 2
    skip = max(math.floor(level * (len(random) + 1)) - 1, 0)
    ordered = random.sort().values
    return float(ordered[skip]), float(ordered[len(ordered) - 1 - skip])


def p_value(value: float, random: Tensor) -> float:
    """Share of random credits, the judged one among them, that reach the value."""
    return (1 + int((random >= value).sum())) / (len(random) + 1)


def single(credit: Attribution) -> Tensor:
    """The scores of a credit with one output, in double precision on the CPU."""
    if credit.scores.ndim != 1:
        raise BadRequest(
            f"a metric judges one output; this credit has {tuple(credit.scores.shape[:-1])}, "
            "choose with credit.pick(...) and ask the game with ap.picked(...)"
        )
    return credit.scores.detach().double().cpu()


def ranking(scores: Tensor, rng: Generator) -> Tensor:
    """Players from the largest score down; ties in random order, never by number."""
    shuffled = torch.randperm(len(scores), generator=rng)
    return shuffled[scores[shuffled].argsort(descending=True, stable=True)]


def seeded(rng: Generator | None) -> Generator:
    """The given generator, or one with seed 0."""
    return Generator().manual_seed(0) if rng is None else rng
