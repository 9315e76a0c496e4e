"""Rules for operations with parameters."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..types import BadRequest
from .vjp import bent, scaled


def number(given: object, name: str, owner: str, near: float) -> float:
    """An option of a rule that is a number; `near` is advised where it is none."""
    if isinstance(given, bool) or not isinstance(given, Real):
        raise BadRequest(
            f"{owner}({name}={given!r}): a number is needed, this is a {type(given).__name__}; "
            f"write {name}={near:g}"
        )
    return float(given)


def plain(operation: Callable, *args: Any, **kwargs: Any) -> Any:
    """The ordinary gradient, on purpose: the epsilon rule with epsilon 0."""
    return operation(*args, **kwargs)


def signed(x: Tensor) -> Tensor:
    """-1 below 0, else 1."""
    return torch.where(x < 0, -1.0, 1.0).to(x)


def epsilon(eps: float) -> Callable[..., Tensor]:
    """R_i = x_i * sum_j w_ji R_j / (z_j + eps sign z_j): small pre-activations z pass less
    relevance on. [bach2015]

    In gradient form the incoming gradient is multiplied by z / (z + eps sign z).
    """
    if not number(eps, "eps", "epsilon", 1e-6) >= 0:
        raise BadRequest(f"epsilon({eps}): the stabiliser must not be negative")

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Tensor:
        z = operation(*args, **kwargs)
        value = z.detach()
        stable = value + eps * signed(value)
        # where z = 0 there is no relevance to pass on; without a stabiliser 0 / 0 is the plain rule
        return bent(scaled(z, torch.where(value == 0, float(eps == 0), value / stable)), value)

    return rule
