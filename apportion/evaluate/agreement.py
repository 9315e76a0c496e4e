"""Rank correlation between two credits, and the band of credit that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..attribution import Attribution
from ..types import BadRequest
from .score import Score, band, p_value, seeded, single, undefined

SHUFFLES = 999
FEWEST_MOVES = 39  # of a grid; fewer leave no 2.5% on either side
FEWEST = 5  # players; fewer have too few orders for any agreement to be more than chance
REDRAWN = 200  # redraws of noisy credits for the error of a correlation


def rank_agreement(credit: Attribution, other: Attribution, rng: Generator | None = None) -> Score:
    """Spearman's correlation of two credits of the same players, against shuffled ones; where the
    players fill a picture, against shifted and mirrored ones (see `by_chance`).

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
    random = by_chance(a, b, credit.players.grid, rng)
    return Score(
        float(value),
        "rank correlation",
        chance=band(random, sides="both"),
        p_value=p_value(float(value), random),
        best=1.0,
        random=len(random),
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


def by_chance(a: Tensor, b: Tensor, grid: tuple[int, ...] | None, rng: Generator) -> Tensor:
    """The correlation of `a` with `b` as it lands where the two have nothing to do with each other.

    `b` is shuffled; but neighbouring cells of a picture are alike, and two smooth maps correlate by
    chance more than shuffled ones do. On such a grid `b` keeps its shape and is moved instead:
    shifted around the edges, mirrored and, where square, turned.
    """
    ra, rb = ranks(a[None])[0], ranks(b[None])[0]
    moves = _moves(grid) if grid is not None and len(grid) == 2 else 0
    chosen = torch.randperm(max(moves - 1, 0), generator=rng)[:SHUFFLES] + 1  # 0 moves nothing
    if len(chosen) >= FEWEST_MOVES and grid is not None:
        orders = (_moved(int(move), grid) for move in chosen)
    else:
        orders = (torch.randperm(len(b), generator=rng) for _ in range(SHUFFLES))
    return torch.cat([pearson(ra, rb[order][None]) for order in orders])


def _moves(grid: tuple[int, ...]) -> int:
    height, width = grid
    return height * width * (8 if height == width else 4)


def _moved(move: int, grid: tuple[int, ...]) -> Tensor:
    """The cells of a grid after the given move, in row-major order."""
    height, width = grid
    turn, place = divmod(move, height * width)
    cells = torch.arange(height * width).reshape(height, width)
    cells = cells.T if turn & 4 else cells
    flips = [axis for axis in (0, 1) if turn >> axis & 1]
    return cells.flip(flips).roll(divmod(place, width), (0, 1)).flatten()


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
