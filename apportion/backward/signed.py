"""Rules for operations with parameters that look at the sign of each contribution x_i w_ji."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..types import BadRequest
from .aliases import CANONICAL, name_of
from .linear import number, signed
from .vjp import bent, scaled

Run = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, eq=False)
class Layer:
    """A call of an operation with parameters, taken apart."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    run: Run  # the same operation on another (x, weight, bias)


def layer_of(operation: Callable, args: tuple, kwargs: dict) -> Layer:
    """What is input, weight and bias in a call of linear, a convolution, addmm or addmv."""
    kind = CANONICAL.get(operation, operation)
    if kind in (torch.addmm, torch.addmv):
        layer = _added(kind, args, kwargs)
    else:
        names = ("input", "weight", "bias")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        rest = {k: v for k, v in kwargs.items() if k not in names}

        def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return operation(x, weight, bias, *args[3:], **rest)

        layer = Layer(given["input"], given["weight"], given.get("bias"), run)
    if layer.weight.requires_grad or (layer.bias is not None and layer.bias.requires_grad):
        raise BadRequest(
            f"a rule that looks at the signs of contributions meets a {name_of(kind)} whose "
            "weights are computed from the input. Add a rule for it on the right, such as "
            f"rules | Rules('both', {{torch.{name_of(kind)}: halve}}), or use CP_LRP."
        )
    return layer


def _added(kind: Callable, args: tuple, kwargs: dict) -> Layer:
    """Bias first, then a product of which either factor is the input."""
    names = ("input", "mat1", "mat2") if kind is torch.addmm else ("input", "mat", "vec")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    bias, left, right = (given[name] for name in names)
    bias, alpha = bias * kwargs.get("beta", 1), kwargs.get("alpha", 1)
    if left.requires_grad:
        return Layer(left, right * alpha, bias, lambda x, w, b: _plus(x @ w, b))
    return Layer(right, left * alpha, bias, lambda x, w, b: _plus(w @ x, b))


def _plus(z: Tensor, bias: Tensor | None) -> Tensor:
    return z if bias is None else z + bias


def gamma(g: float) -> Callable[..., Tensor]:
    """R_i = x_i sum_j (w_ji + g w_ji^s) R_j / sum_k x_k (w_jk + g w_jk^s), where ^s keeps the
    weights whose contribution has the sign of z_j: what agrees with the output counts 1 + g
    times. [montavon2019] for inputs x >= 0, [andéol2021] for inputs of both signs.

    The denominator is at least |z_j|, so it needs no stabiliser.
    """
    if not number(g, "g", "gamma", 0.25) >= 0:
        raise BadRequest(f"gamma({g}): the extra weight must not be negative")

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Tensor:
        value = operation(*args, **kwargs).detach()
        layer = layer_of(operation, args, kwargs)
        more, less = (part(layer, keep=1.0, more=g) for part in (_positive, _negative))
        surrogate = scaled(more, share(value, more, value > 0))
        return bent(surrogate + scaled(less, share(value, less, value < 0)), value)

    return rule


def alpha_beta(alpha: float, beta: float, eps: float = 1e-6) -> Callable[..., Tensor]:
    """R_i = sum_j (alpha (x_i w_ji)^+ / z_j^+ - beta (x_i w_ji)^- / z_j^-) R_j with
    alpha - beta = 1: activating and inhibiting contributions apart. [bach2015]

    alpha 1 and beta 0 is z+. Denominators are stabilised by eps.
    """
    for name, given, near in (("alpha", alpha, 2), ("beta", beta, 1), ("eps", eps, 1e-6)):
        number(given, name, "alpha_beta", near)
    if not (alpha >= 0 and beta >= 0 and abs(alpha - beta - 1) < 1e-9):
        raise BadRequest(
            f"alpha_beta({alpha:g}, {beta:g}): alpha - beta must be 1 and neither negative, or "
            "relevance is not conserved; write alpha_beta(2, 1)"
        )
    if not eps >= 0:
        raise BadRequest(f"alpha_beta(eps={eps}): the stabiliser must not be negative")

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Tensor:
        value = operation(*args, **kwargs).detach()
        layer = layer_of(operation, args, kwargs)
        more = _positive(layer, keep=0.0, more=1.0)
        surrogate = scaled(more, alpha * share(value, more, eps=eps))
        if beta:
            less = _negative(layer, keep=0.0, more=1.0)
            surrogate = surrogate + scaled(less, -beta * share(value, less, eps=eps))
        return bent(surrogate, value)

    return rule


def _positive(layer: Layer, *, keep: float, more: float) -> Tensor:
    """`keep` times all contributions and `more` times the positive ones, summed."""
    return _parts(
        layer,
        lambda w: keep * w + more * w.clamp(min=0),
        lambda w: keep * w + more * w.clamp(max=0),
    )


def _negative(layer: Layer, *, keep: float, more: float) -> Tensor:
    return _parts(
        layer,
        lambda w: keep * w + more * w.clamp(max=0),
        lambda w: keep * w + more * w.clamp(min=0),
    )


def _parts(
    layer: Layer, up: Callable[[Tensor], Tensor], down: Callable[[Tensor], Tensor]
) -> Tensor:
    """Inputs at or above 0 through `up` of the weights, those below through `down`. The bias counts
    as the weight of an input 1.
    """
    x, nothing = layer.x, torch.zeros_like(layer.x)
    bias = None if layer.bias is None else up(layer.bias)
    total = layer.run(torch.where(x >= 0, x, nothing), up(layer.weight), bias)
    if not bool((x < 0).any()):
        return total
    return total + layer.run(torch.where(x < 0, x, nothing), down(layer.weight), None)


def share(value: Tensor, total: Tensor, where: Tensor | None = None, eps: float = 0.0) -> Tensor:
    """Value / total, which turns relevance per output into relevance per contribution; 0 where
    there is nothing to share.
    """
    total = total.detach()
    defined = total != 0 if where is None else where & (total != 0)
    stable = torch.where(defined, total + eps * signed(total), 1)
    return torch.where(defined, value / stable, 0)
