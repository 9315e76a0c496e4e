"""The words every other module shares: prices, claims, and what can go wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from types import FunctionType
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Coalitions = Bool[Tensor, "row player"]  # True = present
Gates = (
    Coalitions | Float[Tensor, "row player"]
)  # bool = hard coalition, float = soft, 0 absent ... 1 present
Values = Float[Tensor, "row *out"]  # *out: nothing, targets, or instances
Grads = Float[Tensor, "row *out player"]
Draw = Int[Tensor, "row"]  # which latent state of a stochastic game


@dataclass(frozen=True)
class Cost:
    """How many gate rows an estimator asks about: values, and values with gradients."""

    evaluations: int = 0
    gradients: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.evaluations + other.evaluations, self.gradients + other.gradients)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.evaluations * times, self.gradients * times)

    def within(self, bound: Cost) -> bool:
        """Whether neither count exceeds the bound's."""
        return self.evaluations <= bound.evaluations and self.gradients <= bound.gradients

    def __str__(self) -> str:
        counts = ((self.evaluations, "evaluation"), (self.gradients, "gradient"))
        parts = [f"{count:,} {what}{'' if count == 1 else 's'}" for count, what in counts if count]
        return " and ".join(parts) or "no evaluations"


@dataclass(frozen=True)
class Work:
    """What one request really takes of the model: forward passes, backward passes, fits."""

    forwards: float = 1
    backwards: float = 0
    fits: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.forwards + other.forwards, self.backwards + other.backwards, self.fits + other.fits
        )

    def __mul__(self, times: float) -> Work:
        return Work(self.forwards * times, self.backwards * times, self.fits * times)


class Axiom(Enum):
    """What an estimator promises about its scores, whatever the game and the seed."""

    ADDITIVE = "additive"  # on a game that is a sum over players, each score is that player's term
    # of sets: on a game that is a sum over sets of at most `order` players, each scores its term
    RECOVERY = "recovery"
    EFFICIENCY = "efficiency"  # scores add up to v(all players) - v(no player)
    DUMMY = "dummy"  # a player that never changes the value scores 0
    SYMMETRY = "symmetry"  # interchangeable players score the same
    # the scores of a*v + b*w are a times those of v plus b times those of w
    LINEARITY = "linearity"


@runtime_checkable
class Cited(Protocol):
    """Whatever comes from the literature and says from where: keys of `citations`."""

    @property
    def cites(self) -> tuple[str, ...]: ...


@runtime_checkable
class WithLogits(Protocol):
    """An output that names its logits, as those of Hugging Face and torchvision do."""

    logits: Tensor


class BadRequest(ValueError):
    """The question cannot be answered as asked; the message names the next call to write."""


class NotSoft(BadRequest):
    """Fractional gates or gradients were asked of a game that only knows present and absent."""


class OverBudget(RuntimeError):
    """The answer would take, or took, more evaluations than were allowed."""


def number(given: object) -> float:
    """A plain number, also as a tensor without axes; NaN for anything else: no bound holds."""
    if isinstance(given, Tensor) and given.ndim == 0:
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, Real):
        return math.nan
    try:
        return float(given)
    except OverflowError:
        return math.inf


def positive(given: object, asked: str, meaning: str, call: str) -> float:
    """A positive, finite number; anything else is refused with a call that is right."""
    got = number(given)
    if not 0 < got < math.inf:
        raise BadRequest(
            f"{asked}({told(given)}): {meaning}; it must be positive and finite, one number. Write "
            f"{call}"
        )
    return got


def told(given: object) -> str:
    """What was given, on one line."""
    if isinstance(given, Tensor):
        return f"a tensor {tuple(given.shape)}" if given.ndim else f"{given.item()}"
    return given.__name__ if isinstance(given, type | FunctionType) else repr(given)


def whole(given: object, name: str, owner: str = "", near: int = 16) -> int:
    """An option that counts something: an int, not a bool and not a float. `near` is advised where
    nothing is near to what was given.
    """
    if isinstance(given, bool) or not isinstance(given, int):
        asked = f"{owner}({name}={given!r})" if owner else f"{name}={given!r}"
        near = int(given) if isinstance(given, float) and 1 <= given < 1e9 else near
        raise BadRequest(
            f"{asked}: a whole number is needed, this is a {type(given).__name__}; write "
            f"{name}={near}"
        )
    return given
