"""Do the credits, added up, rank coalitions that took no part in computing them?"""

from __future__ import annotations

from itertools import combinations
from math import comb

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from ..types import BadRequest
from .agreement import REDRAWN, SHUFFLES, pearson, ranks, spearman
from .asking import ask
from .score import Score, band, p_value, seeded, single, undefined

FEWEST = 4  # players; below, half-size coalitions are too few to rank


def additive_fidelity(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    samples: int = 128,
    store: Store | None = None,
) -> Score:
    """Spearman's correlation of v(S) with the sum of the credits in S, over random sets S of half
    the players.

    All sets have one size, so that "more players help" earns nothing. Shuffling the credit among
    the players gives the band, at no further cost. Costs `samples` evaluations (fewer where there
    are not that many sets). For many queries of training rows
    see `linear_datamodeling_score` [park2023].
    """
    if samples < 2:
        raise BadRequest(f"samples={samples}: at least two coalitions are needed to rank them")
    rng, scores, n = seeded(rng), single(credit), credit.players.n
    unit = "rank correlation"
    if n < FEWEST:
        return undefined(unit, f"{n} players have too few halves to rank")
    present = halves(n, samples, rng)
    values, cost = ask(game, present, "additive fidelity", store)
    member = present.double()
    value = spearman(values, (member @ scores)[None])[0]
    if not bool(torch.isfinite(value)):
        return undefined(unit, "every coalition has the same value, or every credit is equal", cost)
    order = torch.rand(SHUFFLES, n, generator=rng).argsort(-1)
    random = spearman(values, scores[order] @ member.T)
    again = torch.randint(len(values), (REDRAWN, len(values)), generator=rng)
    redrawn = pearson(ranks(values[again]), ranks((member @ scores)[again]))
    return Score(
        float(value),
        unit,
        chance=band(random),
        p_value=p_value(float(value), random),
        best=1.0,
        random=SHUFFLES,
        error=float(redrawn.nan_to_num(0.0).std()),
        cost=cost,
    )


def halves(players: int, samples: int, rng: Generator) -> Bool[Tensor, "row player"]:
    """Different random coalitions of half the players; all of them where there are no more."""
    return sets_of(players, players // 2, samples, rng)


def sets_of(players: int, size: int, samples: int, rng: Generator) -> Bool[Tensor, "row player"]:
    """Different random coalitions of one size; all of them where there are no more."""
    if comb(players, size) <= samples:
        members = torch.tensor(list(combinations(range(players), size)))
    else:
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < samples:
            members = torch.rand(samples, players, generator=rng).argsort(-1)[:, :size]
            drawn.update(dict.fromkeys(map(tuple, members.sort(-1).values.tolist())))
        members = torch.tensor(list(drawn)[:samples])
    present = torch.zeros(len(members), players, dtype=torch.bool)
    return present.scatter(1, members, torch.ones_like(members, dtype=torch.bool))
