"""A softmax whose gradient is taken at another temperature, alone and inside fused attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from ..types import BadRequest
from .attention import quarters
from .vjp import bent


def softmax(temperature: float) -> Callable[..., Tensor]:
    """The softmax's derivative at another temperature: scores that a saturated softmax hides still
    get a gradient. [edin2025]

        back go  p (g - sum_j g_j p_j)  with  p = softmax(s / T),  without the factor 1 / T
    """
    if not temperature > 0:
        raise BadRequest(f"gim({temperature}): a temperature is above 0; the paper uses 2")

    def rule(operation: Callable, scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            value = operation(scores, *args, **kwargs)
        return bent(temperature * operation(scores / temperature, *args, **kwargs), value)

    return rule


def attention(temperature: float) -> Callable[..., Tensor]:
    """Fused attention with that softmax inside and its products halved: its value is kept, its
    derivative is that of the same attention spelled out.
    """
    tempered = softmax(temperature)

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            value = operation(*args, **kwargs)

        def attend(q: Tensor, k: Tensor, v: Tensor, *given: Any, **named: Any) -> Tensor:
            return _spelled_out(tempered, (q, k, v), _Options(*given, **named))

        return bent(quarters(attend, *args, **kwargs), value)

    return rule


@dataclass(frozen=True, eq=False)
class _Options:
    """What scaled_dot_product_attention takes after queries, keys and values."""

    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def _spelled_out(
    tempered: Callable[..., Tensor], operands: tuple[Tensor, Tensor, Tensor], how: _Options
) -> Tensor:
    """scaled_dot_product_attention as its documentation defines it."""
    query, key, value = operands
    if how.dropout_p:
        raise BadRequest(
            f"attention drops {how.dropout_p:g} of its weights at random, so its derivative cannot "
            "be taken again; use model.eval(), or set its dropout to 0"
        )
    if how.enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if how.scale is None else how.scale
    scores = query @ key.transpose(-1, -2) * scale
    if how.is_causal:
        later = scores.new_ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    mask = how.attn_mask
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    blind = (scores == float("-inf")).all(-1, keepdim=True)  # sees nothing: its output is 0
    weights = tempered(F.softmax, scores.masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)
    return weights @ value
