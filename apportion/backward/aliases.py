"""The many spellings of one operation: `@`, torch.matmul and Tensor.bmm are one product to a
rule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

# canonical operation -> its other spellings
_SPELLINGS: dict[Callable, tuple[Callable, ...]] = {
    # parameters
    F.linear: (),
    torch.conv1d: (F.conv1d,),
    torch.conv2d: (F.conv2d,),
    torch.conv3d: (F.conv3d,),
    torch.conv_transpose1d: (F.conv_transpose1d,),
    torch.conv_transpose2d: (F.conv_transpose2d,),
    torch.conv_transpose3d: (F.conv_transpose3d,),
    torch.addmm: (Tensor.addmm, Tensor.addmm_),
    torch.addmv: (Tensor.addmv, Tensor.addmv_, torch.addmv_),
    F.bilinear: (torch.bilinear,),
    F.embedding: (torch.embedding,),
    F.batch_norm: (torch.batch_norm,),
    F.prelu: (torch.prelu, Tensor.prelu),
    # norms
    F.layer_norm: (torch.layer_norm,),
    F.rms_norm: (torch.rms_norm,),
    F.group_norm: (torch.group_norm,),
    F.instance_norm: (torch.instance_norm,),
    torch.rsqrt: (Tensor.rsqrt, Tensor.rsqrt_, torch.rsqrt_),
    # products
    torch.matmul: (
        Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.bmm, Tensor.bmm, torch.mm,
        Tensor.mm,
        torch.mv, Tensor.mv, torch.dot, Tensor.dot, torch.linalg.matmul,
    ),
    torch.mul: (
        Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply,
        Tensor.mul_, Tensor.__imul__, Tensor.multiply_,
    ),
    torch.div: (
        Tensor.div, Tensor.__truediv__, Tensor.__rtruediv__, torch.divide, Tensor.divide,
        torch.true_divide,
        Tensor.true_divide, Tensor.div_, Tensor.__itruediv__, Tensor.divide_, Tensor.true_divide_,
    ),
    torch.einsum: (),
    torch.tensordot: (),
    torch.inner: (Tensor.inner,),
    torch.outer: (Tensor.outer, torch.ger, Tensor.ger),
    torch.linalg.vecdot: (),
    torch.addcmul: (Tensor.addcmul, Tensor.addcmul_),
    torch.addbmm: (Tensor.addbmm, Tensor.addbmm_),
    torch.cosine_similarity: (F.cosine_similarity,),
    torch.cdist: (),
    # these arrive whole, and hide the product inside: one operand is enough
    F.glu: (),
    F.normalize: (),
    torch.prod: (Tensor.prod,),
    torch.baddbmm: (Tensor.baddbmm, Tensor.baddbmm_),
    torch.reciprocal: (Tensor.reciprocal, Tensor.reciprocal_, torch.reciprocal_),
    torch.pow: (Tensor.pow, Tensor.__pow__, Tensor.__rpow__, Tensor.pow_, Tensor.__ipow__),
    torch.square: (Tensor.square, Tensor.square_, torch.square_),
    # attention
    F.softmax: (torch.softmax, Tensor.softmax, torch.special.softmax),
    F.scaled_dot_product_attention: (),
    F.multi_head_attention_forward: (),
    # activations
    F.relu: (torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, F.relu_),
    F.relu6: (),
    F.hardtanh: (F.hardtanh_,),
    torch.clamp: (
        Tensor.clamp, Tensor.clamp_, torch.clamp_, torch.clip, Tensor.clip, Tensor.clip_,
        torch.clip_, torch.clamp_min, Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_,
    ),
    F.leaky_relu: (F.leaky_relu_,),
    F.elu: (F.elu_,),
    F.selu: (torch.selu, torch.selu_, F.selu_),
    F.celu: (torch.celu, torch.celu_, F.celu_),
    F.silu: (),
    F.gelu: (),
    F.mish: (),
    F.hardswish: (),
    F.softsign: (),
    torch.tanh: (Tensor.tanh, Tensor.tanh_, torch.tanh_, F.tanh),
    torch.sigmoid: (
        Tensor.sigmoid, Tensor.sigmoid_, torch.sigmoid_, F.sigmoid, torch.special.expit,
        F.hardsigmoid,
    ),
    F.softplus: (),
    F.log_softmax: (torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax),
    torch.exp: (Tensor.exp, Tensor.exp_, torch.exp_),
    torch.erf: (Tensor.erf, Tensor.erf_, torch.erf_, torch.special.erf),
    torch.sqrt: (Tensor.sqrt, Tensor.sqrt_, torch.sqrt_),
    torch.abs: (Tensor.abs, Tensor.__abs__, Tensor.abs_, torch.abs_, torch.absolute),
    torch.sin: (Tensor.sin, Tensor.sin_, torch.sin_),
    torch.cos: (Tensor.cos, Tensor.cos_, torch.cos_),
    torch.atan: (Tensor.atan, Tensor.atan_, torch.atan_, torch.arctan, Tensor.arctan),
    torch.sinh: (Tensor.sinh, Tensor.sinh_, torch.sinh_),
    torch.asinh: (Tensor.asinh, Tensor.asinh_, torch.asinh_, torch.arcsinh, Tensor.arcsinh),
    torch.log: (Tensor.log, Tensor.log_, torch.log_),
    torch.log1p: (Tensor.log1p, Tensor.log1p_, torch.log1p_, torch.special.log1p),
    torch.expm1: (Tensor.expm1, Tensor.expm1_, torch.expm1_, torch.special.expm1),
    F.logsigmoid: (),
    F.tanhshrink: (),
    F.softshrink: (),
    F.hardshrink: (torch.hardshrink, Tensor.hardshrink),
    F.threshold: (torch.threshold, torch.threshold_),
    # pools that pick the largest
    F.max_pool1d: (torch.max_pool1d,),
    F.max_pool1d_with_indices: (),
    F.max_pool2d: (torch.max_pool2d,),
    F.max_pool2d_with_indices: (),
    F.max_pool3d: (torch.max_pool3d,),
    F.max_pool3d_with_indices: (),
    F.adaptive_max_pool1d: (),
    F.adaptive_max_pool1d_with_indices: (),
    F.adaptive_max_pool2d: (),
    F.adaptive_max_pool2d_with_indices: (),
    F.adaptive_max_pool3d: (),
    F.adaptive_max_pool3d_with_indices: (),
    # recurrent cells arrive whole
    torch.lstm: (),
    torch.gru: (),
    torch.rnn_tanh: (),
    torch.rnn_relu: (),
    torch.lstm_cell: (),
    torch.gru_cell: (),
    torch.rnn_tanh_cell: (),
    torch.rnn_relu_cell: (),
}  # fmt: skip

CANONICAL: dict[Callable, Callable] = {
    spelling: operation
    for operation, others in _SPELLINGS.items()
    for spelling in (operation, *others)
}
REVERSED = {Tensor.__rmatmul__, Tensor.__rtruediv__, Tensor.__rpow__}  # called as op(right, left)
PRODUCTS = {torch.matmul, torch.mul, torch.div, torch.einsum, torch.baddbmm, torch.pow}
PRODUCTS |= {
    torch.tensordot, torch.inner, torch.outer, torch.linalg.vecdot, torch.addcmul, torch.addbmm,
    torch.cosine_similarity, torch.cdist,
}  # fmt: skip
WHOLE = {F.glu, F.normalize, torch.prod}
CONVOLUTIONS: list[Callable] = [
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d,
    torch.conv_transpose3d,
]  # fmt: skip
DENSE: list[Callable] = [F.linear, torch.addmm, torch.addmv]
# max pools: the spelling that also tells where -> the plain one, and over how many axes
POOLS: dict[Callable, tuple[Callable, int]] = {
    F.max_pool1d_with_indices: (F.max_pool1d, 1),
    F.max_pool2d_with_indices: (F.max_pool2d, 2),
    F.max_pool3d_with_indices: (F.max_pool3d, 3),
    F.adaptive_max_pool1d_with_indices: (F.adaptive_max_pool1d, 1),
    F.adaptive_max_pool2d_with_indices: (F.adaptive_max_pool2d, 2),
    F.adaptive_max_pool3d_with_indices: (F.adaptive_max_pool3d, 3),
}
POOLS |= {pool: (pool, axes) for pool, axes in POOLS.values()}
LAYERS = {*CONVOLUTIONS, *DENSE}
WEIGHTED = LAYERS | {F.bilinear, F.batch_norm, F.prelu}
CELLS = {
    torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu,
    torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell,
}  # fmt: skip
PRODUCTS |= {
    F.scaled_dot_product_attention,
    F.multi_head_attention_forward,
    F.bilinear,
    torch.addmm,
    torch.addmv,
}
# those with f(0) = 0: the line through 0 and f(x) is a slope for them
ACTIVATIONS: list[Callable] = [
    F.relu, F.relu6, F.hardtanh, torch.clamp, F.leaky_relu, F.elu, F.selu, F.celu, F.silu, F.gelu,
    F.mish, F.hardswish, F.softsign, torch.tanh,
]  # fmt: skip

# functions of each element alone, beside the activations
ELEMENTWISE: list[Callable] = [
    torch.sigmoid, F.softplus, torch.exp, torch.erf, torch.sqrt, torch.rsqrt, torch.reciprocal,
    torch.abs, torch.square, torch.sin, torch.cos, torch.atan, torch.sinh, torch.asinh, torch.log,
    torch.log1p, torch.expm1, F.logsigmoid, F.tanhshrink, F.softshrink, F.hardshrink, F.threshold,
]  # fmt: skip


@runtime_checkable
class Named(Protocol):
    """A callable that knows its name, as functions do."""

    __name__: str


def name_of(operation: Callable) -> str:
    """A readable name: 'matmul', 'scaled_dot_product_attention'."""
    return operation.__name__ if isinstance(operation, Named) else repr(operation)


def out_of_place(
    func: Callable, args: tuple, kwargs: dict
) -> tuple[Callable, tuple, dict, Tensor | None]:
    """The same computation into a new tensor, and the tensor that has to receive it (None for
    ordinary calls).
    """
    if not args and "input" in kwargs:  # replacements take it by position
        args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
    if func in REVERSED:
        return partial(_reversed, func), (args[1], args[0]), kwargs, None
    if "out" in kwargs:
        into = kwargs["out"]
        return func, _apart(args, into), {k: v for k, v in kwargs.items() if k != "out"}, into
    if _writes(func):
        return CANONICAL.get(func, func), _apart(args, args[0]), kwargs, args[0]
    if _may_write(func):
        bound = inspect.signature(func).bind(*args, **kwargs)
        into = bound.arguments.get("inplace", False)
        bound.arguments["inplace"] = False
        first = bound.args[0]
        args = _apart(bound.args, first) if into else bound.args
        return func, args, bound.kwargs, first if into else None
    return func, args, kwargs, None


def received(into: Tensor, result: Tensor) -> Tensor:
    """The tensor itself, holding the result: statement spellings such as x.mul_(y) drop what they
    return.
    """
    into.copy_(result)
    if into.requires_grad and not result.requires_grad and not into._is_view():
        into.detach_()  # a constant now: else the next product would take it for a variable
    return into


def _apart(args: tuple, into: Tensor | None) -> tuple:
    """Operands that are about to be overwritten are copied: the derivative needs them as they
    were.
    """
    if into is None:
        return args
    return tuple(into.clone() if x is into else x for x in args)


def _reversed(func: Callable, left: Any, right: Any) -> Any:
    """`left op right` in the spelling that was used, which is a method of the right operand."""
    return func(right, left)


def tensors_in(args: Any, kwargs: dict) -> list[Tensor]:
    """The tensor operands of a call, also those inside lists (einsum, stacks of weights)."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += [v for v in value if isinstance(v, Tensor)]
    return found


def _may_write(func: Callable) -> bool:
    """Python functions with an `inplace` argument; methods such as x ** y only wrap builtins."""
    if not inspect.isfunction(func):
        return False
    return "inplace" in inspect.signature(func, follow_wrapped=False).parameters


def _writes(func: Callable) -> bool:
    name = name_of(func)
    return (name.endswith("_") and not name.endswith("__")) or (
        name.startswith("__i") and name.endswith("__")
    )
