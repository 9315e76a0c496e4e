"""What sets of players bring when they arrive together."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, BadRequest, Cost
from ._indices import few, joint_weights
from ._moments import FIRST, PIECE, Running, Until, ceiling_note, portions, reached
from ._options import counts, precision
from ._sets import admit_order, enumerated, how_many, small_sets


@dataclass(frozen=True, kw_only=True)
class JointShapley:
    """Joint Shapley value: the gain a set brings as a whole, where players arrive in blocks of at
    most `order`.

        score_T = sum_{A without T} q_a [ v(A and T) - v(A) ]

    with q such that blocks arrive at random: of those not yet there, every set of at most `order`
    is next with the same probability. A contribution *of* the set, not an interaction within it: on
    a game that is a sum over players large sets score high. Scores add up to v(all) - v(no player);
    at order 1 the Shapley value. Exact from all 2^n coalitions where `samples` allows it. Else the
    mean over random arrivals, where a block that did not arrive counts 0; up to n - 1 evaluations
    each, and the ends.
    """

    order: int = 2  # players in the largest sets
    samples: int = 4096  # evaluations at most, both ends included; long blocks leave some unused
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset({Axiom.EFFICIENCY, Axiom.LINEARITY})
    cites: ClassVar[tuple[str, ...]] = ("harris2022",)
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        admit_order("JointShapley", self.order)
        counts(self.samples, "JointShapley", "samples")
        precision(self.until, "JointShapley", "until")

    def cost(self, n: int) -> Cost:
        """All 2^n coalitions where `samples` allows it; else both ends and up to n - 1 coalitions
        per arrival.
        """
        how_many("JointShapley", n, self.order)
        if self._exhaustive(n):
            return Cost(evaluations=2**n)
        if self.samples < 2 * n:
            raise BadRequest(
                f"JointShapley(samples={self.samples}): {n} players need at least {2 * n} samples, "
                "two arrivals; and many times that for useful errors"
            )
        return Cost(evaluations=2 + self._runs(n) * (n - 1))

    def _exhaustive(self, n: int) -> bool:
        return n < PIECE.bit_length() and 2**n <= self.samples

    def _runs(self, n: int) -> int:
        return (self.samples - 2) // (n - 1)

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        n = game.players.n
        self.cost(n)
        if self._exhaustive(n):
            few(n)
            return enumerated(game, self.order, joint_weights(n, self.order))
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        sets = small_sets(n, self.order)
        running, stopped = Running(), False
        arrived = torch.zeros(len(sets), dtype=torch.long)  # how often each set did
        width = max(len(sets) * max(full.numel(), 1), n * n)
        for runs in portions(self._runs(n), PIECE // width, self.until):
            when, last = random_arrivals(runs, n, self.order, rng)
            gains = _gains(game, when, last, none, full)
            there = torch.arange(n) <= last[:, None]
            run, which = there.nonzero()[:, 0], number_of(when, self.order)[there]
            tally = gains.new_zeros(runs, len(sets), *full.shape)
            tally[run, which] = gains[there]  # no set arrives twice
            arrived += which.bincount(minlength=len(sets))
            running.add(tally.movedim(1, -1))
            stopped = reached(self.until, running)
            if stopped:
                break
        scores, error = running.result()
        error, rare = _rare(error, sets.sum(-1), arrived, running.count)
        return Interactions.among(
            game,
            sets,
            scores,
            error=error,
            freedom=running.count - 1,
            none=none,
            full=full,
            notes=ceiling_note(self.until, stopped, f"{running.count} arrivals", error) + rare,
        )


def _rare(
    error: Tensor | None, size: Int[Tensor, "set"], arrived: Int[Tensor, "set"], runs: int
) -> tuple[Tensor | None, tuple[str, ...]]:
    """A set that hardly arrived shows no spread: its variance is then at least the mean one of all
    sets of its size, which is unbiased for their mean.
    """
    if error is None:
        return None, ()
    error = error.clone()
    for k in size.unique().tolist():
        own = size == k
        pooled = error[..., own].square().mean(-1, keepdim=True).sqrt()
        few = own & (arrived < FIRST)
        error[..., few] = torch.maximum(error[..., few], pooled.expand_as(error[..., few]))
    never = int((arrived == 0).sum())
    if not never:
        return error, ()
    note = (
        f"{never:,} of {len(size):,} sets never arrived in {runs:,} arrivals: nothing is known of"
    )
    return error, (f"{note} each of them but the spread that sets of its size have",)


def random_arrivals(
    runs: int, n: int, order: int, rng: Generator
) -> tuple[Int[Tensor, "run player"], Int[Tensor, "run"]]:
    """The number of the block each player arrives in, and of the last block.

    Players come in a random order, cut into blocks: with r of them missing, the next block has s
    players with probability C(r, s) / sum of C(r, 1) ... C(r, order), so that every set of them is
    as likely.
    """
    chances = torch.zeros(n + 1, order, dtype=torch.float64)
    for r in range(1, n + 1):
        ways = [comb(r, s) for s in range(1, order + 1)]
        chances[r] = torch.tensor([way / sum(ways) for way in ways])
    rank = torch.rand(runs, n, generator=rng).argsort(1).argsort(1)
    block = torch.zeros(runs, n, dtype=torch.long)  # of each place in the order
    missing = torch.full((runs,), n)
    for number in range(n):
        there = missing > 0
        if not bool(there.any()):
            break
        drawn = torch.multinomial(chances[missing.clamp(min=1)], 1, generator=rng)[:, 0] + 1
        size = torch.where(there, drawn, 0)
        start = (n - missing)[:, None]
        places = torch.arange(n)
        block[(places >= start) & (places < start + size[:, None])] = number
        missing = missing - size
    return block.gather(1, rank), block.amax(1)


def number_of(when: Int[Tensor, "run player"], order: int) -> Int[Tensor, "run block"]:
    """The place of each block among all sets of up to `order` players, small ones first and those
    of one size in the order of the alphabet; anything where there is no block.
    """
    runs, n = when.shape
    ways = torch.tensor([[comb(m, s) for s in range(order + 1)] for m in range(n + 1)])
    size = torch.zeros(runs, n, dtype=torch.long).scatter_add_(1, when, torch.ones_like(when))
    player = (when * n + torch.arange(n)).argsort(1)  # block by block, and by number inside
    block = when.gather(1, player)
    first = torch.arange(n) - (size.cumsum(1) - size).gather(1, block)  # place inside its block
    after = ways[n - 1 - player, size.gather(1, block) - first]  # sets that go on later than here
    behind = torch.zeros_like(size).scatter_add_(1, block, after)
    smaller = ways[n].cumsum(0)[(size - 1).clamp(min=0)] - 1  # the empty set is not scored
    return smaller + ways[n][size] - 1 - behind


def _gains(
    game: Game, when: Int[Tensor, "run player"], last: Tensor, none: Tensor, full: Tensor
) -> Tensor:
    """What each block added when it arrived, (run, block, *out); 0 beyond the last."""
    runs, n = when.shape
    blocks = torch.arange(n)
    present: Bool[Tensor, "run block player"] = when[:, None, :] <= blocks[:, None]
    inner = blocks < last[:, None]  # after the last block all are there
    values = full.double().expand(runs, n, *full.shape).clone()
    asked = present[inner]
    values[inner] = game.value(asked).double().reshape(len(asked), *full.shape)
    before = torch.cat([none.double().expand(runs, 1, *full.shape), values], 1)
    return before.diff(dim=1)
