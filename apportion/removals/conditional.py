"""Absence as ignorance: columns of a table row that stand in are what one expects there, given
those that are present.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from ..taps import Call
from ..types import BadRequest
from .base import Reference
from .gaussian import BLOCK, Gaussian, background, coefficients, fit


@dataclass(frozen=True)
class MadeUp:
    """The reference of a removal that makes its stand-ins up from who is present: NaN, so that
    using it would not go unnoticed.
    """

    draws: int | None
    size: int = 1
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return torch.full_like(x, torch.nan)

    def inputs(self, call: Call, index: int) -> Call | None:
        return None


@dataclass(frozen=True, eq=False)
class Conditional:
    """Absent columns follow the Gaussian x_A | x_P of a fitted mean and covariance."""

    gaussian: Gaussian
    rows: int
    sampled: bool
    domain: ClassVar[Literal["binary", "unit"]] = "binary"
    cites: ClassVar[tuple[str, ...]] = ("aas2021",)

    @property
    def draws(self) -> int | None:
        return None if self.sampled else 1

    @property
    def reference(self) -> Reference:
        return MadeUp(self.draws)

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        sets, which = _coalitions(x, keep, self.gaussian.n, self)
        scaled = self.gaussian.standardise(x.detach().double().cpu())
        noise = _noise(seed, self.gaussian.n) if self.sampled else None
        out, at, piece = torch.empty_like(scaled), 0, max(BLOCK // self.gaussian.n**2, 1)
        for k, root in coefficients(self.gaussian, sets):
            for row in ((which >= at) & (which < at + len(k))).nonzero().flatten().split(piece):
                own = which[row] - at
                made = torch.einsum("rij,rnj->rni", k[own], scaled[row])
                if noise is not None:
                    made += torch.einsum("rij,rj->ri", root[own], noise[row])[:, None]
                out[row] = made
            at += len(k)
        made = self.gaussian.mean + self.gaussian.deviation * out
        return torch.where(keep, x, made.to(x))

    def __repr__(self) -> str:
        name = "conditional" if self.sampled else "conditional_mean"
        return f"{name}({self.rows}x{self.gaussian.n})"


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Absent columns are those of a background row that is near in the present ones."""

    table: Tensor  # (row, column), float64
    k: int
    domain: ClassVar[Literal["binary", "unit"]] = "binary"
    cites: ClassVar[tuple[str, ...]] = ("aas2021",)

    @property
    def draws(self) -> int | None:
        return self.k

    @property
    def reference(self) -> Reference:
        return MadeUp(self.k)

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        width = self.table.shape[1]
        _coalitions(x, keep, width, self)
        scale = self.table.std(0, correction=0)
        scale = torch.where(scale > 0, scale, torch.inf)
        middle = self.table.mean(0)  # squares of centred numbers cancel less
        rows = (self.table - middle) / scale
        here = (x.detach().double().cpu().expand(len(seed), *x.shape[1:]) - middle) / scale
        weight = keep.cpu().expand(len(seed), *keep.shape[1:]).double()
        # |a - b|^2 over present columns, without a tensor (row, instance, background, column)
        near = (weight * here**2).sum(-1, keepdim=True)
        near = near - 2 * (weight * here) @ rows.T + weight @ (rows**2).T
        order = near.clamp(min=0).sort(dim=-1, stable=True).indices
        chosen = order.gather(-1, (seed.cpu() % self.k).reshape(-1, 1, 1).expand(-1, x.shape[1], 1))
        return torch.where(keep, x, self.table[chosen[..., 0]].to(x))

    def __repr__(self) -> str:
        rows, width = self.table.shape
        return f"conditional_neighbours({rows}x{width}, k={self.k})"


def conditional_mean(background: Tensor, *, shrinkage: float = 0.0) -> Conditional:
    """Absent columns = their expectation given the present ones, of a Gaussian fitted to the
    background:

        x_A = mu_A + S_AP S_PP^-1 (x_P - mu_P)

    One draw, hard coalitions. Averages the inputs, not the outputs: exact for a linear model,
    where Shapley values are those of `linear.observational` [chen2020]. `shrinkage`
    multiplies correlations by 1 - shrinkage; a singular covariance is refused. One Cholesky factor
    per coalition, n^3 / 3 operations. A column that the model ignores earns credit if it tells
    about one that the model reads. [aas2021]
    """
    return Conditional(fit(background, shrinkage, "conditional_mean"), len(background), False)


def conditional(background: Tensor, *, shrinkage: float = 0.0) -> Conditional:
    """Absent columns = a sample of their distribution given the present ones, of a Gaussian fitted
    to the background:

        x_A | x_P ~ N(mu_A + S_AP S_PP^-1 (x_P - mu_P),  S_AA - S_AP S_PP^-1 S_PA)

    Draws are unlimited, so say how many to average: `ap.averaged(game, draws=50)`; a draw uses the
    same noise for every coalition and instance. Otherwise as `conditional_mean`, for models that
    are not linear. [aas2021]
    """
    return Conditional(fit(background, shrinkage, "conditional"), len(background), True)


def conditional_neighbours(background: Tensor, k: int = 10) -> Neighbours:
    """Absent columns = those of the k background rows nearest in the present columns, one per draw.

    Distance is Euclidean over the present columns, each divided by its standard deviation. No
    distribution is assumed, unlike `conditional`; many present columns leave nothing near. Ties,
    and the coalition of nobody, take background rows in the order given, so shuffle them. Costs
    (background rows x columns) per coalition. A simpler kin of the empirical approach of [aas2021],
    which weighs all rows by a kernel.
    """
    table = _table(background)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(table):
        raise BadRequest(
            f"conditional_neighbours(k={k!r}): k counts background rows, a whole number from 1 to "
            f"{len(table)}"
        )
    return Neighbours(table, k)


def _table(rows: Tensor) -> Tensor:
    return background(rows, "conditional_neighbours")


def _coalitions(x: Tensor, keep: Tensor, width: int, removal: object) -> tuple[Tensor, Tensor]:
    """The distinct sets of present columns, and which one each row has."""
    if keep.dtype != torch.bool:
        raise BadRequest(
            f"{removal!r} knows only present and absent; gates have to be bool (gates.bool())"
        )
    if x.ndim != 3 or x.shape[-1] != width:
        raise BadRequest(
            f"{removal!r} stands in for columns of a table row; the input has shape "
            f"{tuple(x.shape[1:])} (instance, ...), the background {width} columns. Use players of "
            "a table, ap.players.columns(x), and background rows with the same columns."
        )
    if not x.is_floating_point():
        raise BadRequest(f"{removal!r} needs float columns; the input is {x.dtype}: x.float()")
    sets = keep.expand(keep.shape[0], 1, width)[:, 0].cpu()
    distinct, which = torch.unique(sets, dim=0, return_inverse=True)
    return distinct, which.expand(len(x)) if len(which) == 1 else which


def _noise(seed: Tensor, n: int) -> Tensor:
    """(row, column): one noise per draw, shared by instances and coalitions."""
    made = {
        s: torch.randn(n, generator=Generator().manual_seed(s), dtype=torch.float64)
        for s in dict.fromkeys(seed.tolist())
    }
    return torch.stack([made[s] for s in seed.tolist()])
