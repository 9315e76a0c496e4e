"""Rules for norms: the scale is a constant for the gradient, centring and weights are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .vjp import bent


def freeze(operation: Callable, *args: Any, **kwargs: Any) -> Any:
    """A constant for the gradient: nothing flows through."""
    with torch.no_grad():
        return operation(*args, **kwargs)


def layer_norm(
    operation: Callable,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    """Layer norm with its standard deviation frozen."""
    axes = tuple(range(-len(normalized_shape), 0))
    with torch.no_grad():
        value = operation(x, normalized_shape, weight, bias, eps, *rest)
        scale = (x.var(axes, correction=0, keepdim=True) + eps).rsqrt()
    return bent(_affine((x - x.mean(axes, keepdim=True)) * scale, weight, bias), value)


def rms_norm(
    operation: Callable,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """RMS norm with its scale frozen."""
    axes = tuple(range(-len(normalized_shape), 0))
    with torch.no_grad():
        value = operation(x, normalized_shape, weight, eps)
        small = torch.finfo(x.dtype).eps if eps is None else eps
        scale = (x.pow(2).mean(axes, keepdim=True) + small).rsqrt()
    return bent(_affine(x * scale, weight, None), value)


def group_norm(
    operation: Callable,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    """Group norm with its standard deviations frozen."""
    grouped = x.unflatten(1, (num_groups, -1))
    axes = tuple(range(2, grouped.ndim))
    with torch.no_grad():
        value = operation(x, num_groups, weight, bias, eps, *rest)
        scale = (grouped.var(axes, correction=0, keepdim=True) + eps).rsqrt()
    centred = ((grouped - grouped.mean(axes, keepdim=True)) * scale).flatten(1, 2)
    column = (-1, *(1,) * (x.ndim - 2))
    shaped = (None if w is None else w.reshape(column) for w in (weight, bias))
    return bent(_affine(centred, *shaped), value)


def normalize(
    operation: Callable, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **rest: Any
) -> Tensor:
    """A vector divided by its length, which is frozen."""
    with torch.no_grad():
        value = operation(x, p, dim, eps, **rest)
        length = x.norm(p, dim, keepdim=True).clamp_min(eps)
    return bent(x / length, value)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias
