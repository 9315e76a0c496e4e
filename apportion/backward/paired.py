"""Rules that compare a run with the run in which no player is present. [shrikumar2017]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..taps import Call
from ..types import BadRequest
from .aliases import CANONICAL, POOLS, name_of, out_of_place
from .vjp import bent

NEAR = 1e-10  # inputs closer than this have no slope between them; the derivative stands in


@dataclass(frozen=True)
class Paired:
    """Marks a rule that wants the call's counterpart in the run without players:
    (operation, counterpart, *args, **kwargs) -> the operation's value with another derivative.
    """

    rule: Callable[..., Any]


class Tape:
    """Calls of operations with a paired rule, in the order of the forward pass: written in the run
    without players, read in the run that is explained.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Callable, Call]] = []
        self._next: int | None = None  # None = writing

    def rewind(self) -> Tape:
        """From here on it is read."""
        self._next = 0
        return self

    def facing(self, paired: Paired, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Writes this call down, or gives its rule with the counterpart filled in."""
        kind = CANONICAL.get(func, func)
        if self._next is None:
            _, args, kwargs, _ = out_of_place(func, args, kwargs)
            self._calls.append((kind, Call(args, kwargs).map(lambda _, x: x.clone())))
            return None
        at, self._next = self._next, self._next + 1
        given = [x for x in args if isinstance(x, Tensor)]
        if at >= len(self._calls) or self._calls[at][0] is not kind or not _alike(
            self._calls[at][1], given
        ):  # fmt: skip
            raise BadRequest(
                f"without players the model does not come by this {name_of(kind)}, or with another "
                "shape, so there is nothing to compare it with. Rules that compare two runs need a "
                "model that runs the same operations on every input of one shape."
            )
        counterpart = self._calls[at][1]
        return lambda operation, *a, **k: paired.rule(operation, counterpart, *a, **k)


def _alike(call: Call, given: list[Tensor]) -> bool:
    before = [x for x in call.args if isinstance(x, Tensor)]
    return not given or not before or before[0].shape == given[0].shape


def rescale(operation: Callable, counterpart: Call, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The slope between two inputs, (f(x) - f(x')) / (x - x'), for the derivative: what a unit
    adds to the difference goes back whole.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (own,) = torch.autograd.grad(operation(leaf, *args, **kwargs).sum(), leaf)
    with torch.no_grad():
        value = operation(x, *args, **kwargs)
        before = operation(*counterpart.args, **counterpart.kwargs)
        step = x - counterpart.args[0]
        slope = torch.where(step.abs() < NEAR, own, (value - before) / _divisor(step))
    return bent(x * slope, value)


def power(operation: Callable, counterpart: Call, x: Tensor, exponent: Any, *rest: Any) -> Tensor:
    """`rescale` of a power with a constant exponent."""
    if isinstance(exponent, Tensor) and exponent.requires_grad:
        raise BadRequest(
            "a power whose exponent depends on the input is a product of two variables, for which "
            "there is no slope between two inputs; use another table, such as DYNAMIC_LRP"
        )
    return rescale(operation, counterpart, x, exponent, *rest)


def pooled(operation: Callable, counterpart: Call, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Max pooling: what the winner of one run gained over the other run's maximum, and what the
    other's winner lost, each over the change of its own input.
    """
    kind = CANONICAL.get(operation, operation)
    pool, axes = POOLS[kind]
    asked = kind is not pool or kwargs.get("return_indices", False)
    options = {**kwargs, "return_indices": True}
    with torch.no_grad():
        value, now = pool(x, *args, **options)
        rest = {**counterpart.kwargs, "return_indices": True}
        before, then = pool(*counterpart.args, **rest)
        step = (x - counterpart.args[0]).flatten(-axes)
        top = torch.maximum(value, before)
    flat = x.flatten(-axes)

    def share(where: Tensor, part: Tensor, near: float) -> Tensor:
        moved = _at(step, where)
        slope = torch.where(moved.abs() < NEAR, near, part / _divisor(moved))
        return _at(flat, where) * slope

    out = bent(share(now, top - before, 1.0) + share(then, value - top, 0.0), value)
    return (out, now) if asked else out


def _at(flat: Tensor, where: Tensor) -> Tensor:
    """Elements of (..., position) at (..., *output) positions."""
    lead = flat.ndim - 1
    return flat.gather(-1, where.flatten(lead)).reshape(where.shape)


def _divisor(step: Tensor) -> Tensor:
    return torch.where(step.abs() < NEAR, 1.0, step)
