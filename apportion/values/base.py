"""What every value offers, and how values read an output."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest, WithLogits

Target = int | tuple[int, ...]  # several targets become a trailing axis


@runtime_checkable
class Value(Protocol):
    """What every value offers."""

    @property
    def unit(self) -> str:
        """What its numbers are in."""

    @property
    def linear(self) -> bool:
        """Whether it is linear in the logits."""

    @property
    def last(self) -> int | None:
        """How many trailing positions it reads; None = the whole output."""

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        """The value of each instance, in float32 or wider."""


@runtime_checkable
class Relative(Protocol):
    """A value that is about the clean run: the game shows it the output there, once, before it
    asks.
    """

    def against(self, output: Any) -> Value:
        """The same value, complete. `output` has one row per instance; what the complete value
        reads has (row, instance) of them, row-major.
        """


def target_of(given: object, value: str) -> Target:
    """A class or token number as a plain int, or several as a tuple of them; anything else is
    refused.
    """
    if not isinstance(given, tuple | list):
        return one_target(given, value)
    if not given:
        raise BadRequest(f"{value}({given!r}): there is no target; name at least one: {value}(0)")
    return tuple(one_target(t, value) for t in given)


def one_target(given: object, value: str, call: str = "") -> int:
    """One number: of Python, of numpy, or a tensor of no axes. `call` is advised otherwise."""
    truth = isinstance(given, bool | np.bool_)
    if isinstance(given, Tensor):
        truth = given.dtype == torch.bool or given.ndim > 0
    if not truth and isinstance(given, SupportsIndex):
        try:
            return operator.index(given)
        except TypeError:  # a tensor or an array that holds no single integer
            pass
    raise BadRequest(
        f"{value}: a target is the number of a class or token, an integer; got {given!r} "
        f"({type(given).__name__}). Write {call or f'{value}(3)'}, or look the number up "
        "by its name first"
    )


def output_tensor(output: Any, value: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    if isinstance(output, WithLogits) and isinstance(output.logits, Tensor):
        return output.logits
    if (
        isinstance(output, tuple | list)
        and output
        and isinstance(output[0], Tensor)
        and len(output) == 1
    ):
        return output[0]
    raise BadRequest(
        f"{value} reads a tensor or an output with .logits; the model returns a "
        f"{type(output).__name__}. Wrap the model in a module that returns the logits."
    )


def class_scores(output: Any, value: object) -> Float[Tensor, "batch class"]:
    """The raw scores of every class that a value reads from an output."""
    logits = output_tensor(output, value)
    if logits.ndim == 3 and not isinstance(output, Tensor):
        logits = logits[:, -1]
    if logits.ndim == 1:
        raise BadRequest(
            f"{value} reads (batch, class), but the output is {tuple(logits.shape)}; if the input "
            "lacks its batch axis, give x[None], else wrap the model in a module that returns one "
            "row of scores per instance"
        )
    if logits.ndim != 2:
        raise BadRequest(
            f"{value} reads (batch, class), but the output is {tuple(logits.shape)}; wrap the "
            "model in a module that returns the row of scores you mean (for a map: its mean, or "
            "one position)"
        )
    return wide(logits)


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pick(logits: Tensor, target: Target, value: object) -> Tensor:
    for t in (target,) if isinstance(target, int) else target:
        check_class(t, int(logits.shape[1]), value)
    return logits[:, target] if isinstance(target, int) else logits[:, list(target)]


def check_class(target: int, classes: int, value: object) -> None:
    if not 0 <= target < classes:
        raise BadRequest(
            f"{value}: there is no class {target}; the model has {classes:,} classes, 0 to "
            f"{classes - 1}"
        )
