"""Least squares with the standard errors that go with a random design."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

SINGULAR = 1e-10  # smallest share of the largest eigenvalue that counts as full rank


def shapley_from_pairs(
    signs: Float[Tensor, "pair player"],
    odd: Float[Tensor, "pair out"],
    weights: Float[Tensor, "pair"],
    total: Float[Tensor, "out"],
) -> tuple[Tensor, Tensor] | None:
    """Argmin over phi of sum_j w_j (odd_j - signs_j . phi)^2 with sum(phi) = total; None if the
    design is singular.

    `odd` is v(S) - v(complement), `signs` +1 on S and -1 off it: for a paired design this is kernel
    SHAP, because the even part of v cancels. Returns phi (out, player) and each pair's jackknife
    influence on it, (pair, out, player): phi moves by minus the influence when the pair is left
    out.
    """
    x = signs[:, :-1] - signs[:, -1:]  # the last player gets what the others leave of the total
    y = odd - signs[:, -1:] * total
    gram = torch.einsum("ji,j,jk->ik", x, weights, x)
    inverse = inverse_of(gram)
    if inverse is None:
        return None
    beta = inverse @ torch.einsum("ji,j,jo->io", x, weights, y)
    reach = x @ inverse  # (pair, player - 1)
    leverage = weights * (reach * x).sum(-1)
    residual = (y - x @ beta) * weights[:, None] / (1 - leverage).clamp(min=1e-12)[:, None]
    moved = torch.einsum("jo,ji->joi", residual, reach)
    phi = torch.cat([beta, (total - beta.sum(0))[None]]).T
    return phi, torch.cat([moved, -moved.sum(-1, keepdim=True)], -1)


def stratified_error(
    influence: Float[Tensor, "pair out player"],
    left_out: Float[Tensor, "pair"],
    stratum: Int[Tensor, "pair"],
) -> Float[Tensor, "out player"]:
    """Jackknife standard error over strata sampled without replacement: exhausted strata (left_out
    0) add nothing.
    """
    variance = torch.zeros_like(influence[0])
    for k in stratum.unique().tolist():
        own = influence[stratum == k]
        count = len(own)
        spread = own - own.mean(0) if count > 1 else own
        variance += left_out[stratum == k][0] * spread.square().sum(0) * (count / max(count - 1, 1))
    return variance.sqrt()


def ridge(
    x: Float[Tensor, "row player"],
    y: Float[Tensor, "row out"],
    penalty: float,
    weights: Float[Tensor, "row"] | None = None,
) -> Float[Tensor, "out player"]:
    """Slopes w of argmin mean (y - b - x w)^2 + penalty * sum w^2; the intercept b is free. With
    `weights` the mean is the weighted one.
    """
    share = torch.full_like(x[:, 0], 1 / len(x)) if weights is None else weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    gram = torch.einsum("ji,j,jk->ik", x, share, x)
    gram.diagonal().add_(penalty)
    return torch.linalg.solve(gram, torch.einsum("ji,j,jo->io", x, share, y)).T


def ordinary(
    x: Float[Tensor, "row player"],
    y: Float[Tensor, "row out"],
    weights: Float[Tensor, "row"] | None = None,
) -> tuple[Float[Tensor, "out player"], Float[Tensor, "out player"] | None] | None:
    """Least squares with intercept: slopes, and their HC3 standard errors (valid where the model is
    only a best fit).

    None if the design is singular; no errors where it has no row to spare.
    """
    fit = through_origin(torch.cat([torch.ones_like(x[:, :1]), x], 1), y, weights)
    if fit is None:
        return None
    slopes, error = fit
    return slopes[:, 1:], None if error is None else error[:, 1:]


def through_origin(
    x: Float[Tensor, "row player"],
    y: Float[Tensor, "row out"],
    weights: Float[Tensor, "row"] | None = None,
) -> tuple[Float[Tensor, "out player"], Float[Tensor, "out player"] | None] | None:
    """The same without an intercept. `weights` multiply the squared residuals."""
    if weights is not None:  # rows scaled by the root of their weight: sandwich and all
        x, y = x * weights.sqrt()[:, None], y * weights.sqrt()[:, None]
    inverse = inverse_of(x.T @ x)
    if inverse is None:
        return None
    beta = inverse @ (x.T @ y)
    reach = x @ inverse
    leverage = (reach * x).sum(-1)
    if len(x) <= x.shape[1] or bool((leverage > 1 - 1e-9).any()):
        return beta.T, None
    jackknifed = (y - x @ beta) / (1 - leverage)[:, None]
    variance = torch.einsum("ji,jo->oi", reach.square(), jackknifed.square())
    return beta.T, variance.sqrt()


def inverse_of(gram: Tensor) -> Tensor | None:
    values, vectors = torch.linalg.eigh(gram)
    if len(values) and float(values[0]) <= SINGULAR * float(values[-1]):
        return None
    return (vectors / values) @ vectors.T
