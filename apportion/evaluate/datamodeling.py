"""Metrics of credit among training rows, of many queries at once."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from ..types import BadRequest, Cost
from .additive_fidelity import sets_of
from .agreement import pearson, ranks
from .asking import ask_all
from .score import Score, band, p_value, seeded, undefined

REDRAWN = 1000  # of the queries, for the interval
SHUFFLES = 99  # of the credit among the rows, for the band of credit that knows nothing


def linear_datamodeling_score(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    samples: int = 60,
    keep: float = 0.5,
    store: Store | None = None,
) -> Score:
    """Over random sets S of a share `keep` of the players: Spearman's correlation of v(S) with the
    sum of the credits in S, for every query; then the mean over queries.

    The interval is a 95% bootstrap over queries: it knows nothing of the luck of subsets and
    training seeds. No credit reaches 1 where v is averaged over few training seeds: see
    `seed_agreement`. Costs `samples` evaluations; the subsets must not be those a credit was fitted
    on [park2023].
    """
    unit = "correlation"
    if not 0 < keep < 1:
        raise BadRequest(f"linear_datamodeling_score(keep={keep}): a share between 0 and 1")
    if samples < 3:
        raise BadRequest(f"samples={samples}: at least three subsets are needed to rank them")
    rng, n = seeded(rng), credit.players.n
    present = subsets(n, samples, keep, rng)
    values, cost = ask_all(game, present, "linear datamodeling score", store)
    values = values.reshape(len(present), -1)
    scores = _scores(credit, values)
    each = per_query(scores, present, values)
    known = each[torch.isfinite(each)]
    if not len(known):
        return undefined(unit, "every subset has the same value, or every credit is equal", cost)
    order = torch.rand(SHUFFLES, n, generator=rng).argsort(-1)
    random = torch.stack([per_query(scores[:, o], present, values).nanmean() for o in order])
    return _mean(known, random, cost, rng)


def _mean(each: Tensor, random: Tensor, cost: Cost, rng: Generator) -> Score:
    """The mean over queries, with its interval and the band of random credit."""
    low, high, error = bootstrap(each, rng)
    mean = float(each.mean())
    return Score(
        mean, "correlation", chance=band(random), p_value=p_value(mean, random), best=1.0,
        random=SHUFFLES, error=error, interval=(low, high), cost=cost,
    )  # fmt: skip


def _scores(credit: Attribution, values: Tensor) -> Float[Tensor, "query row"]:
    """The scores of as many queries as the game has values for."""
    scores = credit.scores.detach().double().cpu().reshape(-1, credit.players.n)
    asked = values.shape[1]
    if len(scores) != asked:
        raise BadRequest(
            f"the credit is of {len(scores)} queries, the game of {asked}; score a "
            "credit on the game it came from"
        )
    return scores


def per_query(
    scores: Float[Tensor, "query row"],
    present: Bool[Tensor, "set row"],
    values: Float[Tensor, "set query"],
) -> Float[Tensor, "query"]:
    """Spearman's correlation over sets of value and predicted value; NaN where one is constant."""
    predicted = scores.double() @ present.double().T
    return pearson(ranks(predicted), ranks(values.double().T))


def seed_agreement(
    one: Float[Tensor, "set query"], other: Float[Tensor, "set query"]
) -> Float[Tensor, "query"]:
    """Spearman's correlation over sets of two averages of values over different training seeds.

    One half of the seeds against the other tells how noisy the truth is; the seeds that score
    against many others bound what any predictor can reach.
    """
    return pearson(ranks(one.double().T), ranks(other.double().T))


def bootstrap(each: Float[Tensor, "query"], rng: Generator) -> tuple[float, float, float]:
    """Low and high end of the 95% interval of the mean over queries, and its standard error."""
    again = torch.randint(len(each), (REDRAWN, len(each)), generator=rng)
    means = each.double()[again].mean(-1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high, float(means.std())


def subsets(players: int, samples: int, keep: float, rng: Generator) -> Bool[Tensor, "set player"]:
    """Different random sets of a share of the players, all of one size."""
    return sets_of(players, min(max(int(players * keep + 1e-9), 1), players - 1), samples, rng)


def leave_one_out_correlation(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    players: int = 50,
    store: Store | None = None,
) -> Score:
    """Pearson's correlation of the credit with v(all) - v(all without i), over `players` random
    players i, per query; then the mean over queries. Costs players + 1 evaluations.

    The effect of one row is small beside the luck of training: without `reweighted` refits of the
    run itself, or many seeds, this measures noise.
    """
    unit, rng, n = "correlation", seeded(rng), credit.players.n
    if n < 3 or players < 3:
        return undefined(unit, f"{min(n, players)} players are too few to correlate")
    chosen = torch.randperm(n, generator=rng)[:players]
    present = torch.ones(len(chosen) + 1, n, dtype=torch.bool)
    present[torch.arange(len(chosen)), chosen] = False
    values, cost = ask_all(game, present, "leave-one-out correlation", store)
    values = values.reshape(len(present), -1)
    drops = (values[-1:] - values[:-1]).T
    scores = _scores(credit, values)[:, chosen]
    each = pearson(scores, drops)
    known = each[torch.isfinite(each)]
    if not len(known):
        return undefined(unit, "leaving out any one player changes nothing", cost)
    order = torch.rand(SHUFFLES, len(chosen), generator=rng).argsort(-1)
    random = torch.stack([pearson(scores[:, o], drops).nanmean() for o in order])
    return _mean(known, random, cost, rng)
