"""Players inside the model: neurons, directions, channels, cells, heads, MLP blocks, layers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..taps import Call, Site, module_at, read
from ..types import BadRequest, whole
from ..views import Basis
from .base import PRESENT, Geometry, Players
from .blocks import Attention, attentions, calls_of, mlp_outputs
from .image import seen_by_people

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def neurons(model: nn.Module, layer: str, *, input: Any = None, call: int | None = None) -> Players:
    """One player per unit of the last axis of a layer's output."""
    module = module_at(model, layer)
    width = (
        module.out_features
        if isinstance(module, nn.Linear)
        else _shape(model, layer, input, call)[-1]
    )
    names = tuple(f"{called(layer)}, neuron {i}" for i in range(width))
    return _parts("neuron", names, {Site(layer, "out", None, call): torch.arange(width)})


def directions(
    model: nn.Module,
    layer: str,
    atoms: Tensor,
    names: Sequence[str] | None = None,
    *,
    call: int | None = None,
) -> Players:
    """One player per direction in the activations of a layer: concept vectors, principal or
    independent components, decoder rows of a few latents. All positions together.

    `atoms` (direction, unit of the last axis) are linearly independent; how much of each there is
    is told by least squares, and what none of them can express is always present.
    """
    module_at(model, layer)
    view = Basis(atoms)
    called_ = [f"direction {i + 1}" for i in range(len(atoms))] if names is None else list(names)
    if len(called_) != len(atoms):
        raise BadRequest(f"{len(called_)} names for {len(atoms)} directions")
    site, kinds = Site(layer, "out", None, call), ("direction",) * len(atoms)
    geometry = {"direction": Geometry("parts")}
    return Players(tuple(called_), kinds, {site: torch.arange(len(atoms))}, geometry, {site: view})


def channels(
    model: nn.Module, layer: str, *, input: Any = None, call: int | None = None
) -> Players:
    """One player per channel (first axis after the batch) of a layer's output, all positions
    together.
    """
    module = module_at(model, layer)
    if isinstance(module, CONVOLUTIONS):
        width, space = module.out_channels, len(module.kernel_size)
    elif isinstance(module, NORMS) and not isinstance(module, nn.BatchNorm1d):
        width, space = module.num_features, 2 if isinstance(module, nn.BatchNorm2d) else 3
    else:
        shape = _shape(model, layer, input, call)
        width, space = shape[0], len(shape) - 1
    if space < 1:
        raise BadRequest(
            f"the output of {layer!r} has no axis of positions; use neurons(model, {layer!r})"
        )
    owner = torch.arange(width).reshape(width, *(1,) * space)
    return _parts(
        "channel",
        tuple(f"{called(layer)}, channel {i}" for i in range(width)),
        {Site(layer, "out", None, call): owner},
    )


def cells(
    model: nn.Module,
    layer: str,
    *,
    input: Any,
    picture: Any = None,
    axis: int = 1,
    call: int | None = None,
) -> Players:
    """One player per position of a feature map, all its channels together.

    `input` is an example input; of a picture the cells are drawn over it (or over `picture`), each
    where it lies in proportion. `axis` is the axis of channels: 1 as in convolutions, -1 where they
    come last, as tokens of a vision transformer do. `Gradient` on cells is HiResCAM.
    """
    whole(axis, "axis", "cells", 1)
    shape = _shape(model, layer, input, call)
    at = axis - 1 if axis > 0 else axis + len(shape)
    if len(shape) < 2 or not 0 <= at < len(shape):
        raise BadRequest(
            f"cells({layer!r}, axis={axis}): the output has shape {('batch', *shape)}, in which "
            + (
                f"axis {axis} is no axis of channels; give axis=1 to {len(shape)}, or"
                if len(shape) > 1
                else "there are no positions;"
            )
            + f" use neurons(model, {layer!r})"
        )
    places = shape[:at] + shape[at + 1 :]
    owner = torch.arange(math.prod(places)).reshape(*places[:at], 1, *places[at:])
    letters = {1: ("place ",), 2: ("r", "c"), 3: ("s", "r", "c")}.get(len(places), ("",) * 9)
    names = tuple(
        " ".join(f"{letter}{i + 1}" for letter, i in zip(letters, place, strict=False))
        for place in itertools.product(*map(range, places))
    )
    site = Site(layer, "out", None, call)
    first = next(iter(Call.of(input).tensors().values()))
    drawn = len(places) == 2 and (
        picture is not None or (first.ndim == 4 and first.is_floating_point())
    )
    geometry = (
        Geometry("image", site, places, seen_by_people(first, picture))
        if drawn
        else Geometry("parts", grid=places)
    )
    return Players(names, ("cell",) * len(names), {site: owner}, {"cell": geometry})


def heads(
    model: nn.Module,
    *,
    count: int | None = None,
    positions: Sequence[int] | None = None,
    length: int | None = None,
    calls: int | None = None,
) -> Players:
    """One player per attention head, gated where the heads enter their output projection.

    The projections are found by structure: a linear layer inside an attention block under one of
    the usual names; in an encoder-decoder also those of cross-attention. `count` is the number of
    heads per layer where neither the block nor the configuration says. With `positions` there is
    one player per head and position, of a sequence of `length` tokens (default: as many as
    `positions`). `calls` is how often each block runs in one forward pass, where layers share their
    weights (default: what the configuration says): each call has heads of its own.
    """
    found = attentions(model)
    names: list[str] = []
    owner: dict[Site, Tensor] = {}
    places = None if positions is None else [int(p) for p in positions]
    rows = _rows(places, length)
    runs = _runs(model, [block.path for block in found], calls)
    blocks = [block for block in found for _ in range(len(runs) // len(found))]
    for block, (layer, call) in zip(blocks, runs, strict=True):
        each = _heads_in(model, block, count)
        head = torch.arange(block.width) // (block.width // each)
        site = Site(block.path, "in", None, call)
        if places is None:
            owner[site] = (head + len(names))[None]
            names += [f"{layer}, head {h}" for h in range(each)]
        else:
            own = torch.full((rows, block.width), PRESENT)
            for k, place in enumerate(places):
                own[place] = head + len(names) + k * each
            owner[site] = own
            names += [f"{layer}, head {h}, position {p}" for p in places for h in range(each)]
    return _parts("head", tuple(names), owner)


def _heads_in(model: nn.Module, block: Attention, count: int | None) -> int:
    each = block.heads if count is None else count
    if each is None:
        raise BadRequest(
            f"{type(model).__name__} does not say how many heads a layer has; give heads(model, "
            "count=...)"
        )
    if block.width % each:
        raise BadRequest(
            f"{block.path!r} reads {block.width} features, which {each} heads do not divide; give "
            "count="
        )
    return each


def _runs(model: nn.Module, paths: list[str], calls: int | None) -> list[tuple[str, int | None]]:
    """A name for every run of every block, and which call of its module that is."""
    each = calls_of(model) if calls is None else calls
    if each < 1:
        raise BadRequest(f"calls={each}: a block that runs has at least one call")
    called_ = _layers(paths)
    if each == 1:
        return [(layer, None) for layer in called_]
    return [(f"{layer}, call {k}", k) for layer in called_ for k in range(each)]


def _rows(places: list[int] | None, length: int | None) -> int:
    """How many positions the sequence has."""
    rows = len(places or ()) if length is None else length
    bad = [p for p in places or () if not 0 <= p < rows]
    if bad or len(set(places or ())) < len(places or ()):
        raise BadRequest(
            f"positions must be different numbers from 0 to {rows - 1}; got {bad or places}. Say "
            "how long the sequence is with length=."
        )
    return rows


def _layers(paths: list[str]) -> list[str]:
    """Names of layers: their numbers, or their paths where numbers do not tell them apart."""
    numbers = [layer_number(path) for path in paths]
    return [f"layer {n}" for n in (numbers if len(set(numbers)) == len(paths) else paths)]


def mlps(model: nn.Module, *, calls: int | None = None, part: int | str | None = None) -> Players:
    """One player per MLP block, gated at its output, all positions together.

    Blocks are found by structure: modules called mlp, ffn, feed_forward ..., an `output.dense` that
    follows an `intermediate` layer, as in BERT, or an `fc2` beside an `fc1`, as in BART. `calls` is
    how often each runs in one forward pass, where layers share their weights (default: what the
    configuration says). `part` is which element of its output a block adds, where it returns
    several, as mixtures of experts do.
    """
    found = mlp_outputs(model)
    runs = _runs(model, found, calls)
    sites = [path for path in found for _ in range(len(runs) // len(found))]
    owner = {
        Site(path, "out", part, call): torch.full((1, 1), i)
        for i, (path, (_, call)) in enumerate(zip(sites, runs, strict=True))
    }
    return _parts("mlp", tuple(f"{layer}, MLP" for layer, _ in runs), owner)


def layers(model: nn.Module, *, calls: int | None = None, part: int | str | None = None) -> Players:
    """One player per transformer block, owning what it adds to the residual stream: the outputs of
    its attention and of its MLP, all positions together.

    Without a player (zeros) its block passes the stream on unchanged, as if it were skipped; in
    models that normalise after the addition, up to those norms. Attention and MLPs are found as
    `heads` and `mlps` find them; `calls` and `part` are those of `mlps`.
    """
    inside: dict[str, list[Site]] = {}
    sites = [Site(block.path, "out") for block in attentions(model)]
    for site in [*sites, *mlps(model, calls=1, part=part).owner]:
        block = re.match(r"(?:.*?\.)??\d+(?=\.|$)", site.path)
        inside.setdefault(block.group() if block else site.path.rpartition(".")[0], []).append(site)
    order = [path for path, _ in model.named_modules() if path in inside]
    runs = _runs(model, order, calls)
    blocks = [path for path in order for _ in range(len(runs) // len(order))]
    owner = {
        replace(site, call=call): torch.full((1, 1), i)
        for i, (path, (_, call)) in enumerate(zip(blocks, runs, strict=True))
        for site in inside[path]
    }
    return _parts("layer", tuple(layer for layer, _ in runs), owner)


def layer_number(path: str) -> str:
    """The number of the block a path lies in, as text; the path itself where it has none."""
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return number.group(1) if number else path


def called(layer: str) -> str:
    """A layer as people say it: its path, or "layer 3" where the path is only a number."""
    return f"layer {layer}" if layer.isdigit() else layer


def _parts(kind: str, names: tuple[str, ...], owner: dict[Site, Tensor]) -> Players:
    return Players(names, (kind,) * len(names), owner, {kind: Geometry("parts")})


def _shape(model: nn.Module, layer: str, given: Any, call: int | None) -> tuple[int, ...]:
    if given is None:
        raise BadRequest(
            f"{layer!r} is a {type(module_at(model, layer)).__name__}, whose width is not written "
            "on it; pass input= (an example input), so that one forward pass can tell"
        )
    site = Site(layer, "out", None, call)
    return tuple(read(model, Call.of(given), [site], whole=True)[site].shape[1:])
