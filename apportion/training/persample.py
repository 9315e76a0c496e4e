"""The gradient of every example by itself, without a Python loop over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jvp, vmap

from .data import Inputs, Queries, Rows, pick
from .net import Net
from .optim import Params

BYTES = 2**28  # of gradients held at once
ROOM = 4096  # examples at most in one block

Of = Callable[[Any, Tensor], Tensor]


def rows_at_once(net: Net, params: Params, outputs: int = 1) -> int:
    """How many examples fit into one block of gradients."""
    each = net.size * outputs * next(iter(params.values())).element_size()
    return max(min(BYTES // max(each, 1), ROOM), 1)


def lifted(input: Inputs) -> Inputs:
    """One example with its batch axis put back."""
    return input[None] if isinstance(input, Tensor) else {k: x[None] for k, x in input.items()}


def each(net: Net, params: Params, of: Of, input: Inputs, label: Tensor) -> Float[Tensor, "row p"]:
    """Gradient of of(output, label) by the parameters, one row per example, all held at once.

    A batch of one is run for every example, so examples cannot see each other.
    """

    def one(p: Params, x: Inputs, y: Tensor) -> Tensor:
        return of(net(p, lifted(x)), y[None])[0]

    try:
        return net.flat(vmap(grad(one), in_dims=(None, 0, 0))(dict(params), input, label))
    except RuntimeError:  # a layer that cannot be batched over examples, or too little memory
        rows = [(pick(input, slice(i, i + 1)), label[i : i + 1]) for i in range(len(label))]
        alone = [
            grad(lambda p, own=own: of(net(p, own[0]), own[1])[0])(dict(params)) for own in rows
        ]
        return torch.stack([net.flat(g) for g in alone])


def blocks(
    net: Net, params: Params, of: Of, rows: Rows, size: int | None = None
) -> Iterator[tuple[slice, Float[Tensor, "row p"]]]:
    """The gradients of all training rows, block by block."""
    size = rows_at_once(net, params) if size is None else size
    for at in range(0, rows.n, size):
        own = slice(at, min(at + size, rows.n))
        yield own, each(net, params, of, *rows.take(own))


def of_queries(net: Net, params: Params, queries: Queries) -> Float[Tensor, "query p"]:
    """Gradient of every query's value."""
    size = rows_at_once(net, params)
    parts = [
        each(
            net, params, queries.measure,
            pick(queries.input, slice(at, at + size)), queries.labels[at : at + size],
        )
        for at in range(0, queries.n, size)
    ]  # fmt: skip
    return torch.cat(parts)


def along(
    net: Net, params: Params, of: Of, rows: Rows, directions: Float[Tensor, "query p"]
) -> Float[Tensor, "query row"]:
    """Derivative of of(output, label) of every training row along each direction.

    With few directions one forward-mode pass each, which never forms a gradient; with many the
    gradients block by block, times all directions. Memory does not grow with the rows.
    """
    if len(directions) < FEW:
        try:
            return torch.stack([_forward(net, params, of, rows, u) for u in directions])
        except NotImplementedError:  # a layer without forward mode, such as a recurrent one
            pass
    out = directions.new_empty(len(directions), rows.n)
    for own, gradients in blocks(net, params, of, rows):
        out[:, own] = directions @ gradients.T
    return out


FEW = 8  # directions, up to which forward mode is cheaper than the gradients
WIDE = 256  # rows of one forward-mode pass


def _forward(
    net: Net, params: Params, of: Of, rows: Rows, direction: Float[Tensor, "p"]
) -> Float[Tensor, "row"]:
    tangent = net.named(direction)
    parts = []
    for at in range(0, rows.n, WIDE):
        x, y = rows.take(slice(at, at + WIDE))

        def losses(p: Params, x: Inputs = x, y: Tensor = y) -> Tensor:
            return of(net(p, x), y)

        parts.append(jvp(losses, (dict(params),), (tangent,))[1].detach())
    return torch.cat(parts)
