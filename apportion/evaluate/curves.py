"""Insertion and deletion: does adding, or removing, players in order of credit matter?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import factorial
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games import Game
from ..games.wrap import Store
from ..types import BadRequest
from .asking import ask
from .score import Curve, Score, band, p_value, ranking, seeded, single

MANY = 9  # players, from which on orders do not run out
Way = Literal["insertion", "deletion"]


@dataclass(frozen=True)
class Effort:
    """How many random orders are asked, and at how many points."""

    random: int
    steps: int

    def __post_init__(self) -> None:
        if self.random < 1 or self.steps < 1:
            raise BadRequest(
                f"random={self.random}, steps={self.steps}: at least one random order and one step"
            )


def insertion(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    random: int = 39,
    steps: int = 14,
    store: Store | None = None,
) -> Score:
    """Area under the value while players are added from the largest credit down; more is better.

        integral over the share of players present of v(the first q n players in order of credit)

    In units of the value. `random` orders give the band; `steps` points besides the start make
    each curve (trapezoids between them). Costs (random + 1) (steps - 1) + 2 evaluations.
    [petsiuk2018]
    """
    return _judged(credit, game, seeded(rng), ("insertion",), Effort(random, steps), store)


def deletion(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    random: int = 39,
    steps: int = 14,
    store: Store | None = None,
) -> Score:
    """Area under the value while players are removed from the largest credit down; less is better.

    Options, units and cost as for `insertion`. [petsiuk2018]
    """
    return _judged(credit, game, seeded(rng), ("deletion",), Effort(random, steps), store)


def insertion_minus_deletion(
    credit: Attribution,
    game: Game,
    rng: Generator | None = None,
    *,
    random: int = 39,
    steps: int = 14,
    store: Store | None = None,
) -> Score:
    """Area between the insertion and the deletion curve: how much the order matters; 0 on average
    for random orders.

    The reverse of an order scores exactly the opposite, so each random order counts twice and
    (random + 1) / 2 of them are asked. Costs at most (random + 3) (steps - 1) + 2 evaluations.
    Options as for `insertion`. [petsiuk2018]
    """
    return _judged(
        credit, game, seeded(rng), ("insertion", "deletion"), Effort(random, steps), store
    )


def _judged(
    credit: Attribution,
    game: Game,
    rng: Generator,
    ways: Sequence[Way],
    effort: Effort,
    store: Store | None,
) -> Score:
    """Asks the order of credit and random orders in one go, and compares the areas."""
    scores, n = single(credit), credit.players.n
    both = len(ways) == 2
    drawn = -(-effort.random // 2) if both else effort.random
    orders = torch.stack(_orders(ranking(scores, rng), drawn, rng, both=both))
    counts = torch.linspace(0, n, min(effort.steps, n) + 1).round().long()
    gates = torch.stack([prefixes(orders, counts, way) for way in ways])  # way order point player
    values, cost = ask(game, gates.flatten(0, 2), " and ".join(ways), store)
    curves = values.unflatten(0, gates.shape[:3])
    areas = torch.trapezoid(curves, counts.double() / n, dim=-1)
    judged = areas[0] - areas[1] if both else areas[0]
    own, others = judged[0], judged[1:]
    pool = torch.cat([others, -others]) if both else others
    lower = ways == ("deletion",)
    drawings: dict[str, Curve] = {}
    for way, c in zip(ways, curves, strict=True):
        rest = c[1:] if len(c) > 1 else c
        drawings[way] = Curve(counts, c[0], rest.amin(0), rest.amax(0))
    score = Score(
        float(own),
        game.describe().unit,
        "lower" if lower else "higher",
        random=len(pool),
        cost=cost,
        curves=drawings,
    )
    if not len(pool):  # two players have one order and its reverse
        return replace(score, note=f"{n} players have no other order")
    return replace(score, chance=band(pool), p_value=_p(own, pool, both=both, lower=lower))


def _orders(own: Tensor, count: int, rng: Generator, *, both: bool) -> list[Tensor]:
    """The judged order and different random ones; where an order stands for its reverse as well,
    one of the two. Of few players there may be fewer.
    """
    n = len(own)
    seen = {tuple(own.tolist())}
    if both:
        seen.add(tuple(own.flip(0).tolist()))
    found = [own]
    every = factorial(n) if n < MANY else MANY * count
    while len(found) <= count and len(seen) < every:
        order = torch.randperm(n, generator=rng)
        if tuple(order.tolist()) in seen:
            continue
        seen |= {tuple(order.tolist())} | ({tuple(order.flip(0).tolist())} if both else set())
        found.append(order)
    return found


def _p(own: Tensor, pool: Tensor, *, both: bool, lower: bool) -> float:
    if lower:
        return p_value(-float(own), -pool)
    if not both:
        return p_value(float(own), pool)
    # the judged order has a reverse as well, which is as likely under chance: exact, not only close
    with_reverse = torch.cat([pool, -own[None]])
    return p_value(float(own), with_reverse)


def prefixes(
    orders: Int[Tensor, "order player"], counts: Int[Tensor, "point"], way: Way
) -> Bool[Tensor, "order point player"]:
    """The coalitions of the first `count` players of each order, or of all the others."""
    place = orders.argsort(-1)
    first = place[:, None, :] < counts[:, None]
    return first if way == "insertion" else ~first
