"""Means, standard errors, and the rules that stop sampling when they are good enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest, whole

PIECE = (
    2**26
)  # gate elements a design may hold at once; longer ones are produced and folded in pieces
FIRST = 8  # independent samples before a stopping rule is asked for the first time
Z95 = 1.959964


@runtime_checkable
class Until(Protocol):
    """A precision to stop at."""

    def __call__(self, mean: Tensor, error: Tensor) -> bool:
        """Whether scores (*out, player) with these standard errors are precise enough."""


@dataclass(frozen=True)
class StandardError:
    """Stop once the largest standard error of any player is at most `at_most`, in units of the
    value.
    """

    at_most: float

    def __post_init__(self) -> None:
        if isinstance(self.at_most, bool) or not isinstance(self.at_most, int | float):
            raise BadRequest(
                f"StandardError(at_most={self.at_most!r}): ask for a number, in units of value"
            )
        if not self.at_most > 0:
            raise BadRequest(
                f"StandardError({self.at_most}): ask for a positive precision, in units of the "
                "value"
            )

    def __call__(self, mean: Tensor, error: Tensor) -> bool:
        return bool((error <= self.at_most).all())


@dataclass(frozen=True)
class TopK:
    """Stop once the k players of largest |score| are set apart from all others at 95 % (each pair
    of them).
    """

    k: int

    def __post_init__(self) -> None:
        if whole(self.k, "k", "TopK") < 1:
            raise BadRequest(f"TopK({self.k}): ask for at least one player")

    def __call__(self, mean: Tensor, error: Tensor) -> bool:
        size = mean.abs()
        if self.k >= size.shape[-1]:
            return True
        order = size.argsort(-1, descending=True)
        size, error = size.gather(-1, order), error.gather(-1, order)
        lead = size[..., : self.k, None] - size[..., None, self.k :]
        noise = (error[..., : self.k, None] ** 2 + error[..., None, self.k :] ** 2).sqrt()
        return bool((lead > Z95 * noise).all())


class Running:
    """Mean and variance of independent samples, updated in pieces (float64)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None  # sum of squared deviations

    def add(self, samples: Float[Tensor, "sample *out player"]) -> None:
        """Folds in further samples."""
        samples = samples.double()
        count, mean = len(samples), samples.mean(0)
        squares = ((samples - mean) ** 2).sum(0)
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total, step = self.count + count, mean - self.mean
        self.squares = self.squares + squares + step**2 * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def result(self) -> tuple[Tensor, Tensor | None]:
        """Mean, and its standard error; None from a single sample, which has none."""
        if self.mean is None or self.squares is None:
            raise AssertionError("nothing was added")
        if self.count < 2:
            return self.mean, None
        return self.mean, (self.squares / (self.count - 1) / self.count).sqrt()


class Joint:
    """Means and covariances of several quantities over independent samples, updated in pieces
    (float64); for errors of functions of these means.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.cross = torch.zeros(())  # sums of products of deviations

    def add(self, samples: Float[Tensor, "sample *out player quantity"]) -> None:
        """Folds in further samples."""
        count, mean = len(samples), samples.mean(0)
        away = samples - mean
        cross = torch.einsum("s...a,s...b->...ab", away, away)
        total, step = self.count + count, mean - self.mean
        if self.count:
            product = step[..., :, None] * step[..., None, :]
            cross = self.cross + cross + product * (self.count * count / total)
            mean = self.mean + step * (count / total)
        self.count, self.mean, self.cross = total, mean, cross

    def error(self, slope: Float[Tensor, "*out player quantity"]) -> Tensor | None:
        """Standard error of a function of the means with these derivatives by them (delta method);
        None from a single sample.
        """
        if self.count < 2:
            return None
        variance = torch.einsum("...a,...ab,...b->...", slope, self.cross, slope)
        return (variance.clamp(min=0) / (self.count - 1) / self.count).sqrt()


def portions(total: int, most: int, until: Until | None) -> Iterator[int]:
    """Sizes of successive portions of `total` samples: as large as memory allows, or growing by
    half where a stopping
    rule wants to look in between. Looking seldom keeps the rule honest: each look is a chance to
    stop by luck.
    """
    done = 0
    while done < total:
        want = total if until is None else max(FIRST, done // 2)
        size = min(want, max(most, 1), total - done)
        yield size
        done += size


@runtime_checkable
class Estimate(Protocol):
    """What independent samples add up to."""

    count: int

    def result(self) -> tuple[Tensor, Tensor | None]:
        """The estimate and its standard error, if they tell one."""


def reached(until: Until | None, running: Estimate) -> bool:
    """Whether sampling may stop."""
    if until is None or running.count < FIRST:
        return False
    mean, error = running.result()
    return error is not None and until(mean, error)


def ceiling_note(
    until: Until | None, stopped: bool, ceiling: str, error: Tensor | None
) -> tuple[str, ...]:
    """Tells that a ceiling was hit before the precision that was asked for."""
    if until is None or stopped:
        return ()
    worst = "unknown" if error is None else f"{float(error.max()):.3g}"
    return (
        f"stopped at the ceiling of {ceiling} before {until} was reached; the largest standard "
        f"error is {worst}",
    )
