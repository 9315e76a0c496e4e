"""How few training rows hold a prediction up?"""

from __future__ import annotations

import torch
from torch import Generator

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from .asking import ask
from .score import Score, p_value, ranking, seeded, single, undefined

RANDOM = 19  # random orders compared with


def brittleness(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    most: float = 0.5,
    random: int = RANDOM,
    store: Store | None = None,
) -> Score:
    """The smallest share of the players, taken from the largest credit down, whose absence makes
    the value negative: of a margin, flips the prediction. Found by bisection up to the share
    `most`; fewer is better. Random orders are cut at the size found, and p tells how many of them
    flip it too.

    Costs about log2(players) + `random` evaluations.
    """
    unit, rng, n = "share of the players", seeded(rng), credit.players.n
    order = ranking(single(credit), rng)
    top = max(int(n * most), 1)
    ends = torch.ones(2, n, dtype=torch.bool)
    ends[1, order[:top]] = False
    values, cost = ask(game, ends, "brittleness", store)
    if values[0] <= 0:
        return undefined(unit, "the value is not positive with all players present", cost)
    if values[1] > 0:
        note = f"removing {top:,} of {n:,} players in order of credit does not make it negative"
        return undefined(unit, note, cost)
    low, high = 0, top  # removing `low` does not flip it, removing `high` does
    while high - low > 1:
        middle = (low + high) // 2
        gates = torch.ones(1, n, dtype=torch.bool)
        gates[0, order[:middle]] = False
        value, spent = ask(game, gates, "brittleness", store)
        cost = cost + spent
        low, high = (low, middle) if value[0] <= 0 else (middle, high)
    gates = torch.ones(random, n, dtype=torch.bool)
    for row in range(random):
        gates[row, torch.randperm(n, generator=rng)[:high]] = False
    others, spent = ask(game, gates, "brittleness", store)
    flips = (others <= 0).double()
    return Score(
        high / n, unit, better="lower", p_value=p_value(1.0, flips), random=random,
        cost=cost + spent, note=f"{high:,} of {n:,} players",
    )  # fmt: skip
