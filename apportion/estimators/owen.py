"""Owen values: orders of arrival in which groups arrive together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..players import Players
from ..types import Axiom, BadRequest, Cost, whole
from ._designs import group_arrivals
from ._gains import Orderly, check_orders
from ._moments import Until
from ._options import counts, precision


@dataclass(frozen=True, kw_only=True)
class Owen:
    """Mean gain of each player over the orders of arrival in which every group arrives in one go.

        score_i = E_order[ v(players before i, and i) - v(players before i) ],
        order = random order of the groups, random order within each

    Coalitions that split a group are asked only while that group is arriving. The scores of a
    group sum to its Shapley value in the game among the groups; with one group, or with every
    player its own, this is the Shapley value. Unbiased; the scores add up to v(all) - v(no player)
    for any number of orders. n - 1 evaluations per order, and the ends. [owen1977]
    """

    # player numbers, group by group, every player in one: ((0, 1), (2, 3, 4)); None = players of
    # one kind (head, token ...) are a group
    groups: tuple[tuple[int, ...], ...] | None = None
    orders: int = 64  # how many orders are sampled (with `until`: at most)
    paired: bool = True  # follow every order by its reverse, which lowers the error
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.EFFICIENCY, Axiom.DUMMY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("owen1977",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.orders, "Owen", "orders")
        precision(self.until, "Owen", "until")
        groups = () if self.groups is None else self.groups
        if not isinstance(groups, tuple) or not all(isinstance(g, tuple) for g in groups):
            raise BadRequest(
                f"Owen(groups={self.groups!r}): give a tuple of player numbers for each group, "
                "such as ((0, 1), (2, 3, 4)), or None for one group of each kind"
            )
        for player in (i for group in groups for i in group):
            whole(player, "groups", "Owen")
        check_orders(self.orders, self.paired, "Owen")

    def cost(self, n: int) -> Cost:
        """Both ends are shared by all orders."""
        return Cost(evaluations=self.orders * (n - 1) + 2)

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n, each = game.players.n, 1 + self.paired
        group = self._group(game.players)
        count = int(group.max()) + 1
        plain = "" if 1 < count < n else f"{count} groups of {n} players: Shapley values"

        def draw(samples: int) -> Tensor:
            return group_arrivals(samples * each, group, paired=self.paired, rng=rng)

        return Orderly(self.orders // each, each, draw).credit(game, self.until, plain)

    def _group(self, players: Players) -> Tensor:
        """The group of each player."""
        if self.groups is None:
            number = {kind: k for k, kind in enumerate(dict.fromkeys(players.kinds))}
            return torch.tensor([number[kind] for kind in players.kinds])
        count = Counter(i for group in self.groups for i in group)
        twice = [i for i, times in count.items() if times > 1]
        missing = [i for i in range(players.n) if i not in count]
        wrong = [i for i in count if not 0 <= i < players.n]
        if twice or missing or wrong or not all(self.groups):
            raise BadRequest(
                f"Owen(groups=...) must hold each of the {players.n} players exactly once and no "
                f"group may be empty: {len(twice)} are in two groups {twice[:3]}, {len(missing)} "
                f"in none {missing[:3]}, {len(wrong)} do not exist {wrong[:3]}. Give a player that "
                "acts alone a group of its own: (3,)."
            )
        group = torch.empty(players.n, dtype=torch.long)
        for k, members in enumerate(self.groups):
            group[list(members)] = k
        return group
