"""Optimisers and schedules as functions: new parameters and new state from old ones, so that a
training can be replayed, run for many weights at once, and differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest

Params = Mapping[str, Tensor]


class State(NamedTuple):
    """Parameters and what the optimiser remembers, by name."""

    params: dict[str, Tensor]
    memory: dict[str, dict[str, Tensor]]  # "momentum", "square" ...: by parameter


@runtime_checkable
class Optimiser(Protocol):
    """One step from gradients; pure, and differentiable in everything."""

    @property
    def weight_decay(self) -> float: ...

    def start(self, params: Params) -> State:
        """The state before the first step."""

    def step(self, state: State, grads: Params, rate: float | Tensor, t: int) -> State:
        """The state after step t, counted from 0, at this learning rate."""

    def reach(self, state: State, rate: float, t: int) -> float:
        """How far one step carries along a constant gradient of 1: the learning rate times the
        amplification by momentum or the preconditioner.
        """


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent: m <- beta m + g + wd theta, theta <- theta - rate m, as
    torch.optim.SGD.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _within(self.momentum, "SGD(momentum=...)", 1.0)
        _within(self.weight_decay, "SGD(weight_decay=...)")

    def start(self, params: Params) -> State:
        memory = {"momentum": _zeros(params)} if self.momentum else {}
        return State(dict(params), memory)

    def step(self, state: State, grads: Params, rate: float | Tensor, t: int) -> State:
        p = state.params
        push = {k: grads[k] + self.weight_decay * p[k] for k in p}
        memory = {}
        if self.momentum:
            push = {k: self.momentum * state.memory["momentum"][k] + push[k] for k in p}
            memory = {"momentum": push}
        return State({k: p[k] - rate * push[k] for k in p}, memory)

    def reach(self, state: State, rate: float, t: int) -> float:
        return rate / (1 - self.momentum)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam: theta <- theta - rate m^ / (sqrt(v^ + eps_root) + eps), with the means m^ and v^ of the
    gradients and their squares corrected for the start at 0; weight decay is added to the gradient,
    as in torch.optim.Adam.

    At the first step v = 0 wherever a gradient is 0, and the root has no derivative there:
    differentiating through training needs eps_root > 0.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_adam(self.betas, self.eps, self.eps_root, self.weight_decay, "Adam")

    def start(self, params: Params) -> State:
        return State(dict(params), {"mean": _zeros(params), "square": _zeros(params)})

    def step(self, state: State, grads: Params, rate: float | Tensor, t: int) -> State:
        p = state.params
        push = {k: grads[k] + self.weight_decay * p[k] for k in p}
        step, memory = _moments(self, state, push, t)
        return State({k: p[k] - rate * step[k] for k in p}, memory)

    def reach(self, state: State, rate: float, t: int) -> float:
        return rate * _preconditioner(self, state, t)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam whose weight decay shrinks the parameters directly, theta <- (1 - rate wd) theta, as
    torch.optim.AdamW.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check_adam(self.betas, self.eps, self.eps_root, self.weight_decay, "AdamW")

    def start(self, params: Params) -> State:
        return State(dict(params), {"mean": _zeros(params), "square": _zeros(params)})

    def step(self, state: State, grads: Params, rate: float | Tensor, t: int) -> State:
        p = state.params
        step, memory = _moments(self, state, grads, t)
        kept = 1 - rate * self.weight_decay
        return State({k: kept * p[k] - rate * step[k] for k in p}, memory)

    def reach(self, state: State, rate: float, t: int) -> float:
        return rate * _preconditioner(self, state, t)


def _moments(
    adam: Adam | AdamW, state: State, push: Params, t: int
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """The direction of the step, and both running means."""
    one, two = adam.betas
    mean = {k: one * state.memory["mean"][k] + (1 - one) * g for k, g in push.items()}
    square = {k: two * state.memory["square"][k] + (1 - two) * g * g for k, g in push.items()}
    up, over = 1 - one ** (t + 1), 1 - two ** (t + 1)
    step = {
        k: (mean[k] / up) / ((square[k] / over + adam.eps_root).sqrt() + adam.eps) for k in push
    }
    return step, {"mean": mean, "square": square}


def _preconditioner(adam: Adam | AdamW, state: State, t: int) -> float:
    """1 / (sqrt(v^) + eps) after step t at the mean v^ of all parameters."""
    over = 1 - adam.betas[1] ** (t + 1)
    flat = torch.cat([v.flatten() for v in state.memory["square"].values()]) / over
    return float(1 / ((flat.mean() + adam.eps_root).sqrt() + adam.eps))


def _check_adam(
    betas: tuple[float, float], eps: float, root: float, decay: float, name: str
) -> None:
    for beta in betas:
        _within(beta, f"{name}(betas=...)", 1.0)
    _within(eps, f"{name}(eps=...)")
    _within(root, f"{name}(eps_root=...)")
    _within(decay, f"{name}(weight_decay=...)")


def _within(given: float, name: str, top: float = math.inf) -> None:
    if not 0 <= given < top:
        span = f"at least 0 and below {top:g}" if top < math.inf else "at least 0"
        raise BadRequest(f"{name} must be {span}; got {given}")


def _zeros(params: Params) -> dict[str, Tensor]:
    return {k: torch.zeros_like(p) for k, p in params.items()}


@runtime_checkable
class Schedule(Protocol):
    """The learning rate of every step."""

    def rates(self, steps: int) -> Float[Tensor, "step"]: ...


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    rate: float

    def __post_init__(self) -> None:
        _within(self.rate, "Constant(rate)")

    def rates(self, steps: int) -> Float[Tensor, "step"]:
        return torch.full((steps,), self.rate, dtype=torch.float64)


@dataclass(frozen=True)
class Cosine:
    """From `rate` down to `floor` along half a cosine, after a linear rise over a share `warmup`
    of the steps.
    """

    rate: float
    floor: float = 0.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _within(self.rate, "Cosine(rate)")
        _within(self.floor, "Cosine(floor=...)")
        _within(self.warmup, "Cosine(warmup=...)", 1.0)

    def rates(self, steps: int) -> Float[Tensor, "step"]:
        t = torch.arange(steps, dtype=torch.float64)
        rise = self.warmup * steps
        along = ((t - rise) / max(steps - rise, 1)).clamp(min=0)
        down = self.floor + (self.rate - self.floor) * (1 + (math.pi * along).cos()) / 2
        return torch.where(t < rise, self.rate * (t + 1) / max(rise, 1), down)


@dataclass(frozen=True)
class Recorded:
    """The rates of a recorded loop; a training of another length reads them at the same share of
    the way.
    """

    seen: tuple[float, ...]

    def rates(self, steps: int) -> Float[Tensor, "step"]:
        known = torch.tensor(self.seen, dtype=torch.float64)
        at = (torch.arange(steps) * len(known)).div(max(steps, 1), rounding_mode="floor")
        return known[at]
