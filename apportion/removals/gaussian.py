"""A Gaussian fitted to background rows, and what it says about some columns given others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import BadRequest, number, told

SINGULAR = 1e-7  # smallest eigenvalue that a correlation matrix may have
BLOCK = 2**22  # matrix entries factorised at once


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean, standard deviations and correlations, all float64. Columns that never vary have
    deviation 0 and correlate with nothing.
    """

    mean: Tensor
    deviation: Tensor
    correlation: Tensor

    @property
    def n(self) -> int:
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        return self.deviation[:, None] * self.correlation * self.deviation

    def standardise(self, x: Tensor) -> Tensor:
        """(x - mean) / deviation, 0 where a column never varies."""
        scale = torch.where(self.deviation > 0, self.deviation, torch.inf)
        return (x - self.mean) / scale


def fit(rows: Tensor, shrinkage: float, name: str) -> Gaussian:
    """Mean and covariance (with n - 1) of rows; correlations shrunk towards 0 by `shrinkage`."""
    table = background(rows, name)
    if not 0 <= number(shrinkage) <= 1:
        raise BadRequest(
            f"{name}(shrinkage={told(shrinkage)}): correlations are multiplied by 1 - "
            "shrinkage, so it lies between 0 and 1; 0.01 cures singular ones"
        )
    if len(table) < 2:
        raise BadRequest(f"{name}: one row has no covariance; give more background rows")
    mean = table.mean(0)
    centred = table - mean
    deviation = centred.pow(2).sum(0).div(len(table) - 1).sqrt()
    level = table.abs().amax(0).clamp(min=torch.finfo(table.dtype).tiny)
    deviation = torch.where(deviation > 1e-12 * level, deviation, 0.0)
    scaled = centred / torch.where(deviation > 0, deviation, torch.inf)
    correlation = scaled.T @ scaled / (len(table) - 1)
    correlation = (1 - shrinkage) * correlation
    correlation.fill_diagonal_(1.0)
    return admitted(Gaussian(mean, deviation, correlation), name, len(table))


def of_covariance(mean: Tensor, covariance: Tensor, name: str) -> Gaussian:
    """From a known mean and covariance."""
    mean, covariance = numbers(mean, name, "the mean"), numbers(covariance, name, "the covariance")
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise BadRequest(
            f"{name}: the mean has shape {tuple(mean.shape)}, the covariance "
            f"{tuple(covariance.shape)}; give (column,) and (column, column)"
        )
    if not torch.allclose(covariance, covariance.T, atol=1e-9 * float(covariance.abs().max())):
        raise BadRequest(f"{name}: the covariance is not symmetric; give (c + c.T) / 2")
    if bool((covariance.diagonal() < 0).any()):
        raise BadRequest(f"{name}: a variance is negative; give a covariance matrix")
    deviation = covariance.diagonal().sqrt()
    inverse = torch.where(deviation > 0, 1 / deviation, 0.0)
    correlation = inverse[:, None] * covariance * inverse
    correlation.fill_diagonal_(1.0)
    return admitted(Gaussian(mean, deviation, correlation), name, None)


def numbers(given: object, name: str, what: str) -> Tensor:
    """A tensor, array or nested list in float64 on the CPU."""
    try:
        return torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (RuntimeError, TypeError, ValueError) as failure:
        raise BadRequest(
            f"{name}: {what} must be a tensor of numbers, or lists or an array of them; got "
            f"{type(given).__name__} ({failure}). Write "
            "torch.tensor(rows) with rows of numbers, or give frame.to_numpy()"
        ) from failure


def background(rows: Tensor, name: str) -> Tensor:
    """Rows of a table in float64 on the CPU."""
    table = numbers(rows, name, "the background")
    if table.ndim != 2 or not table.numel():
        raise BadRequest(
            f"{name} takes background rows (row, column) of a table, prepared like the input; got "
            f"{tuple(table.shape)}"
        )
    if not bool(torch.isfinite(table).all()):
        raise BadRequest(f"{name}: the background holds NaN or infinite numbers; clean it first")
    return table


def admitted(gaussian: Gaussian, name: str, rows: int | None) -> Gaussian:
    """Refuses a distribution in which some columns are functions of others."""
    lowest = float(torch.linalg.eigvalsh(gaussian.correlation)[0])
    if lowest >= SINGULAR:
        return gaussian
    off = gaussian.correlation.abs() - torch.eye(gaussian.n, dtype=torch.float64)
    place = int(off.argmax())
    i, j = place // gaussian.n, place % gaussian.n
    few = f" from {rows} rows" if rows is not None and rows <= gaussian.n else ""
    raise BadRequest(
        f"{name}: the covariance of {gaussian.n} columns{few} is singular (smallest eigenvalue of "
        f"the correlations {lowest:.1g}), so some columns follow from others; columns {i} and {j} "
        f"correlate {float(gaussian.correlation[i, j]):+.4f}. Write shrinkage=0.01, or merge or "
        "drop such columns."
    )


def coefficients(gaussian: Gaussian, keep: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For blocks of coalitions, (row, column) bool: K in E[x_A | x_P] = mu_A + K (x_P - mu_P), and
    a Cholesky factor of cov(x_A | x_P), both (row, column, column) in standardised units; rows and
    columns that do not take part are 0.

    Absent columns are given the identity in the matrix that is factorised, so that coalitions of
    all sizes fit into one batch: one Cholesky factor of n^3 / 3 operations each, and one more for
    the second.
    """
    n, r = gaussian.n, gaussian.correlation
    eye = torch.eye(n, dtype=r.dtype)
    for part in keep.split(max(BLOCK // n**2, 1)):
        p = part.to(r.dtype)
        both, cross = p[:, :, None] * p[:, None], (1 - p)[:, :, None] * p[:, None]
        factor = torch.linalg.cholesky(both * r + torch.diag_embed(1 - p))
        across = cross * r  # R_AP
        k = torch.cholesky_solve(across.mT, factor).mT * cross
        rest = (1 - p)[:, :, None] * (1 - p)[:, None] * r - k @ across.mT
        root = torch.linalg.cholesky(rest + eye * p[:, None])
        yield k, root * (1 - p)[:, :, None] * (1 - p)[:, None]
