"""Rank correlation between two credits, and the band of credit that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..attribution import Attribution
from ..types import BadRequest
from .score import Score, band, p_value, seeded, single, undefined

SHUFFLES = 999
FEWEST = 5  # players; fewer have too few orders for any agreement to be more than chance
REDRAWN = 200  # redraws of noisy credits for the error of a correlation


def rank_agreement(credit: Attribution, other: Attribution, rng: Generator | None = None) -> Score:
    """Spearman's correlation of two credits of the same players, against shuffled ones.

    1 = the same order, 0 = unrelated. The error tells how far sampling noise of either credit moves
    it: the spread of the correlation when both are redrawn within their standard errors. Costs no
    evaluations.
    """
    if credit.players.names != other.players.names:
        raise BadRequest(
            f"the credits are about different players ({credit.players} and {other.players}); "
            "compare credits of one game"
        )
    rng = seeded(rng)
    if credit.players.n < FEWEST:
        return undefined("rank correlation", f"{credit.players.n} players are too few to rank")
    a, b = single(credit), single(other)
    value = spearman(a, b[None])[0]
    if not bool(torch.isfinite(value)):
        return undefined(
            "rank correlation", "one of the credits is the same for every player (or there is one)"
        )
    random = shuffled(a, b, rng)
    return Score(
        float(value),
        "rank correlation",
        chance=band(random, sides="both"),
        p_value=p_value(float(value), random),
        best=1.0,
        random=SHUFFLES,
        error=_redrawn(credit, other, rng),
    )


def ranks(x: Float[Tensor, "row item"]) -> Float[Tensor, "row item"]:
    """Ranks from 0 in each row; equal numbers share the mean of their ranks."""
    ordered, order = x.sort(-1)
    starts = torch.ones_like(order)
    starts[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    group = starts.cumsum(-1) - 1
    place = torch.arange(x.shape[-1], dtype=torch.float64).expand(x.shape)
    total = torch.zeros(x.shape, dtype=torch.float64).scatter_add(-1, group, place)
    count = torch.zeros_like(total).scatter_add(-1, group, torch.ones_like(place))
    mean = (total / count.clamp(min=1)).gather(-1, group)
    return torch.empty_like(mean).scatter(-1, order, mean)


def spearman(a: Float[Tensor, "item"], b: Float[Tensor, "row item"]) -> Float[Tensor, "row"]:
    """Spearman's rank correlation of `a` with every row of `b`; NaN where either is constant."""
    return pearson(ranks(a[None])[0], ranks(b))


def shuffled(a: Tensor, b: Tensor, rng: Generator) -> Tensor:
    """The correlation of `a` with shuffles of `b`, (shuffle)."""
    order = torch.rand(SHUFFLES, len(b), generator=rng).argsort(-1)
    return pearson(ranks(a[None])[0], ranks(b[None])[0][order])


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Row by row; `a` may be one row for all."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    norm = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(norm > 0, (a * b).sum(-1) / norm, torch.nan)


def _redrawn(credit: Attribution, other: Attribution, rng: Generator) -> float | None:
    if credit.error is None and other.error is None:
        return None

    def redraw(c: Attribution) -> Tensor:
        scores = single(c).expand(REDRAWN, -1)
        if c.error is None:
            return scores
        return scores + c.error.double() * torch.randn(
            scores.shape, generator=rng, dtype=torch.float64
        )

    values = pearson(ranks(redraw(credit)), ranks(redraw(other)))
    return float(values.nan_to_num(0.0).std())
