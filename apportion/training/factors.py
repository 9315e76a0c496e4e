"""Gradients of single examples as products of what a layer reads and what flows back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.functional import one_hot, pad, unfold

from .data import Inputs, Rows, tensors
from .net import Net
from .optim import Params
from .persample import each, lifted

Form = Literal["linear", "conv", "embedding"]


@dataclass(frozen=True)
class Layer:
    """A module whose gradient is a sum over places of (flowing back) x (read)."""

    module: str
    form: Form
    weight: str
    bias: str | None = None  # then the layer reads a constant 1 besides its input

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters it covers."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Pair:
    """For a block of rows: gradient of row b, column k = sum over places t of delta_kbt a_bt'.

    Places are the positions of a sequence, an image, or the calls of a module used several times.
    Of an embedding `a` says which token stands at a place, with an axis for the tokens seen only.
    """

    layer: Layer
    a: Float[Tensor, "row place in"]
    delta: Float[Tensor, "column row place out"]
    tokens: Tensor | None = None  # of an embedding: which inputs the axis `in` stands for

    def gradients(self) -> Float[Tensor, "column row out in"]:
        """The gradients themselves."""
        return torch.einsum("kbto,bti->kboi", self.delta, self.a)


@dataclass(frozen=True)
class Survey:
    """Which parameters of a model have factors; the rest keeps its gradients as they are."""

    layers: tuple[Layer, ...]
    rest: tuple[str, ...]
    share: float  # of all parameters, those in `rest`

    def __str__(self) -> str:
        if not self.rest:
            return "every parameter is in a factorised layer"
        some = ", ".join(self.rest[:5]) + (", ..." if len(self.rest) > 5 else "")
        return f"{self.share:.1%} of the parameters have no Kronecker factors: {some}"


def survey(net: Net, params: Params, rows: Rows) -> Survey:
    """Linear, Conv1d, Conv2d and Embedding modules whose factors give back the gradients of a few
    rows. Convolutions in groups, tied weights, and weights read outside of their module's call
    (as nn.MultiheadAttention does) have none; nor have norms and free parameters.
    """
    x, y = rows.take(slice(0, 3))

    def waves(output: Tensor) -> Tensor:
        """A value that depends on every output, without cancelling."""
        return output.flatten(1) @ _wave(output)

    truth = net.named(each(net, params, lambda output, _: waves(output), x, y))
    with torch.no_grad():
        output = net(params, x)
    columns = _wave(output).expand(len(output), -1).reshape(1, *output.shape)
    pairs = factors(net, params, _layers(net), x, columns)
    layers = tuple(pair.layer for pair in pairs if _agrees(pair, truth, net))
    covered = {name for layer in layers for name in layer.names}
    rest = tuple(name for name in net.names if name not in covered)
    return Survey(layers, rest, sum(params[k].numel() for k in rest) / net.size)


def _wave(output: Tensor) -> Float[Tensor, "out"]:
    """Weights of the outputs, none of them alike."""
    count = output[0].numel()
    return (1.0 + torch.arange(count, device=output.device)).to(output.dtype).cos()


def _agrees(pair: Pair, truth: Params, net: Net) -> bool:
    told = as_matrix(pair.layer, truth)
    seen = pair.gradients()[0]
    if pair.tokens is not None:
        seen = torch.zeros_like(told).index_add(-1, pair.tokens, seen)
    return bool((told - seen).norm() <= 1e-3 * told.norm())


def _layers(net: Net) -> list[Layer]:
    """Modules of a kind that has factors, with the names of their free parameters."""
    free, found = set(net.names), []
    for path, module in net.module.named_modules():
        form = _form(module)
        own = {name for name, _ in module.named_parameters(recurse=False)}
        weight, bias = (f"{path}.{name}" if path else name for name in ("weight", "bias"))
        if form is not None and "weight" in own and weight in free:
            biased = "bias" in own and bias in free
            found.append(Layer(path, form, weight, bias if biased else None))
    return found


def _form(module: nn.Module) -> Form | None:
    match module:
        case nn.Linear():
            return "linear"
        case nn.Conv1d() | nn.Conv2d() if module.groups == 1 and module.padding_mode == "zeros":
            return "conv"
        case nn.Embedding() if module.max_norm is None and not module.scale_grad_by_freq:
            return "embedding"
    return None


def factors(
    net: Net, params: Params, layers: Sequence[Layer], input: Inputs, columns: Tensor
) -> list[Pair]:
    """The factors of every layer that was called with one row of `input` per row; gradients are
    those of the outputs times each of `columns` (column, row, *output). One backward pass per
    column.
    """
    output, calls = _listened(net, params, layers, input)
    taps = [tap for layer in layers for _, tap in calls[layer.module]]
    if not output.requires_grad:
        return []  # no layer was called, or its output was cut off
    back = [
        torch.autograd.grad(output, taps, column, retain_graph=True, materialize_grads=True)
        for column in columns
    ]
    deltas = iter([torch.stack(parts) for parts in zip(*back, strict=True)])
    pairs = []
    for layer in layers:
        own = [(read, next(deltas)) for read, _ in calls[layer.module]]
        module = net.module.get_submodule(layer.module)
        pair = _pair(layer, module, own, len(tensors(input)[0]))
        pairs += [pair] if pair is not None else []
    return pairs


def _listened(
    net: Net, params: Params, layers: Sequence[Layer], input: Inputs
) -> tuple[Tensor, dict[str, list[tuple[Tensor, Tensor]]]]:
    """The outputs, and of every call of a layer its input and a zero added to its output, whose
    gradient is the one flowing back.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {layer.module: [] for layer in layers}

    def listen(path: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple, named: dict, out: Tensor) -> Tensor:
            read = args[0] if args else next(iter(named.values()))
            tap = torch.zeros_like(out).requires_grad_()
            calls[path].append((read.detach().clone(), tap))  # it may be overwritten later
            return out + tap

        return hook

    # without gradients of parameters, nothing before the first layer is remembered
    fixed = {name: p.detach() for name, p in params.items()}
    handles = [
        net.module.get_submodule(path).register_forward_hook(listen(path), with_kwargs=True)
        for path in calls
    ]
    try:
        with torch.enable_grad():
            output = net(fixed, input)
    finally:
        for handle in handles:
            handle.remove()
    return output, calls


def _pair(
    layer: Layer, module: nn.Module, calls: list[tuple[Tensor, Tensor]], rows: int
) -> Pair | None:
    """All calls of a layer as one sum over places; None where axis 0 does not count the rows."""
    if not calls or not all(_by_row(layer, module, read, rows) for read, _ in calls):
        return None
    if layer.form == "conv":
        delta = torch.cat([d.flatten(3).transpose(2, 3) for _, d in calls], 2)
        a = torch.cat([_unfolded(module, read) for read, _ in calls], 1)
    else:
        delta = torch.cat([d.reshape(*d.shape[:2], -1, d.shape[-1]) for _, d in calls], 2)
        if isinstance(module, nn.Embedding):
            index = torch.cat([read.reshape(rows, -1) for read, _ in calls], 1)
            return _looked_up(layer, module, index, delta)
        a = torch.cat([read.reshape(rows, -1, read.shape[-1]) for read, _ in calls], 1)
    if layer.bias is not None:
        a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], -1)
    return Pair(layer, a, delta)


def _by_row(layer: Layer, module: nn.Module, read: Tensor, rows: int) -> bool:
    axes = {"linear": 2, "conv": 2, "embedding": 1}[layer.form]
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        axes = 2 + len(module.kernel_size)
    return read.ndim >= axes and len(read) == rows


def _looked_up(layer: Layer, module: nn.Embedding, index: Tensor, delta: Tensor) -> Pair:
    tokens, places = index.unique(return_inverse=True)
    a = one_hot(places, len(tokens)).to(delta.dtype)
    if module.padding_idx is not None:  # its row is never trained
        a = a * (index != module.padding_idx)[..., None]
    return Pair(layer, a, delta, tokens)


def _unfolded(module: nn.Module, x: Tensor) -> Float[Tensor, "row place in"]:
    """What a convolution reads at each of its places."""
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    size, step, wide = module.kernel_size, module.stride, module.dilation
    edges: list[int] = []
    for axis in reversed(range(len(size))):  # pad starts with the last axis
        if module.padding == "same":
            total = wide[axis] * (size[axis] - 1)
            edges += [total // 2, total - total // 2]
        else:
            edges += [0 if module.padding == "valid" else int(module.padding[axis])] * 2
    x = pad(x, edges)
    if len(size) == 1:
        x, size, step, wide = x[:, :, None], (1, *size), (1, *step), (1, *wide)
    return unfold(x, size, dilation=wide, stride=step).transpose(1, 2)


def rest_gradients(
    net: Net, params: Params, names: Sequence[str], input: Inputs, columns: Tensor
) -> dict[str, Float[Tensor, "column row q"]]:
    """Gradients of single rows by parameters without factors, one backward pass for each row and
    column of `columns` (column, row, *output).
    """
    own = {name: params[name] for name in names}

    def one(x: Inputs, pulls: Tensor) -> dict[str, Tensor]:
        _, back, *_ = vjp(lambda q: net({**params, **q}, lifted(x))[0], own)
        return vmap(back)(pulls)[0]

    found = vmap(one, in_dims=(0, 1), out_dims=1)(input, columns)
    return {name: g.flatten(2) for name, g in found.items()}


def as_matrix(layer: Layer, named: Mapping[str, Tensor]) -> Float[Tensor, "m out in"]:
    """Stacked gradients or directions of a layer's parameters as matrices, the bias as the last
    column.
    """
    weight = named[layer.weight]
    if layer.form == "embedding":
        return weight.transpose(1, 2)
    weight = weight.flatten(2)
    return weight if layer.bias is None else torch.cat([weight, named[layer.bias][..., None]], -1)


def from_matrix(
    layer: Layer, matrix: Float[Tensor, "m out in"], named: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of `as_matrix`, in the shapes of `named`."""
    if layer.form == "embedding":
        return {layer.weight: matrix.transpose(1, 2)}
    if layer.bias is None:
        return {layer.weight: matrix.reshape(named[layer.weight].shape)}
    return {
        layer.weight: matrix[..., :-1].reshape(named[layer.weight].shape),
        layer.bias: matrix[..., -1],
    }
