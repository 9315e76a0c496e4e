"""Projections of gradients to fewer numbers that keep inner products in the mean. None holds a
matrix as large as gradient times result: blocks of it are drawn anew from a counter when needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..types import BadRequest
from .net import Net

SIGNS = 2**22  # drawn at once
COORDINATES = 2**16  # of a sparse projection drawn at once
PIECE = 1024  # of them sent at once: with some hundred rows they stay in a processor's cache
BYTE = (
    torch.from_numpy(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)).float() * 2 - 1
)  # the eight signs in each byte


@runtime_checkable
class Projection(Protocol):
    """A random linear map, the same at every call: (B, p) -> (B, k) with E[Px . Py] = x . y."""

    @property
    def seed(self) -> int: ...

    def size(self, p: int) -> int:
        """The length of the result for gradients of this length."""

    def __call__(self, gradients: Float[Tensor, "row p"]) -> Float[Tensor, "row k"]: ...


@dataclass(frozen=True)
class Identity:
    """The gradient as it is."""

    seed: int = 0  # nothing is drawn

    def size(self, p: int) -> int:
        return p

    def __call__(self, gradients: Float[Tensor, "row p"]) -> Float[Tensor, "row p"]:
        return gradients


@dataclass(frozen=True)
class Rademacher:
    """Random signs over sqrt(k). Time k p per row.

    Var(Px . Py) = (|x|^2 |y|^2 + (x . y)^2 - 2 sum x_a^2 y_a^2) / k. Signs are drawn a bit each and
    once per call, so give many rows at once: 500 rows spend 2 % of the time on drawing.
    """

    k: int
    seed: int = 0

    def __post_init__(self) -> None:
        _whole(self.k, 1, "Rademacher(k=...)")
        _whole(self.seed, 0, "Rademacher(seed=...)")

    def size(self, p: int) -> int:
        return self.k

    def __call__(self, gradients: Float[Tensor, "row p"]) -> Float[Tensor, "row k"]:
        width, out = max(SIGNS // self.k, 1), gradients.new_zeros(len(gradients), self.k)
        for block, part in enumerate(gradients.split(width, -1)):
            drawn = signs((self.seed, block), part.shape[-1], self.k)
            out.addmm_(part, drawn.to(part))
        return out / math.sqrt(self.k)


@dataclass(frozen=True)
class SparseJL:
    """Sparse Johnson-Lindenstrauss: each entry of the gradient is added, with a random sign, to
    `nonzeros` entries of the result, one in each of as many segments. Time nonzeros x p per row.

    The variance is that of `Rademacher`, whatever `nonzeros`, if that divides k; more of them
    lighten the tails.
    """

    k: int
    nonzeros: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        _whole(self.k, 1, "SparseJL(k=...)")
        _whole(self.nonzeros, 1, "SparseJL(nonzeros=...)")
        _whole(self.seed, 0, "SparseJL(seed=...)")
        if self.nonzeros > self.k:
            raise BadRequest(
                f"SparseJL(k={self.k}, nonzeros={self.nonzeros}): an entry cannot go to more places"
                " than there are; lower nonzeros= or raise k="
            )

    def size(self, p: int) -> int:
        return self.k

    def __call__(self, gradients: Float[Tensor, "row p"]) -> Float[Tensor, "row k"]:
        out = gradients.new_zeros(self.k, len(gradients))
        for block, part in enumerate(gradients.split(COORDINATES, -1)):
            place, sign = self._draw(block, part.shape[-1])
            for at in range(0, part.shape[-1], PIECE):
                own = slice(at, at + PIECE)
                turned = part[:, own].T.contiguous()  # whole rows are added many times faster
                for j in range(self.nonzeros):
                    sent = turned * sign[j, own, None].to(turned)
                    out.index_add_(0, place[j, own].to(out.device), sent)
        return out.T.contiguous()

    def _draw(
        self, block: int, width: int
    ) -> tuple[Int[Tensor, "nonzero p"], Float[Tensor, "nonzero p"]]:
        """Where the entries go and with which factor: the high and the lowest bits of a draw."""
        raw = _raw((self.seed, block), width * self.nonzeros).reshape(width, self.nonzeros).T
        edge = np.arange(self.nonzeros + 1, dtype=np.uint64) * np.uint64(self.k)
        edge //= np.uint64(self.nonzeros)
        high = raw >> np.uint64(32)
        place = edge[:-1, None] + ((high * np.diff(edge)[:, None]) >> np.uint64(32))
        sign = ((raw & np.uint64(1)) * 2.0 - 1.0) / math.sqrt(self.nonzeros)
        return torch.from_numpy(place.astype(np.int64)), torch.from_numpy(sign)


@dataclass(frozen=True)
class Kronecker:
    """Two-sided: the gradient G (out, in) of every parameter becomes P_o G P_i', that is
    (P_o x P_i) vec G, with random signs P_o (k_out, out) and P_i (k_in, in).

    Sides that are no longer than asked for stay as they are; a vector is a matrix of one column;
    axes after the first are one side. Time about k_out p per row, memory of the signs k_out out +
    k_in in. One sign is shared by a whole line of G, so the variance is above that of `Rademacher`.
    """

    k_out: int
    k_in: int
    shapes: tuple[tuple[int, ...], ...]  # of the parameters, in order
    seed: int = 0

    def __post_init__(self) -> None:
        _whole(self.k_out, 1, "Kronecker(k_out=...)")
        _whole(self.k_in, 1, "Kronecker(k_in=...)")
        _whole(self.seed, 0, "Kronecker(seed=...)")

    @classmethod
    def of(cls, net: Net, k_out: int, k_in: int, seed: int = 0) -> Kronecker:
        """For the free parameters of a model."""
        own = dict(net.module.named_parameters())
        return cls(k_out, k_in, tuple(tuple(own[name].shape) for name in net.names), seed)

    @classmethod
    def within(cls, net: Net, k: int, seed: int = 0) -> Kronecker:
        """With equal sides, as long as fit into k numbers in all."""
        _whole(k, 1, "Kronecker.within(k=...)")
        found = cls.of(net, 1, 1, seed)
        least = found.size(net.size)
        if least > k:
            raise BadRequest(
                f"Kronecker.within(k={k}): the model has {least} parameter tensors, each of which "
                f"gives at least one number; ask for k={least} or more"
            )
        wider = found
        while wider.size(net.size) <= k and found.size(net.size) < net.size:
            found, wider = wider, replace(wider, k_out=wider.k_out + 1, k_in=wider.k_in + 1)
        return found

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """Every parameter as a matrix: (out, in)."""
        return tuple((shape[0], math.prod(shape[1:])) if shape else (1, 1) for shape in self.shapes)

    def size(self, p: int) -> int:
        return sum(min(o, self.k_out) * min(i, self.k_in) for o, i in self.sides)

    def __call__(self, gradients: Float[Tensor, "row p"]) -> Float[Tensor, "row k"]:
        lengths = [o * i for o, i in self.sides]
        if sum(lengths) != gradients.shape[-1]:
            raise BadRequest(
                f"Kronecker is for parameters of shapes {self.shapes}, {sum(lengths)} numbers, but "
                f"the gradients have {gradients.shape[-1]}; make it with Kronecker.of(net, ...)"
            )
        parts = []
        for at, ((o, i), flat) in enumerate(
            zip(self.sides, gradients.split(lengths, -1), strict=True)
        ):
            g = flat.reshape(-1, o, i)
            if o > self.k_out:
                g = side((self.seed, at, 0), self.k_out, o).to(g) @ g
            if i > self.k_in:
                g = g @ side((self.seed, at, 1), self.k_in, i).to(g).T
            parts.append(g.flatten(1))
        return torch.cat(parts, -1)


def derived(seed: int, number: int) -> int:
    """A seed of its own for each of several projections."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def signs(key: Sequence[int], rows: int, columns: int) -> Float[Tensor, "a b"]:
    """Random signs that depend on the key alone; fewer rows are the first of more."""
    drawn = _raw(key, -(-rows * columns // 64)).astype("<u8").view(np.uint8)
    flat = BYTE.numpy().take(drawn, axis=0).reshape(-1)[: rows * columns]
    return torch.from_numpy(flat.reshape(rows, columns))


def side(key: Sequence[int], k: int, length: int) -> Float[Tensor, "k length"]:
    """One side of a two-sided projection, scaled."""
    return signs(key, k, length) / math.sqrt(k)


def _raw(key: Sequence[int], count: int) -> np.ndarray:
    return np.random.Philox(np.random.SeedSequence(list(key))).random_raw(count)


def _whole(given: int, least: int, name: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise BadRequest(f"{name} must be a whole number of at least {least}; got {given!r}")
