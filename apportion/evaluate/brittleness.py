"""How few training rows hold a prediction up?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from ..types import BadRequest, Cost
from .asking import ask
from .score import Score, band, p_value, ranking, seeded, single

RANDOM = 39  # random orders compared with


def brittleness(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    most: float = 0.5,
    random: int = RANDOM,
    store: Store | None = None,
) -> Score:
    """The smallest share of the players whose absence changes the sign of the value: of a margin,
    flips the prediction. They are taken from those that speak most for the sign down.

    Found by bisection up to the share `most`, of random orders as well; an order that does not flip
    it counts as 1, and among those the one that leaves more of the value is worse. Costs about
    (random + 1) log2(players) evaluations.
    """
    if not 0 < most <= 1 or random < 1:
        raise BadRequest(
            f"brittleness(most={most}, random={random}): most is a share above 0 and at most 1, "
            "and at least one random order is needed"
        )
    rng, n = seeded(rng), credit.players.n
    scores = single(credit)
    full, cost = ask(game, torch.ones(1, n, dtype=torch.bool), "brittleness", store)
    sign = 1.0 if float(full[0]) >= 0 else -1.0
    own = ranking(sign * scores, rng)
    orders = torch.stack([own, *(torch.randperm(n, generator=rng) for _ in range(random))])
    top = max(int(n * most), 1)
    shares, left, spent = _flips(game, orders, top, sign, store)
    value, rank = float(shares[0]), -(shares + left.sigmoid() * (shares == 1))
    return Score(
        value, "share of the players", better="lower", chance=band(shares[1:]),
        p_value=p_value(float(rank[0]), rank[1:]), best=1 / n, random=random, cost=cost + spent,
        note=f"{round(value * n):,} of {n:,} players" if value < 1 else "no removal flips it",
    )  # fmt: skip


def _flips(
    game: Game, orders: Int[Tensor, "order player"], top: int, sign: float, store: Store | None
) -> tuple[Float[Tensor, "order"], Float[Tensor, "order"], Cost]:
    """For each order the share after whose removal the sign has changed, by bisection, and what is
    left of the value at the end.
    """
    count, n = orders.shape
    low = torch.zeros(count, dtype=torch.long)  # removing so many leaves the sign
    high = torch.full((count,), top)  # removing so many changes it, once `changed`
    values, cost = ask(game, without(orders, high), "brittleness", store)
    left = sign * values
    changed = left < 0
    while bool((changed & (high - low > 1)).any()):
        live = (changed & (high - low > 1)).nonzero().flatten()
        middle = (low[live] + high[live]) // 2
        values, spent = ask(game, without(orders[live], middle), "brittleness", store)
        cost = cost + spent
        over = sign * values < 0
        high[live] = torch.where(over, middle, high[live])
        low[live] = torch.where(over, low[live], middle)
    return torch.where(changed, high.double() / n, 1.0), left, cost


def without(
    orders: Int[Tensor, "order player"], counts: Int[Tensor, "order"]
) -> Bool[Tensor, "order player"]:
    """Everyone but the first so many players of each order."""
    place = orders.argsort(-1)
    return place >= counts[:, None]
