"""Rules for elementwise activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .vjp import bent, positive


def secant(operation: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Relevance passes unchanged: the derivative is f(x)/x, the slope of the line through 0 (0
    where x = 0).
    """
    with torch.no_grad():  # also bounds of a clamp may depend on the gates
        value = operation(x, *args, **kwargs)
        slope = torch.where(x == 0, torch.zeros_like(value), value / torch.where(x == 0, 1, x))
    return bent(x * slope, value)


def guided(operation: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Guided backpropagation: the ordinary derivative, and negative gradients stop.
    [springenberg2015]
    """
    return operation(positive(x), *args, **kwargs)


def deconvolved(operation: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Deconvolution: an activation passes what is positive on the way back, whatever it did on the
    way forward. [zeiler2014]
    """
    with torch.no_grad():
        value = operation(x, *args, **kwargs)
    return bent(positive(x), value)


def first_only(operation: Callable, x: Tensor, other: Tensor, **kwargs: Any) -> Tensor:
    """The other factor is a constant: the gate of an activation that is written out, as x *
    sigmoid(x), whose slope is then f(x)/x like that of `secant`; the scale a variable is divided
    by.
    """
    return operation(x, other.detach(), **kwargs)
