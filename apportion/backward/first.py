"""Rules for the layer that reads the players' input. What they hand back is relevance itself, not a
gradient to be multiplied by the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..types import BadRequest
from .linear import number
from .signed import Layer, layer_of, share
from .vjp import bent, scaled

Bound = float | Tensor


def z_box(low: Bound, high: Bound, eps: float = 1e-6) -> Callable[..., Tensor]:
    """R_i = sum_j (x_i w_ji - l_i w_ji^+ - h_i w_ji^-) R_j / the sum of that over i: pixels are
    compared with the box [l, h] they come from. Biases take no share. [montavon2017]
    """
    _admit_box(low, high)

    def parts(layer: Layer, one: Tensor) -> Tensor:
        x, w = layer.x.detach(), layer.weight
        least, most = (_bound(b, x) for b in (low, high))
        outside = (x < least) | (x > most)
        if bool(outside.any()):
            raise BadRequest(
                f"z_box: {int(outside.sum())} elements of the input lie outside the box, the "
                f"first is {x[outside][0].item():.4g}. Give the lowest and highest values that "
                "inputs can take after preprocessing, as numbers or as tensors (channel, 1, 1)."
            )
        inner = layer.run(one * x, w, None)
        return (
            inner
            - layer.run(one * least, w.clamp(min=0), None)
            - layer.run(one * most, w.clamp(max=0), None)
        )

    return _relevance(parts, eps, "z_box")


def flat(eps: float = 1e-6) -> Callable[..., Tensor]:
    """R_i = sum_j R_j / (number of inputs of j): every input of a unit gets the same.
    [lapuschkin2019]
    """
    return _relevance(lambda at, one: at.run(one, torch.ones_like(at.weight), None), eps, "flat")


def w_square(eps: float = 1e-6) -> Callable[..., Tensor]:
    """R_i = sum_j w_ji^2 R_j / sum_k w_jk^2: by the weights alone. [montavon2017]"""
    return _relevance(lambda at, one: at.run(one, at.weight.square(), None), eps, "w_square")


def _relevance(
    parts: Callable[[Layer, Tensor], Tensor], eps: float, name: str
) -> Callable[..., Tensor]:
    """A layer whose relevance is shared in proportion to the summands of `parts`."""
    if not number(eps, "eps", name, 1e-6) >= 0:
        raise BadRequest(f"{name}(eps={eps}): the stabiliser must not be negative")

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Tensor:
        value = operation(*args, **kwargs).detach()
        layer = layer_of(operation, args, kwargs)
        # 1 everywhere, with derivative 1: the derivative by it is a sum of summands
        one = bent(layer.x, torch.ones_like(layer.x))
        total = parts(layer, one)
        return bent(scaled(total, share(value, total, eps=eps)), value)

    return rule


def _admit_box(low: Bound, high: Bound) -> None:
    """Bounds are numbers, and none is above its other; shapes are compared with the input's."""
    try:
        least, most = torch.as_tensor(low), torch.as_tensor(high)
    except (TypeError, ValueError, RuntimeError) as failure:
        raise BadRequest(
            f"z_box({low!r}, {high!r}): bounds are numbers, or tensors (channel, 1, 1); write "
            "z_box(-3.0, 3.0)"
        ) from failure
    try:
        inside = bool((least <= most).all())
    except RuntimeError:  # shapes that do not fit each other do not fit the input
        return
    if not inside:
        raise BadRequest(
            f"z_box({low!r}, {high!r}): low is above high, or one is no number; give the lowest "
            "value an input can take first: z_box(-3.0, 3.0)"
        )


def _bound(bound: Bound, x: Tensor) -> Tensor:
    given = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    try:
        return given.expand_as(x)
    except RuntimeError:
        raise BadRequest(
            f"z_box: a bound of shape {tuple(given.shape)} does not fit an input of shape "
            f"{tuple(x.shape[1:])}; give a number, or one number per channel as (channel, 1, 1)"
        ) from None
