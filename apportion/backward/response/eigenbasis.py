"""The eigenvectors and eigenvalues of a curvature, layer by layer as Kronecker products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.func import grad, hessian, vmap

from ...training.curvature import Curvature
from ...training.factors import (
    Layer,
    Pair,
    Survey,
    as_matrix,
    factors,
    from_matrix,
    rest_gradients,
    survey,
)
from ...training.measures import cross_entropy
from ...training.net import Net
from ...training.persample import rows_at_once
from ...training.run import TrainingRun
from ...types import BadRequest

Labels = Literal["sampled", "expected", "true"]
Basis = Literal["gradients", "factors"]
OfEigenvalues = Callable[[Tensor], Tensor]
OUTPUTS = 1024  # numbers a model may return per row where the loss's second derivative is rooted
SMALL = 256  # parameters of a module without factors that keep an exact block


@dataclass(frozen=True, eq=False)
class Part:
    """The spectrum of one layer, or of the parameters of a module without factors (one row)."""

    layer: Layer | tuple[str, ...]
    left: Float[Tensor, "out out"] | None  # eigenvectors in columns; None = the axes themselves
    right: Float[Tensor, "in in"] | None
    values: Float[Tensor, "out in"]

    def apply(self, named: Mapping[str, Tensor], f: OfEigenvalues) -> dict[str, Tensor]:
        """Stacked vectors, along every eigenvector multiplied by f of its eigenvalue."""
        m = _matrix(self.layer, named)
        dtype, m = m.dtype, m.double()
        turned = m if self.left is None else self.left.T @ m
        turned = turned if self.right is None else turned @ self.right
        turned = turned * f(self.values)
        back = turned if self.left is None else self.left @ turned
        back = back if self.right is None else back @ self.right.T
        return _unmatrix(self.layer, back.to(dtype), named)


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """A curvature without its blocks between layers, every layer in a Kronecker eigenbasis."""

    net: Net
    parts: tuple[Part, ...]
    survey: Survey

    def apply(self, vectors: Float[Tensor, "m p"], f: OfEigenvalues) -> Float[Tensor, "m p"]:
        """f(C) times vectors: along every eigenvector multiplied by f of its eigenvalue."""
        named, out = self.net.named(vectors), {}
        for part in self.parts:
            out.update(part.apply(named, f))
        return self.net.flat(out)

    @property
    def values(self) -> Float[Tensor, "p"]:
        """All eigenvalues, layer by layer."""
        return torch.cat([part.values.flatten() for part in self.parts])


def _matrix(layer: Layer | tuple[str, ...], named: Mapping[str, Tensor]) -> Tensor:
    if isinstance(layer, Layer):
        return as_matrix(layer, named)
    return torch.cat([named[name].flatten(1) for name in layer], -1)[:, None]


def _unmatrix(
    layer: Layer | tuple[str, ...], matrix: Tensor, named: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if isinstance(layer, Layer):
        return from_matrix(layer, matrix, named)
    parts = matrix[:, 0].split([named[name][0].numel() for name in layer], -1)
    return {k: part.reshape(named[k].shape) for k, part in zip(layer, parts, strict=True)}


@dataclass(frozen=True, eq=False)
class Look:
    """How the gradients behind a curvature are read: at which parameters, with which labels."""

    curvature: Curvature
    survey: Survey
    labels: Labels
    samples: int
    rng: Generator

    def blocks(self) -> Iterator[tuple[float, list[Pair], dict[str, Tensor]]]:
        """The weight of a row, and for blocks of rows the factors and other gradients."""
        run, at = self.curvature.run, self.curvature.at
        count = {"sampled": self.samples, "expected": outputs_of(run), "true": 1}[self.labels]
        for params, rows in at:
            for part in rows.split(rows_at_once(run.net, params, count)):
                x, y = run.recipe.rows.take(part)
                with torch.no_grad():
                    output = run.net(params, x)
                columns = self._columns(output, y)
                pairs = factors(run.net, params, self.survey.layers, x, columns)
                rest = rest_gradients(run.net, params, self.survey.rest, x, columns)
                yield 1 / (len(rows) * len(at)), pairs, rest

    def _columns(self, output: Tensor, label: Tensor) -> Float[Tensor, "column row ..."]:
        """Gradients by the outputs whose squares add up to the curvature there."""
        loss = self.curvature.run.recipe.loss
        if self.labels == "true":
            return grad(lambda z: loss(z, label).sum())(output)[None]
        if self.labels == "sampled" and loss == cross_entropy and output.ndim == 2:
            return _drawn_labels(output, self.samples, self.rng)
        root = rooted(loss, output, label)
        if self.labels == "sampled":
            noise = torch.randn(self.samples, len(output), len(root), generator=self.rng)
            root = torch.einsum("sbk,kbc->sbc", noise.to(root) / self.samples**0.5, root)
        return root.reshape(-1, *output.shape).to(output.dtype)


def _drawn_labels(output: Tensor, samples: int, rng: Generator) -> Tensor:
    """Gradients of cross-entropy at labels drawn from the model, over the root of their number."""
    chances = output.softmax(-1)
    drawn = torch.multinomial(chances.cpu(), samples, replacement=True, generator=rng)
    hot = torch.nn.functional.one_hot(drawn.T.to(output.device), output.shape[1])
    return (chances - hot.to(chances.dtype)) / samples**0.5


def rooted(
    loss: Callable[..., Tensor], output: Tensor, label: Tensor
) -> Float[Tensor, "column row out"]:
    """Columns l with sum of l l' = the second derivative of the loss by the outputs of a row."""
    bend = vmap(hessian(lambda z, y: loss(z[None], y[None])[0]))(output, label)
    count = output[0].numel()
    values, vectors = torch.linalg.eigh(bend.reshape(-1, count, count).double())
    if float(values.min()) < -1e-5 * float(values.abs().max()):
        raise BadRequest(
            f"the loss bends downwards along some outputs (second derivative {values.min():.2g}), "
            "so it has no Fisher matrix to sample or expect. Write labels='true'"
        )
    columns = (vectors * values.clamp(min=0).sqrt()[:, None]).permute(2, 0, 1)
    return columns[values.amax(0) > 0]


def outputs_of(run: TrainingRun) -> int:
    """How many numbers the model returns per row."""
    with torch.no_grad():
        return run.net(run.final, run.recipe.rows.take(slice(0, 1))[0]).numel()


@dataclass(frozen=True, eq=False)
class Fit:
    """The options of an eigenbasis."""

    labels: Labels
    samples: int
    basis: Basis
    corrected: bool  # eigenvalues measured in the basis, in place of products of two

    def __post_init__(self) -> None:
        for name, given, known in (
            ("labels", self.labels, get_args(Labels)), ("basis", self.basis, get_args(Basis))
        ):  # fmt: skip
            if given not in known:
                raise BadRequest(f"{name}={given!r}; write one of {', '.join(map(repr, known))}")
        if self.samples < 1:
            raise BadRequest(f"samples={self.samples}: at least one label is drawn for every row")

    def __call__(self, curvature: Curvature, rng: Generator) -> Eigenbasis:
        run = curvature.run
        if curvature.kind != "ggn":
            raise BadRequest(
                f"curvature={curvature.kind!r}, but Kronecker factors approximate the GGN; use "
                "curvature='ggn', or Dense() or CG() for the Hessian"
            )
        known = run.recipe.loss == cross_entropy
        if self.labels == "expected" or (self.labels == "sampled" and not known):
            self._check_outputs(outputs_of(run), known)
        layers = survey(run.net, curvature.at[0][0], run.recipe.rows)
        look = Look(curvature, layers, self.labels, self.samples, rng)
        sides, rest = _moments(look, self.basis)
        parts = [_part(layer, *sides[layer], self.basis) for layer in layers.layers]
        if self.corrected:
            parts = _measured(look, parts)
        return Eigenbasis(run.net, (*parts, *rest), layers)

    def _check_outputs(self, outputs: int, known: bool) -> None:
        if outputs > OUTPUTS:
            other = "'sampled' or 'true'" if known else "'true'"
            raise BadRequest(
                f"labels={self.labels!r} takes the root of the loss's second derivative by the "
                f"{outputs:,} outputs of every row, {OUTPUTS:,} at most; write labels={other}"
            )


Sides = tuple[Tensor, Tensor]  # second moments of a layer: (out, out), and (in, in) or (in,)


def _moments(look: Look, basis: Basis) -> tuple[dict[Layer, Sides], list[Part]]:
    """One pass over the rows: both sides of every layer, and the spectrum of the rest."""
    run = look.curvature.run
    sides = {layer: _empty(layer, look.curvature.at[0][0]) for layer in look.survey.layers}
    homes: dict[str, list[str]] = {}
    for name in look.survey.rest:
        homes.setdefault(name.rpartition(".")[0], []).append(name)
    groups = [tuple(names) for names in homes.values()]
    sizes = [sum(run.final[k].numel() for k in names) for names in groups]
    blocks = [torch.zeros((q, q) if q <= SMALL else (q,), dtype=torch.float64) for q in sizes]
    for weight, pairs, rest in look.blocks():
        for pair in pairs:
            _add(sides[pair.layer], pair, basis, weight)
        for k, names in enumerate(groups):
            g = torch.cat([rest[name] for name in names], -1).flatten(0, 1).double()
            blocks[k] += weight * (g.T @ g if blocks[k].ndim == 2 else g.square().sum(0)).cpu()
    parts = []
    for names, block in zip(groups, blocks, strict=True):
        values, turn = torch.linalg.eigh(block) if block.ndim == 2 else (block, None)
        parts.append(Part(names, None, turn, values.clamp(min=0)[None]))
    return sides, parts


def _empty(layer: Layer, params: Mapping[str, Tensor]) -> Sides:
    out, inside = as_matrix(layer, {k: params[k][None] for k in layer.names})[0].shape
    like = params[layer.weight].new_zeros((), dtype=torch.float64)
    one_hot = layer.form == "embedding"  # inputs of different tokens never meet at one place
    return like.new_zeros(out, out), like.new_zeros((inside,) if one_hot else (inside, inside))


def _add(sides: Sides, pair: Pair, basis: Basis, weight: float) -> None:
    """Adds the second moments of a block of rows: S of what flows back and A of what is read, or
    those of the whole gradient G of a row, E[G G'] and E[G' G].
    """
    a, delta = pair.a, pair.delta
    if basis == "factors":
        flat, read = delta.flatten(0, 2), a.flatten(0, 1)
        s, r = flat.T @ flat, read.T @ read / a.shape[1]  # a mean over places, S a sum
    elif a.shape[1] == 1:
        flat, read = delta[:, :, 0], a[:, 0]
        s = torch.einsum("b,kbo,kbp->op", read.square().sum(-1), flat, flat)
        r = (read * flat.square().sum((0, 2))[:, None]).T @ read
    else:
        g = pair.gradients().flatten(0, 1)
        s, r = torch.einsum("boi,bpi->op", g, g), torch.einsum("boi,boj->ij", g, g)
    sides[0].add_(weight * s.double())
    if pair.tokens is not None:
        sides[1].index_add_(0, pair.tokens, weight * r.diagonal().double())
    else:
        sides[1].add_(weight * r.double())


def _part(layer: Layer, s: Tensor, a: Tensor, basis: Basis) -> Part:
    """Both sides diagonalised; eigenvalues are products, of the trace of C for whole gradients."""
    out, left = torch.linalg.eigh(s)
    inside, right = torch.linalg.eigh(a) if a.ndim == 2 else (a, None)
    values = out.clamp(min=0)[:, None] * inside.clamp(min=0)
    if basis == "gradients":
        values = values / out.sum().clamp(min=torch.finfo(out.dtype).tiny)
    return Part(layer, left, right, values)


def _measured(look: Look, parts: Sequence[Part]) -> list[Part]:
    """Eigenvalues as mean squares of the rows' gradients along each pair of eigenvectors."""
    values = {part.layer: torch.zeros_like(part.values) for part in parts}
    own = {part.layer: part for part in parts}
    for weight, pairs, _ in look.blocks():
        for pair in pairs:
            found = weight * _squares(pair, own[pair.layer]).double()
            tokens = pair.tokens
            every = torch.arange(found.shape[1]) if tokens is None else tokens
            values[pair.layer].index_add_(1, every.to(found.device), found)
    return [Part(part.layer, part.left, part.right, values[part.layer]) for part in parts]


def _squares(pair: Pair, part: Part) -> Float[Tensor, "out in"]:
    """Sum over rows and columns of the squared rotated gradient; places are summed before."""
    assert part.left is not None
    delta = pair.delta @ part.left.to(pair.delta.dtype)
    a = pair.a if part.right is None else pair.a @ part.right.to(pair.a.dtype)
    if a.shape[1] == 1:
        return delta.square().sum(0)[:, 0].T @ a.square()[:, 0]
    total = delta.new_zeros(part.values.shape[0], a.shape[-1])
    for column in delta:
        total += torch.einsum("bto,bti->boi", column, a).square().sum(0)
    return total
