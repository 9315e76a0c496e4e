"""References made of Gaussian noise: a new input for every draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..taps import Call
from ..types import BadRequest, number, positive, told
from .base import ENDLESS

SIGMA = "sigma is a standard deviation"


@dataclass(frozen=True)
class Noisy:
    """The input with noise on top."""

    sigma: float
    draws: int | None = None
    size: int = ENDLESS
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        name = call.first()
        x = _numbers(call.tensors()[name], self)
        return call.replacing(name, x + self.sigma * _normal(x, index))

    def __repr__(self) -> str:
        return f"noisy({self.sigma:g})"


@dataclass(frozen=True)
class Noise:
    """Noise instead of the input."""

    sigma: tuple[float, ...]  # one, or one per channel
    mean: tuple[float, ...]
    draws: int | None = None
    size: int = ENDLESS
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        name = call.first()
        x = _numbers(call.tensors()[name], self)
        sigma, mean = (_channels(given, x, self) for given in (self.sigma, self.mean))
        return call.replacing(name, (mean + sigma * _normal(x, index)).expand_as(x).clone())

    def __repr__(self) -> str:
        return f"noise({_short(self.sigma)}, mean={_short(self.mean)})"


def noisy(sigma: float) -> Noisy:
    """Absent = the input with Gaussian noise of standard deviation `sigma` on top, in the input's
    own units (inside the model: the activations it causes).

    Draws are unlimited, so say how many to average: `ap.averaged(game, draws=20)`. A draw is the
    same noise for every coalition and instance. Information is spoilt, not taken away: large parts
    of the input survive where sigma is small against their contrast.
    """
    return Noisy(positive(sigma, "noisy", SIGMA, "noisy(0.1), or Blend(zeros()) for no noise"))


def noise(sigma: float | tuple[float, ...], mean: float | tuple[float, ...] = 0.0) -> Noise:
    """Absent = Gaussian noise of this mean and standard deviation and nothing of the input (inside
    the model: the activations it causes). Numbers, or one per channel or column.

    Draws are unlimited, so say how many to average: `ap.averaged(game, draws=20)`. A draw is the
    same noise for every coalition and instance.
    """
    call = "noise(1.0), or one number per channel, noise((1.0, 2.0))"
    widths = tuple(positive(s, "noise", SIGMA, call) for s in _several(sigma))
    middles = tuple(number(m) for m in _several(mean))
    if not all(math.isfinite(m) for m in middles):
        raise BadRequest(
            f"noise(mean={told(mean)}): the mean must be finite, one number or a tuple of one per "
            "channel; noise(1.0) has mean 0"
        )
    return Noise(widths, middles)


def _several(given: float | tuple[float, ...]) -> tuple[float, ...]:
    given = given if isinstance(given, tuple) else (given,)
    if not given:
        raise BadRequest("noise(()) has no numbers; give one, or one per channel")
    return given


def _numbers(x: Tensor, reference: object) -> Tensor:
    if not x.is_floating_point():
        raise BadRequest(
            f"{reference!r}: the input is {x.dtype}, and noise on token numbers means nothing. Use "
            "Blend(resample(windows)) or Infill for text"
        )
    return x


def _channels(given: tuple[float, ...], x: Tensor, reference: object) -> Tensor:
    """One number, or one per entry of the first axis of an instance."""
    if len(given) not in (1, x.shape[1] if x.ndim > 1 else 1):
        raise BadRequest(
            f"{reference!r} has {len(given)} numbers, the input {tuple(x.shape)}; give one, or one "
            "per channel or column (its second axis)"
        )
    numbers = torch.tensor(given, dtype=x.dtype, device=x.device)
    return numbers.reshape(1, -1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else numbers


def _normal(x: Tensor, index: int) -> Tensor:
    """Drawn on the CPU in float32, so that every device sees the same; instances share it."""
    drawn = torch.randn(x[:1].shape, generator=Generator().manual_seed(index))
    return drawn.to(x)


def _short(numbers: tuple[float, ...]) -> str:
    return f"{numbers[0]:g}" if len(numbers) == 1 else f"({', '.join(f'{n:g}' for n in numbers)})"
