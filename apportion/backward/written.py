"""Functions that a model writes out: x * sigmoid(1.702 x), 0.5 x (1 + tanh(...)), x / sqrt(var).

Taken operation by operation these are products of two variables, and the constants inside absorb
relevance. To a rule table they are one thing: an activation is a function of one variable, and what
a variable is divided by is its scale. Each has a key of its own, which stands for the plain
operation in tables that do not list it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .aliases import CANONICAL, REVERSED, name_of, tensors_in


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """X times (or over) a function of x, element by element: an activation written out."""
    return x * gate


def power(x: Tensor, exponent: float) -> Tensor:
    """X to a constant power above 0, also as torch.square."""
    return x**exponent


def quotient(x: Tensor, scale: Tensor) -> Tensor:
    """X over another variable: its scale, as in a norm written out."""
    return x / scale


# the key of a special case -> the operation whose rule it follows where a table does not list it
SPECIAL: dict[Callable, Callable] = {gated: torch.mul, power: torch.pow, quotient: torch.div}

# by name, as in `x.add(1)`, `1 + x`, `x.__radd__(1)`; those of the second set give a multiple of x
_ELEMENTWISE = {
    "add", "radd", "sub", "subtract", "rsub", "rdiv", "rtruediv", "reciprocal", "pow", "rpow",
    "square", "sqrt", "abs", "absolute", "exp", "exp2", "expm1", "log", "log1p", "tanh", "sigmoid",
    "special_expit", "hardsigmoid", "erf", "softplus", "relu", "relu6", "hardtanh", "clamp",
    "clamp_min", "clamp_max", "clip", "sin", "cos", "atan",
}  # fmt: skip
_MULTIPLES = {
    "mul", "rmul", "multiply", "neg", "negative", "to", "type", "type_as", "float", "double",
    "half", "bfloat16", "clone", "contiguous",
}  # fmt: skip
_QUOTIENTS = {"div", "truediv", "divide", "true_divide"}
_FAR = 24  # operations that are looked back; a written-out GELU has nine


@cache
def kind_of(func: Callable) -> Literal["function", "multiple", "quotient"] | None:
    """What an operation does element by element; None where it does not work so."""
    name = name_of(func).strip("_")
    if name in _QUOTIENTS:
        return "quotient"
    return "multiple" if name in _MULTIPLES else "function" if name in _ELEMENTWISE else None


@dataclass(frozen=True, eq=False)
class _Trace:
    """Where a tensor comes from, element by element."""

    # every value of which it is a function by itself, the nearest first, with its version: writing
    # into one ends the trace
    through: tuple[tuple[Tensor, int], ...]
    base: Tensor  # the tensor that it is a constant times

    def holds(self) -> bool:
        return all(x._version == version for x, version in self.through)

    def of(self, x: Tensor) -> bool:
        """Whether it is a function of this one."""
        return any(y is x for y, _ in self.through)


class Written:
    """Follows a forward pass, to tell which tensor is an elementwise function of which."""

    def __init__(self) -> None:
        self._traces: Any = WeakTensorKeyDictionary()

    def meant(self, func: Callable, args: tuple, kwargs: dict) -> tuple[Callable, bool]:
        """The operation a call stands for, a special case or the canonical spelling; and whether
        the gate of a gated product comes first.
        """
        operation = CANONICAL.get(func, func)
        if operation is torch.square:
            return power, False
        if operation is torch.pow:
            exponent = args[1] if len(args) > 1 else kwargs.get("exponent")
            constant = isinstance(exponent, int | float) and exponent > 0
            return (power if constant and func not in REVERSED else operation), False
        if operation is torch.mul or operation is torch.div:
            return self._product(operation, func in REVERSED, tensors_in(args, kwargs))
        return operation, False

    def _product(
        self, operation: Callable, turned: bool, operands: list[Tensor]
    ) -> tuple[Callable, bool]:
        if len(operands) != 2 or not all(x.requires_grad for x in operands):
            return operation, False
        left, right = operands[::-1] if turned else operands
        if left.shape == right.shape:
            if self.of(right, left):
                return gated, False
            if operation is torch.mul and self.of(left, right):
                return gated, True
        return (operation if operation is torch.mul else quotient), False

    def of(self, x: Tensor, other: Tensor) -> bool:
        """Whether x is an elementwise function of the other, up to a constant factor."""
        return self._trace(x).of(self._trace(other).base)

    def _trace(self, x: Tensor) -> _Trace:
        trace = self._traces.get(x)
        if trace is None or not trace.holds():
            return _Trace(((x, x._version),), x)
        return trace

    def note(self, func: Callable, args: tuple, kwargs: dict, result: Any) -> None:
        """Remembers what came out of a call."""
        kind = kind_of(func)
        if kind is None or not isinstance(result, Tensor) or not result.requires_grad:
            return
        varying = [x for x in tensors_in(args, kwargs) if x.requires_grad]
        if not varying or any(x is result or x.shape != result.shape for x in varying):
            return  # written in place, or spread over more elements: a variable of its own
        first, *others = (self._trace(x) for x in varying)
        common = [(x, at) for x, at in first.through if all(t.of(x) for t in others)]
        own = (result, result._version)
        numerator = kind != "quotient" or (bool(args) and args[0] is varying[0])
        keeps = kind != "function" and numerator and not others
        base = first.base if keeps else result
        self._traces[result] = _Trace((own, *common)[:_FAR], base)
