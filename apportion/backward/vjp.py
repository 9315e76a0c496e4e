"""Ways to bend a derivative without touching a value. All rules are made of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, value: Tensor) -> Tensor:
        # a copy: autograd forbids writing into a view made here, and models write in place
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor | float) -> Tensor:
        ctx.factor = factor
        return x.detach()  # as `x.view_as(x)`, which may change the strides of a single picture

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


class _Positive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach()  # as `x.view_as(x)`, which may change the strides of a single picture

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clamp(min=0)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.turn = turn
        return x.clone()  # models write in place

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.turn(x, grads[0]), None


def bent(surrogate: Tensor, value: Tensor) -> Tensor:
    """The given value, bit for bit, with the surrogate's derivative."""
    return _Bent.apply(surrogate, value.detach())


def scaled(x: Tensor, factor: Tensor | float) -> Tensor:
    """X itself; its gradient is multiplied by `factor` on the way back."""
    return _Scaled.apply(x, factor)


def positive(x: Tensor) -> Tensor:
    """X itself; negative gradients stop here."""
    return _Positive.apply(x)


def turned(x: Tensor, turn: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """X itself; its gradient g becomes turn(x, g) on the way back."""
    return _Turned.apply(x, turn)
