"""Do the players with the largest credit matter as a group?"""

from __future__ import annotations

from itertools import combinations
from math import comb

import torch
from torch import Generator

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from ..types import BadRequest
from .asking import ask
from .score import Score, band, p_value, ranking, seeded, single, undefined


def joint_removal(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    k: int | None = None,
    random: int = 39,
    store: Store | None = None,
) -> Score:
    """What is lost when the k players of largest credit are removed together, against random sets
    of k players.

        v(all) - v(all without the first k in order of credit)

    In units of the value; `k` is a tenth of the players, at least two (of one, the largest single
    effect would win by construction), unless given. The sets are different from each other and
    from the judged one; where there are too few of them nothing can be told. Catches what single
    effects cannot: credits that stand for each other. Costs random + 2 evaluations at most.
    """
    scores, n, rng = single(credit), credit.players.n, seeded(rng)
    k = min(max(2, round(n / 10)), n) if k is None else k
    if not 1 <= k <= n or random < 1:
        raise BadRequest(
            f"k={k}, random={random}: k from 1 to {n} players, at least one random set"
        )
    own = frozenset(ranking(scores, rng)[:k].tolist())
    sets = [own, *_others(own, n, random, rng)]
    present = torch.ones(len(sets), n, dtype=torch.bool)
    for row, members in enumerate(sets):
        present[row, list(members)] = False
    if len(sets) < 2:
        return undefined(game.describe().unit, f"{n} players have one set of {k}")
    everyone = torch.ones(1, n, dtype=torch.bool)
    values, cost = ask(game, torch.cat([everyone, present]), "joint removal", store)
    lost = values[0] - values[1:]
    return Score(
        float(lost[0]),
        game.describe().unit,
        chance=band(lost[1:]),
        p_value=p_value(float(lost[0]), lost[1:]),
        random=len(sets) - 1,
        cost=cost,
        note=f"{k} of {n} removed together",
    )


def _others(own: frozenset[int], n: int, count: int, rng: Generator) -> list[frozenset[int]]:
    """Different random sets of the same size, none of them the judged one; all where few exist."""
    k = len(own)
    if comb(n, k) <= 4 * (count + 1):
        every = [s for s in map(frozenset, combinations(range(n), k)) if s != own]
        return [every[i] for i in torch.randperm(len(every), generator=rng)[:count].tolist()]
    found: dict[frozenset[int], None] = {}
    while len(found) < count:
        drawn = frozenset(torch.randperm(n, generator=rng)[:k].tolist())
        if drawn != own:
            found[drawn] = None
    return list(found)
