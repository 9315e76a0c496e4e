"""The curvature of a training loss: products with vectors, for small models the whole matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vjp, vmap

from ..types import BadRequest
from .data import Inputs
from .net import Net
from .optim import Params
from .persample import lifted, rows_at_once
from .run import TrainingRun

Kind = Literal["ggn", "hessian"]
DENSE = 12_000  # parameters up to which the whole matrix is formed (1.2 GB in float64)


@dataclass(frozen=True, eq=False)
class Curvature:
    """Mean over training rows of the second derivative of their loss, without weight decay.

    ggn       J' H J with J the Jacobian of the outputs and H the loss's second derivative by them:
              never negative for a loss convex in the outputs; the Fisher matrix for
              cross-entropy and squared error
    hessian   the full second derivative; can be negative away from a minimum

    Over several checkpoints: their mean, each over its own share of the rows.
    """

    run: TrainingRun
    at: tuple[tuple[Params, Tensor], ...]  # parameters, and the rows looked at there
    kind: Kind = "ggn"

    @classmethod
    def of(cls, run: TrainingRun, steps: Sequence[int], kind: Kind = "ggn") -> Curvature:
        """At these checkpoints; of k checkpoints each looks at every k-th row."""
        rows, k = torch.arange(run.recipe.rows.n), len(steps)
        if len(rows) < k:  # too few to share
            return cls(run, tuple((run.checkpoints[s], rows) for s in steps), kind)
        return cls(run, tuple((run.checkpoints[s], rows[i::k]) for i, s in enumerate(steps)), kind)

    def dense(self) -> Float[Tensor, "p p"]:
        """The whole matrix. Time n C p^2, memory p^2."""
        net = self.run.net
        if net.size > DENSE:
            raise BadRequest(
                f"the model has {net.size:,} parameters; a dense curvature would take "
                f"{net.size**2 * 8 / 1e9:.0f} GB. Use a solver that never forms it: EKFac(), "
                "KFac() or CG()"
            )
        form = _ggn if self.kind == "ggn" else _hessian
        parts = [form(self.run, params, rows) for params, rows in self.at]
        return torch.stack(parts).mean(0) if len(parts) > 1 else parts[0]

    def times(self, vectors: Float[Tensor, "m p"]) -> Float[Tensor, "m p"]:
        """Products with vectors, without forming the matrix. Time n per vector, memory p m."""
        form = _ggn_times if self.kind == "ggn" else _hessian_times
        total = torch.zeros_like(vectors)
        for params, rows in self.at:
            for part in rows.split(PASS):
                total += form(self.run, params, part, vectors) * (len(part) / len(rows))
        return total / len(self.at)


PASS = 1024  # rows of one product


def _ggn(run: TrainingRun, params: Params, rows: Tensor) -> Float[Tensor, "p p"]:
    net, loss = run.net, run.recipe.loss
    p = dict(params)
    total = net.flat(p).new_zeros(net.size, net.size)
    for part in rows.split(max(rows_at_once(net, p, 16), 1)):
        x, y = run.recipe.rows.take(part)
        jacobian, bend = vmap(_linearised(net, loss), in_dims=(None, 0, 0))(p, x, y)
        j = net.flat(jacobian)  # (row, output, p)
        total += (bend @ j).flatten(0, 1).T @ j.flatten(0, 1)
    return total / len(rows)


def _linearised(net: Net, loss: Callable[..., Tensor]) -> Callable[..., tuple[Params, Tensor]]:
    """For one example: Jacobian of the outputs by the parameters, second derivative of the loss by
    the outputs.
    """

    def one(p: Params, x: Inputs, y: Tensor) -> tuple[Params, Tensor]:
        def outputs(q: Params) -> tuple[Tensor, Tensor]:
            out = net(q, lifted(x))
            return out[0].flatten(), out

        jacobian: Params
        jacobian, out = jacrev(outputs, has_aux=True)(p)
        bend = hessian(lambda z: loss(z.reshape(out.shape), y[None])[0])(out[0].flatten())
        return jacobian, bend

    return one


def _hessian(run: TrainingRun, params: Params, rows: Tensor) -> Float[Tensor, "p p"]:
    flat = run.net.flat(params)
    eye = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    size = max(PASS // 16, 1)
    parts = [_hessian_times(run, params, rows, unit) for unit in eye.split(size)]
    full = torch.cat(parts)
    return (full + full.T) / 2


def _hessian_times(
    run: TrainingRun, params: Params, rows: Tensor, vectors: Float[Tensor, "m p"]
) -> Float[Tensor, "m p"]:
    net, loss = run.net, run.recipe.loss
    x, y = run.recipe.rows.take(rows)

    def mean(p: Params) -> Tensor:
        return loss(net(p, x), y).mean()

    def one(v: Tensor) -> Tensor:
        return net.flat(jvp(grad(mean), (dict(params),), (net.named(v),))[1])

    return vmap(one, chunk_size=64)(vectors).detach()


def _ggn_times(
    run: TrainingRun, params: Params, rows: Tensor, vectors: Float[Tensor, "m p"]
) -> Float[Tensor, "m p"]:
    net, loss = run.net, run.recipe.loss
    x, y = run.recipe.rows.take(rows)

    def outputs(p: Params) -> Tensor:
        return net(p, x)

    out, back, *_ = vjp(outputs, dict(params))

    def slope(z: Tensor) -> Tensor:
        return grad(lambda u: loss(u, y).mean())(z)

    def one(v: Tensor) -> Tensor:
        moved = jvp(outputs, (dict(params),), (net.named(v),))[1]
        bent = jvp(slope, (out,), (moved,))[1]
        return net.flat(back(bent)[0])

    return vmap(one, chunk_size=64)(vectors).detach()
