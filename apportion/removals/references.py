"""References: zeros, one step away, the mean or single rows of a background, a blurred or another
input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from ..taps import Call
from ..types import BadRequest, number, positive, told


@dataclass(frozen=True)
class Constant:
    """A number everywhere; 0 for `zeros()`."""

    value: float = 0.0
    draws: int | None = 1
    size: int = 1
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return torch.full_like(x, self.value)

    def inputs(self, call: Call, index: int) -> Call | None:
        return None

    def __repr__(self) -> str:
        return "zeros()" if self.value == 0 else f"constant({self.value})"


@dataclass(frozen=True)
class Step:
    """A reference `size` below the input in every coordinate: turns gate gradients into plain
    gradients.
    """

    by: float
    draws: int | None = 1
    size: int = 1
    pooled: bool = False
    absence: bool = False

    def constant(self, x: Tensor) -> Tensor | None:
        return x - self.by

    def inputs(self, call: Call, index: int) -> Call | None:
        return None

    def __repr__(self) -> str:
        return f"step({self.by})"


@dataclass(frozen=True)
class Blur:
    """The input blurred by a Gaussian of `sigma` pixels; edges repeat the border pixel."""

    sigma: float
    draws: int | None = 1
    size: int = 1
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        name = call.first()
        return call.replacing(name, gaussian_blur(call.tensors()[name], self.sigma))

    def __repr__(self) -> str:
        return f"blur({self.sigma:g})"


@dataclass(frozen=True, eq=False)
class Other:
    """The activations of another input of the same shape, such as a counterfactual prompt or
    picture.
    """

    input: Any
    draws: int | None = 1
    size: int = 1
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        if isinstance(self.input, Tensor):
            name = call.first()
            return call.replacing(name, _like(self.input, call.tensors()[name], "counterfactual"))
        other = Call.of(self.input)
        if len(other.args) != len(call.args) or other.kwargs.keys() - call.kwargs.keys():
            raise BadRequest(
                f"counterfactual: its arguments are {[name for name, _ in other.items()]}, those "
                f"of the input {[name for name, _ in call.items()]}; give the same ones"
            )
        return Call(other.args, {**call.kwargs, **other.kwargs})

    def __repr__(self) -> str:
        return f"counterfactual({_sketch(self.input)})"


@dataclass(frozen=True, eq=False)
class Pool:
    """Other inputs, first axis = which one: averaged, taken one per draw, or drawn at random."""

    rows: Tensor
    draws: int | None
    pooled: bool
    name: str
    absence: bool = True

    @property
    def size(self) -> int:
        return len(self.rows)

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        name = call.first()
        row = self.rows[index][None]
        return call.replacing(name, _like(row, call.tensors()[name], self.name))

    def __repr__(self) -> str:
        return f"{self.name}({_sketch(self.rows)})"


def zeros() -> Constant:
    """Absent = 0 at the site: black or grey for a normalised picture, no contribution for an
    activation.
    """
    return Constant()


def constant(value: float) -> Constant:
    """Absent = the same number everywhere."""
    if not math.isfinite(number(value)):
        raise BadRequest(
            f"constant({told(value)}): absent elements get one finite number everywhere; write "
            "constant(0.5). For one each, counterfactual(x)"
        )
    return Constant(number(value))


def step(size: float = 1.0) -> Step:
    """Not an absence: one unit away in every coordinate, so that `Gradient` is the plain gradient
    (saliency map).

    v(no player) is undefined under it, and estimators that ask for it are refused.
    """
    if not math.isfinite(number(size)):
        raise BadRequest(
            f"step({told(size)}): one finite number for every coordinate; write step(1.0)"
        )
    if size == 0:
        raise BadRequest("step(0) moves nothing; the plain gradient is step(1.0)")
    return Step(number(size))


def blur(sigma: float) -> Blur:
    """Absent = the picture blurred by a Gaussian of `sigma` pixels (at other sites: the
    activations it causes).
    """
    return Blur(positive(sigma, "blur", "sigma is in pixels", "blur(10.0)"))


def counterfactual(x: Any) -> Other:
    """Absent = what another input of the same shape has there: a clean/corrupt pair, as in
    activation patching.
    """
    return Other(x)


def mean(rows: Tensor | Sequence[Any]) -> Pool:
    """Absent = the average over these inputs (first axis = which one), at the site in question."""
    pool = _pool(rows, "mean")
    return Pool(pool, len(pool), True, "mean")


def rows(background: Tensor | Sequence[Any]) -> Pool:
    """Absent = what a background row has there, one row per draw, averaged over all of them:
    marginal removal.

    With Shapley estimators this is interventional SHAP. The cost of every coalition is multiplied
    by the rows.
    """
    pool = _pool(background, "rows")
    return Pool(pool, len(pool), False, "rows")


def resample(background: Tensor | Sequence[Any]) -> Pool:
    """Absent = what a randomly drawn background input has there; draws are unlimited, so say how
    many to average:
    `ap.averaged(game, draws=20, seed=0)`. For pools too large to go through in full.
    """
    return Pool(_pool(background, "resample"), None, False, "resample")


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur over the last two axes, kernel cut at 4 sigma, borders repeated."""
    if x.ndim < 3 or not x.is_floating_point():
        raise BadRequest(
            f"blur needs a float picture (batch, ..., height, width); the input is {x.dtype} "
            f"{tuple(x.shape)}"
        )
    radius = max(int(4 * sigma + 0.5), 1)
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (place / sigma) ** 2)
    wide = torch.promote_types(x.dtype, torch.float32)  # half precision would not sum to 1
    kernel = (weights / weights.sum()).to(x.device, wide)[None, None]
    out = x.to(wide)
    for _ in range(2):  # one axis at a time; after two swaps the axes are back in place
        line = out.reshape(-1, 1, out.shape[-1])
        line = conv1d(pad(line, (radius, radius), mode="replicate"), kernel)
        out = line.reshape(out.shape).transpose(-1, -2)
    return out.contiguous().to(x.dtype)


def _pool(given: Tensor | Sequence[Any], name: str) -> Tensor:
    if isinstance(given, Mapping):
        raise BadRequest(
            f"{name}(...) takes a tensor whose first axis says which input; got a mapping"
        )
    pool = given if isinstance(given, Tensor) else _stacked(given, name)
    if pool.ndim == 0 or len(pool) == 0:
        raise BadRequest(f"{name}(...) got no rows; give at least one background input")
    if pool.is_floating_point() and not bool(torch.isfinite(pool).all()):
        raise BadRequest(f"{name}(...) holds NaN or infinite numbers; clean it first")
    return pool


def _stacked(given: Sequence[Any], name: str) -> Tensor:
    try:
        return torch.stack([torch.as_tensor(row) for row in given])
    except (RuntimeError, TypeError, ValueError) as failure:
        raise BadRequest(
            f"{name}(...) takes a tensor, or inputs of one shape without batch axis: {failure}"
        ) from failure


def _like(other: Tensor, x: Tensor, name: str) -> Tensor:
    """The other input, checked to have the shape of the explained one."""
    if other.shape[1:] != x.shape[1:]:
        raise BadRequest(
            f"{name}: the reference has shape {tuple(other.shape[1:])} per instance, the input "
            f"{tuple(x.shape[1:])}. Align them: for text use two prompts with the same number of "
            "tokens, changing one token at a time; for pictures resize the reference."
        )
    if other.is_floating_point() and not bool(torch.isfinite(other).all()):
        raise BadRequest(
            f"{name}: the reference holds NaN or infinite numbers; clean it first "
            "(torch.nan_to_num)"
        )
    if other.is_floating_point() != x.is_floating_point():
        raise BadRequest(
            f"{name}: the reference is {other.dtype}, the input {x.dtype}; prepare both the same "
            "way"
        )
    if len(other) not in (1, len(x)):
        raise BadRequest(
            f"{name}: {len(other)} references for {len(x)} instances; give one, or one each"
        )
    return other.to(x.device, x.dtype).expand_as(x)


def _sketch(x: Any) -> str:
    return f"{'x'.join(map(str, x.shape))}" if isinstance(x, Tensor) else type(x).__name__
