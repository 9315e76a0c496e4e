"""Rules for products of two variables, and for attention, which is made of two of them and a
softmax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from ..types import BadRequest
from .aliases import tensors_in
from .vjp import bent, scaled

Attention = Callable[..., Tensor]
_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def halve(operation: Callable, *args: Any, **kwargs: Any) -> Any:
    """A product of two variables gives half of its relevance to each, one of n variables an n-th;
    with one variable it is a linear operation.
    """
    varying = [x for x in tensors_in(args, kwargs) if x.requires_grad]
    if len(varying) < 2:
        return operation(*args, **kwargs)

    def share(value: Any) -> Any:
        if isinstance(value, Tensor):
            return scaled(value, 1 / len(varying)) if value.requires_grad else value
        return type(value)(share(v) for v in value) if isinstance(value, tuple | list) else value

    return operation(*(share(v) for v in args), **{k: share(v) for k, v in kwargs.items()})


def halve_factors(*factors: int | str) -> Callable[..., Any]:
    """As `halve`, where only these arguments are multiplied: what is added to their product, as a
    bias is, keeps its share.
    """

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> Any:
        given: dict[int | str, Any] = dict(enumerate(args))
        given |= dict(kwargs.items())
        varying = [n for n in factors if n in given and given[n].requires_grad]
        if len(varying) == 2:
            given |= {n: scaled(given[n], 0.5) for n in varying}
        return operation(*(given[i] for i in range(len(args))), **{k: given[k] for k in kwargs})

    return rule


def values_only(
    operation: Callable,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """CP-LRP: attention weights are constants, all relevance goes through the values. The original
    call; queries, keys and mask detached.
    """
    mask = None if attn_mask is None else attn_mask.detach()
    return operation(query.detach(), key.detach(), value, mask, *args, **kwargs)


def quarters(
    operation: Callable,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """AttnLRP: both products halve where both factors vary, so queries and keys get a quarter each,
    values half; softmax keeps its gradient.
    """
    scores = [x for x in (query, key, attn_mask) if x is not None and x.requires_grad]
    outer = 0.5 if scores and value.requires_grad else 1.0
    inner = outer / 2 if query.requires_grad and key.requires_grad else outer
    mask = attn_mask
    if mask is not None and mask.requires_grad:
        mask = scaled(mask, outer)
    return operation(
        scaled(query, inner), scaled(key, inner), scaled(value, outer), mask, *args, **kwargs
    )


def multi_head(attend: Attention) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """nn.MultiheadAttention arrives as one opaque function: its value is kept, its derivative is
    that of the
    projections and of `attend` in its place.
    """

    def rule(operation: Callable, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        value, weights = operation(*args, **kwargs)
        given = _SIGNATURE.bind(*args, **kwargs)
        given.apply_defaults()
        return bent(_spelled_out(attend, given.arguments), value), weights

    return rule


def _spelled_out(attend: Attention, given: Mapping[str, Any]) -> Tensor:
    """Multi-head attention from its parts, on (position, batch, feature)."""
    rare = ("bias_k", "bias_v", "static_k", "static_v")
    if given["add_zero_attn"] or any(given[name] is not None for name in rare):
        raise BadRequest(
            "a backward rule table meets nn.MultiheadAttention with added key/value biases or "
            "static keys, for which there is no rule; use true gradients, or replace the block by "
            "one made of linear layers and scaled_dot_product_attention"
        )
    inputs = [given[name] for name in ("query", "key", "value")]
    unbatched = inputs[0].ndim == 2
    if unbatched:
        inputs = [x[:, None] for x in inputs]
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    bias = given["in_proj_bias"]
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(-1, (given["num_heads"], -1)).permute(1, 2, 0, 3)
        for x, w, b in zip(inputs, weights, biases, strict=True)
    )
    mask = _mask(given["attn_mask"], given["key_padding_mask"], q)
    causal = given["is_causal"] and mask is None
    mixed = attend(F.scaled_dot_product_attention, q, k, v, attn_mask=mask, is_causal=causal)
    joined = mixed.permute(2, 0, 1, 3).flatten(2)
    out = F.linear(joined, given["out_proj_weight"], given["out_proj_bias"])
    return out[:, 0] if unbatched else out


def _mask(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one additive mask (batch, head, query, key)."""
    total: Tensor | None = None
    for mask in (attn_mask, None if padding is None else padding.reshape(q.shape[0], 1, 1, -1)):
        if mask is None:
            continue
        added = (
            mask.to(q.dtype).masked_fill(mask, float("-inf")) if mask.dtype.itemsize == 1 else mask
        )
        if added.ndim == 3:
            added = added.unflatten(0, (q.shape[0], -1))
        total = added if total is None else total + added
    return total
