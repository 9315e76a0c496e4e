"""Shapley values of linear models in closed form: no model is run, nothing but algebra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from .attribute import versions
from .attribution import Attribution, Provenance
from .estimators import PermutationShapley
from .games import Description
from .players import Players, columns
from .removals.gaussian import Gaussian, background, coefficients, fit, numbers, of_covariance
from .types import BadRequest

ENUMERATED = 12  # columns up to which every coalition is gone through
BLOCK = 2**22  # matrix entries factorised at once
CITES = ("chen2020",)

Background = Tensor | tuple[Tensor, Tensor]  # rows (row, column), or their mean and covariance


@dataclass(frozen=True, eq=False)
class Model:
    """A linear model and the rows it is asked about, in float64."""

    weights: Tensor  # (output, column)
    bias: Tensor  # (output,)
    x: Tensor  # (instance, column)
    one_output: bool
    players: Players

    def shaped(self, scores: Tensor) -> Tensor:
        """(instance, output, ...) without the axes that were not given."""
        scores = scores[:, 0] if self.one_output else scores
        return scores[0] if len(self.x) == 1 else scores

    def at(self, x: Tensor) -> Tensor:
        return x @ self.weights.T + self.bias


def interventional(
    weights: Tensor,
    x: Tensor,
    rows: Background,
    *,
    bias: float | Tensor = 0.0,
    names: Sequence[str] | None = None,
) -> Attribution:
    """Shapley values of a linear model whose absent columns are those of background rows:

        phi_i = beta_i (x_i - mu_i)

    True to the model: a column without a weight gets nothing, whatever it is correlated with. Equal
    to any exact Shapley estimator over `Blend(rows(background))`. `weights` is (column,) or
    (output, column), `x` (instance, column), `rows` the background or (mean, covariance). Nothing
    is sampled, nothing asked. [chen2020]
    """
    model = _model(weights, x, bias, names, "interventional")
    _pair(rows, "interventional")
    if isinstance(rows, tuple):
        known = numbers(rows[0], "interventional", "the mean")[None]
    else:
        known = rows
    mean = background(known, "interventional").mean(0)
    _same_width(model, len(mean), "interventional")
    scores = (model.x - mean)[:, None] * model.weights
    stamp = _stamp(model, "interventional", "closed form: nothing is sampled")
    return _credit(model, mean, scores, None, stamp)


def observational(
    weights: Tensor,
    x: Tensor,
    rows: Background,
    *,
    bias: float | Tensor = 0.0,
    names: Sequence[str] | None = None,
    shrinkage: float = 0.0,
    orders: int | None = None,
    seed: int = 0,
) -> Attribution:
    """Shapley values of a linear model whose absent columns are what one expects given the present
    ones, under a Gaussian of the background's mean mu and covariance S:

        phi_i = sum_(P without i) w_P beta . (E[x | x_P, x_i] - E[x | x_P])
        E[x | x_P] = mu + S_:P S_PP^-1 (x - mu)_P

    True to the data: a column that the model ignores gets credit for what it tells about others.
    The same matrix times x - mu for every instance. Equal to any exact Shapley estimator over
    `conditional_mean(background)`. Every coalition up to 12 columns; beyond, `orders` random orders
    (1000 unless given; they are taken in pairs, one the reverse of the other), each
    phi = (L' beta) * (L^-1 (x - mu)) with the Cholesky factor L of S in that order, n^3 / 3
    operations. `shrinkage` multiplies correlations by 1 - shrinkage; a singular covariance is
    refused. [chen2020]
    """
    model = _model(weights, x, bias, names, "observational")
    gaussian = _gaussian(rows, shrinkage, "observational")
    _same_width(model, gaussian.n, "observational")
    if orders is not None and (isinstance(orders, bool) or orders < 4):
        raise BadRequest(
            f"observational(orders={orders}): at least two pairs of orders are needed for a "
            "standard error; 1000 are usual"
        )
    # a column that never varies is like one of its own: deviation 1, correlated with nothing
    scale = torch.where(gaussian.deviation > 0, gaussian.deviation, 1.0)
    beta, z = model.weights * scale, (model.x - gaussian.mean) / scale
    if orders is None and gaussian.n <= ENUMERATED:
        scores = torch.einsum("oij,nj->noi", _enumerated(gaussian, beta), z)
        stamp = _stamp(model, "observational", "every coalition: nothing is sampled")
        return _credit(model, gaussian.mean, scores, None, stamp)
    pairs = -(-(1000 if orders is None else orders) // 2)
    scores, error = _sampled(gaussian.correlation, beta, z, pairs, Generator().manual_seed(seed))
    stamp = _stamp(model, "observational", f"standard error over {pairs} pairs of orders")
    stamp = replace(stamp, seed=seed, estimator=f"{stamp.estimator}(orders={2 * pairs})")
    return replace(_credit(model, gaussian.mean, scores, error, stamp), freedom=pairs - 1)


def _enumerated(gaussian: Gaussian, beta: Tensor) -> Tensor:
    """T in phi = T z, (output, column, column): the weighted sum over all coalitions."""
    n = gaussian.n
    keep = (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1
    total = beta.new_zeros(len(beta), n, n)
    at = 0
    for k, _ in coefficients(gaussian, keep):
        present = keep[at : at + len(k)].to(beta)
        at += len(k)
        # beta . E[x | x_P] as a linear form of x_P
        form = beta * present[:, None] + torch.einsum("oi,sij->soj", beta, k)
        total += torch.einsum("si,soj->oij", _gains(present, n), form)
    return total


def _gains(present: Tensor, n: int) -> Tensor:
    """What the value of each coalition counts for each player's Shapley value, (coalition,
    player).
    """
    size = present.sum(1).long()
    chance = torch.tensor(
        [1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0.0], dtype=present.dtype
    )
    joins, leaves = chance[(size - 1).clamp(min=0)], chance[size]
    return torch.where(present == 1, joins[:, None], -leaves[:, None])


def _sampled(
    r: Tensor, beta: Tensor, z: Tensor, pairs: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """Mean and standard error over pairs of opposite orders, (instance, output, column)."""
    n = len(r)
    shape = (len(z), len(beta), n)
    total, squares = torch.zeros(shape).double(), torch.zeros(shape).double()
    first: Tensor | None = None  # a shift, so that squares do not cancel
    entries = max(n * n, len(z) * len(beta) * n)
    left = pairs
    while left:
        count = min(max(BLOCK // entries, 1), left)
        left -= count
        order = torch.stack([torch.randperm(n, generator=rng) for _ in range(count)])
        gain = (_in_order(r, beta, z, order) + _in_order(r, beta, z, order.flip(1))) / 2
        first = gain[0] if first is None else first
        total += (gain - first).sum(0)
        squares += (gain - first).pow(2).sum(0)
    assert first is not None
    mean = total / pairs
    variance = (squares - pairs * mean**2).clamp(min=0) / (pairs - 1)
    return first + mean, (variance / pairs).sqrt()


def _in_order(r: Tensor, beta: Tensor, z: Tensor, order: Tensor) -> Tensor:
    """Gains as the columns arrive in each order, (order, instance, output, column)."""
    factor = torch.linalg.cholesky(r[order[:, :, None], order[:, None]])
    news = torch.linalg.solve_triangular(factor, z.T[order], upper=False)  # (order, place, row)
    effect = torch.einsum("pij,opi->poj", factor, beta[:, order])
    gain = news.mT[:, :, None] * effect[:, None]
    places = order.argsort(1)[:, None, None].expand(gain.shape)
    return gain.gather(-1, places)


def _model(
    weights: Tensor,
    x: Tensor,
    bias: float | Tensor,
    names: Sequence[str] | None,
    name: str,
) -> Model:
    """The parts of a question, checked."""
    weights, x = numbers(weights, name, "weights"), numbers(x, name, "x")
    offset = numbers(bias, name, "bias").reshape(-1)
    if weights.ndim not in (1, 2) or x.ndim != 2 or weights.shape[-1] != x.shape[-1]:
        raise BadRequest(
            f"{name}: weights are (column,) or (output, column) and x (instance, column); got "
            f"{tuple(weights.shape)} and {tuple(x.shape)}. For one row give x[None]"
        )
    if not len(x):
        raise BadRequest(f"{name}: x has no rows")
    many = weights.reshape(-1, weights.shape[-1])
    if len(offset) not in (1, len(many)):
        raise BadRequest(f"{name}: {len(offset)} biases for {len(many)} outputs")
    for what, tensor in (("weights", many), ("x", x), ("bias", offset)):
        if not bool(torch.isfinite(tensor).all()):
            raise BadRequest(f"{name}: {what} hold NaN or infinite numbers; clean them first")
    return Model(many, offset.expand(len(many)), x, weights.ndim == 1, columns(x, names))


def _gaussian(rows: Background, shrinkage: float, name: str) -> Gaussian:
    if not isinstance(rows, tuple):
        return fit(rows, shrinkage, name)
    _pair(rows, name)
    if shrinkage:
        raise BadRequest(f"{name}(shrinkage={shrinkage}) is for background rows, not a covariance")
    return of_covariance(rows[0], rows[1], name)


def _pair(rows: Background, name: str) -> None:
    if isinstance(rows, tuple) and len(rows) != 2:
        raise BadRequest(f"{name}: rows is the background, or a pair (mean, covariance)")


def _same_width(model: Model, width: int, name: str) -> None:
    if model.x.shape[1] != width:
        raise BadRequest(
            f"{name}: x has {model.x.shape[1]} columns, the background {width}; prepare both the "
            "same way"
        )


def _stamp(model: Model, name: str, note: str) -> Provenance:
    removal = "rows(background)" if name == "interventional" else "conditional_mean(background)"
    game = Description(
        str(model.players), "output", "output", removal, "a linear model", linear=True
    )
    return Provenance(
        game=game,
        estimator=f"linear.{name}",
        cites=CITES,
        claims=tuple(sorted(axiom.value for axiom in PermutationShapley.axioms)),
        error_note=note,
        versions=versions(),
    )


def _credit(
    model: Model,
    mean: Tensor,
    scores: Tensor,
    error: Tensor | None,
    stamp: Provenance,
) -> Attribution:
    none, full = model.at(mean).expand(len(model.x), -1), model.at(model.x)
    return Attribution(
        model.shaped(scores),
        model.players,
        model.shaped(none),
        model.shaped(full),
        None if error is None else model.shaped(error),
        provenance=stamp,
    )


TABLE = {"interventional": interventional, "observational": observational}
