"""Games as Gaussian processes over coalitions, by how much players interact in sets of each size.

A game is a sum of products of signs (+1 present, -1 absent): one term for every set of players. Let
all terms of sets of size k share one variance. Then the covariance of two coalitions depends only
on their Hamming distance d,

    k(d) = sum_k c_k Kr_k(d)        Kr_k(0) = 1

where Kr_k are Krawtchouk polynomials and c_k is the share of variance that sets of size k have. The
Shapley value of such a term is 2/k for members of an odd set, 0 else, which makes that of k(., T) a
closed form in the size of T alone.

The parts the covariance is fitted from are games in which all sets of at most j players have equal
variance, and the game without structure, where all sets have: [d = 0]. So a larger set never varies
more than a smaller one, without which few values could not tell the shares apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ORDERS = 6  # sizes of sets with a variance of their own; larger ones count as without structure
FLOOR = 1e-9  # smallest share of a part in the variance: keeps the system solvable
STEPS = 100  # of the fixed point that fits the shares


def krawtchouk(n: int, orders: int) -> Float[Tensor, "order distance"]:
    """Kr_k(d) for k = 0 ... orders and d = 0 ... n, scaled to 1 at d = 0."""
    d = torch.arange(n + 1, dtype=torch.float64)
    rows = [torch.ones_like(d), 1 - 2 * d / max(n, 1)]
    for k in range(1, orders):
        rows.append(((n - 2 * d) * rows[k] - k * rows[k - 1]) / (n - k))
    return torch.stack(rows[: orders + 1])


def distances(
    a: Bool[Tensor, "row player"], b: Bool[Tensor, "column player"]
) -> Int[Tensor, "row column"]:
    """In how many players two coalitions differ."""
    x, y = 2.0 * a.double() - 1, 2.0 * b.double() - 1
    return ((a.shape[1] - x @ y.T) / 2).round().long()


def single_worth(n: int) -> tuple[Float[Tensor, "size"], Float[Tensor, "size"]]:
    """Shapley value, of a member and of another player, in the game that is 1 at one coalition of
    each size and 0 elsewhere: (s-1)! (n-s)! / n!  and  - s! (n-s-1)! / n!.
    """
    log = [math.lgamma(k + 1) for k in range(n + 1)]
    inside = [math.exp(log[s - 1] + log[n - s] - log[n]) if s else 0.0 for s in range(n + 1)]
    outside = [-math.exp(log[s] + log[n - s - 1] - log[n]) if s < n else 0.0 for s in range(n + 1)]
    return torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the covariance for n players, each of variance 1: sets of at most 1 ... players,
    and all sets.
    """

    tables: Float[Tensor, "part distance"]  # covariance by distance
    inside: Float[Tensor, "part size"]  # Shapley value of k(., T) for a member of T, by |T|
    outside: Float[Tensor, "part size"]  # and for the others
    spread: Float[Tensor, "part"]  # variance of one player's Shapley value
    orders: Float[Tensor, "part order"]  # what share sets of each size have; last, all the others

    @classmethod
    def of(cls, n: int) -> Parts:
        """Orders up to `ORDERS`."""
        top = min(n, ORDERS)
        tables = torch.cat([krawtchouk(n, top)[1:], torch.zeros(1, n + 1, dtype=torch.float64)])
        tables[-1, 0] = 1
        inside, outside = torch.zeros_like(tables), torch.zeros_like(tables)
        own, other = single_worth(n)
        inside[-1], outside[-1] = own, other
        spread = torch.zeros(top + 1, dtype=torch.float64)
        spread[-1] = (own.sum() - other.sum()) / n
        fewer = krawtchouk(n - 1, top)  # the other players of a set
        for k in range(1, top + 1, 2):
            present = 2 / n * fewer[k - 1].flip(0)  # by how many of the others are in T
            inside[k - 1, 1:], outside[k - 1, :-1] = present, -present
            spread[k - 1] = 4 / (k * n)
        orders = torch.eye(top + 1, dtype=torch.float64)
        terms = torch.tensor([float(math.comb(n, k)) for k in range(1, top + 1)]).double()
        orders[:top, :top] = terms.repeat(top, 1).tril()
        orders /= orders.sum(1, keepdim=True)
        return cls(orders @ tables, orders @ inside, orders @ outside, orders @ spread, orders)

    def reach(
        self, shares: Float[Tensor, "part"], coalitions: Bool[Tensor, "row player"]
    ) -> Float[Tensor, "row player"]:
        """Covariance of every coalition's value with every player's Shapley value."""
        size = coalitions.sum(-1)
        own, other = shares @ self.inside, shares @ self.outside
        return torch.where(coalitions, own[size][:, None], other[size][:, None])


def whole_table(coalitions: Bool[Tensor, "row player"], values: Tensor) -> Tensor:
    """Shapley values (out, player) from all 2^n coalitions."""
    own, other = single_worth(coalitions.shape[1])
    size = coalitions.sum(-1)
    weights = torch.where(coalitions, own[size][:, None], other[size][:, None])
    return torch.einsum("ro,rp->op", values, weights)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the values asked so far tell about the Shapley values of one output."""

    scores: Float[Tensor, "player"]
    error: Float[Tensor, "player"]  # posterior standard deviation, scaled to the held-out error
    orders: Float[Tensor, "order"]  # share of the variance of sets of each size, last without any
    held_out: float  # root mean squared error at coalitions left out one by one / spread of values


def fit_shares(
    parts: Parts, distance: Int[Tensor, "row row"], values: Float[Tensor, "row"]
) -> Float[Tensor, "part"]:
    """Variances of the parts by restricted maximum likelihood, the constant being free.

    Fixed point c_k <- c_k sqrt( a' K_k a / tr(P K_k) ) with a = P v, which never lowers the
    likelihood. Shares are rounded to three digits, so that the last bits of the values do not grow.
    """
    variance = float(values.var(correction=0))
    count = len(parts.tables)
    shares = torch.full((count,), variance / count, dtype=torch.float64)
    bins = distance.flatten()
    width = parts.tables.shape[1]
    for _ in range(STEPS):
        _, projector = _solve(_covariance(parts, shares, distance))
        a = projector @ values
        kept = torch.zeros(2, width, dtype=torch.float64)
        kept[0].scatter_add_(0, bins, torch.outer(a, a).flatten())
        kept[1].scatter_add_(0, bins, projector.flatten())
        fits, expected = kept @ parts.tables.T
        shares = shares * (fits / expected.clamp(min=1e-300)).clamp(min=0).sqrt()
        shares = shares.clamp(min=FLOOR * variance)
    return _rounded(shares)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The game that is expected given the values asked, up to the constant."""

    parts: Parts
    shares: Float[Tensor, "part"]
    coalitions: Bool[Tensor, "row player"]  # asked
    projector: Float[Tensor, "row row"]
    values: Float[Tensor, "row"]  # centred, and divided by
    unit: float  # their scale

    @classmethod
    def fitted(
        cls,
        parts: Parts,
        coalitions: Bool[Tensor, "row player"],
        values: Float[Tensor, "row"],
        most: int,
    ) -> Surrogate:
        """With variances fitted on the first `most` values."""
        unit = 2.0 ** float(values.std().log2().round())  # a power of two changes no digit
        values = (values - values.mean()) / unit
        distance = distances(coalitions, coalitions)
        shares = fit_shares(parts, distance[:most, :most], values[:most])
        _, projector = _solve(_covariance(parts, shares, distance))
        return cls(parts, shares, coalitions, projector, values, unit)

    def reach(self) -> Float[Tensor, "row player"]:
        """Covariance of the values asked with the Shapley values."""
        return self.parts.reach(self.shares, self.coalitions)

    def rule(self) -> Float[Tensor, "player row"]:
        """The scores as weighted sums of the values; these first, or rounding errors grow."""
        return self.reach().T @ self.projector

    def scores(self) -> Float[Tensor, "player"]:
        """Shapley values of the expected game."""
        return self.unit * (self.rule() @ self.values)

    def odd(self, side: Bool[Tensor, "pair player"]) -> Float[Tensor, "pair"]:
        """Expected v(S) - v(complement of S)."""
        n = side.shape[1]
        away = distances(side, self.coalitions)
        kernel = self.shares @ self.parts.tables
        return self.unit * ((kernel[away] - kernel[n - away]) @ self.projector @ self.values)


def posterior(
    parts: Parts, coalitions: Bool[Tensor, "row player"], values: Float[Tensor, "row"], fitted: int
) -> Posterior:
    """Shapley values given the values, with variances fitted on the first `fitted` of them."""
    n = coalitions.shape[1]
    slopes = additive(coalitions, values)
    if slopes is not None:
        return Posterior(slopes, torch.zeros(n).double(), parts.orders[0], 0.0)
    found = Surrogate.fitted(parts, coalitions, values, fitted)
    own, weight = found.projector.diagonal().clamp(min=1e-300), found.projector @ found.values
    left = found.shares @ parts.spread - torch.einsum("pr,rp->p", found.rule(), found.reach())
    scale = (weight.square() / own).mean().clamp(min=1)  # never surer than the prior
    held_out = float((weight / own).square().mean().sqrt() / found.values.std())
    least = FLOOR * float(found.values.var()) / n  # what the floor hides, and rounding
    error = found.unit * (left * scale).clamp(min=least).sqrt()
    orders = found.shares @ parts.orders / found.shares.sum()
    return Posterior(found.scores(), error, orders, held_out)


def _covariance(parts: Parts, shares: Tensor, distance: Tensor) -> Tensor:
    return (shares @ parts.tables)[distance]


def _solve(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse, and the inverse on what is left of the values when the constant is free."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    ones = inverse.sum(1)
    return inverse, inverse - torch.outer(ones, ones) / ones.sum()


def _rounded(x: Tensor) -> Tensor:
    unit = 10 ** (x.log10().floor() - 2)
    return (x / unit).round() * unit


def additive(coalitions: Tensor, values: Tensor) -> Tensor | None:
    """Slopes of the values on the gates, where nothing but rounding is left; else None."""
    design = torch.cat([torch.ones(len(values), 1), coalitions], 1).double()
    beta = torch.linalg.lstsq(design, values[:, None]).solution[:, 0]
    left = (values - design @ beta).abs().max()
    return beta[1:] if bool(left <= 1e-12 * values.abs().max()) else None
