"""Scores of sets of players by an index: from all coalitions, or from a sample of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..games.base import Game
from ..interactions import Interactions
from ..types import BadRequest, Cost
from ._designs import KernelDesign
from ._fit_sets import Pairs, Polynomial, fitted
from ._indices import Share, few, spread, weights
from ._moments import FIRST, PIECE, Running, Until, ceiling_note
from ._options import counts, precision

MOST_SETS = 2500  # of a sampled index: the fit solves a system of that size
LISTED = 200_000  # sets whose scores are kept


@dataclass(frozen=True)
class Plan:
    """An index of sets of at most `order` players, and how many evaluations it may take."""

    owner: str  # the class of the estimator
    share: Share
    order: int
    samples: int
    until: Until | None

    def admit(self) -> None:
        """Options checked where they are given."""
        admit_order(self.owner, self.order)
        counts(self.samples, self.owner, "samples")
        precision(self.until, self.owner, "until")

    def exhaustive(self, n: int) -> bool:
        """Whether all coalitions are asked."""
        return n < PIECE.bit_length() and 2**n <= self.samples

    def cost(self, n: int) -> Cost:
        """All 2^n coalitions where `samples` allows it; else both ends, and pairs of coalitions."""
        few(n)
        count = how_many(self.owner, n, self.order)
        if self.exhaustive(n):
            return Cost(evaluations=2**n)
        if count > MOST_SETS:
            raise BadRequest(
                f"{self.owner}(order={self.order}) fits {count:,} sets of {n} players, at most "
                f"{MOST_SETS:,} are possible; lower order, or coarsen the players with "
                "players.merge(...)"
            )
        if self.samples < self.least(n):
            raise BadRequest(
                f"{self.owner}(samples={self.samples}, order={self.order}) cannot determine "
                f"{count:,} scores of {n} players; the minimum is {self.least(n):,}, and twice "
                f"that for useful errors. {2**n:,} is exact."
            )
        return Cost(evaluations=2 + 2 * self.pairs(n))

    def least(self, n: int) -> int:
        """Evaluations that determine a polynomial: its even and its odd part each need a pair per
        coefficient.
        """
        sizes = range(1, self.order + 1)
        return 2 + 2 * max(sum(comb(n, s) for s in sizes if s % 2 == odd) for odd in (0, 1))

    def pairs(self, n: int) -> int:
        """Coalitions with their complements that are asked, without both ends."""
        return min((self.samples - 2) // 2, 2 ** (n - 1) - 1)

    def looks(self, n: int) -> list[int]:
        """Numbers of pairs at which the fit is made: only at the end, or growing by half where a
        precision is asked.
        """
        most = self.pairs(n)
        if self.until is None:
            return [most]
        looks = [min(most, self.least(n) + FIRST)]
        while looks[-1] < most:
            looks.append(min(most, looks[-1] + looks[-1] // 2))
        return looks

    def __call__(self, game: Game, rng: Generator) -> Interactions:
        n = game.players.n
        self.cost(n)
        if self.exhaustive(n):
            return enumerated(game, self.order, weights(self.share, n, self.order))
        return _sampled(self, game, rng)


def admit_order(owner: str, order: object) -> None:
    """How many players the largest sets have."""
    counts(order, owner, "order")
    if isinstance(order, int) and order < 1:
        raise BadRequest(f"{owner}(order={order}): sets hold at least one player; write order=2")


def how_many(owner: str, n: int, order: int) -> int:
    """Number of sets of at most `order` of n players; too many are refused."""
    if order > n:
        raise BadRequest(
            f"{owner}(order={order}): there are no sets of {order} among {n} players; write "
            f"order={n}, or lower"
        )
    count = sum(comb(n, size) for size in range(1, order + 1))
    if count > LISTED:
        raise BadRequest(
            f"{owner}(order={order}) would score {count:,} sets of {n} players, more than "
            f"{LISTED:,}; lower order, or coarsen the players with players.merge(...)"
        )
    return count


def small_sets(n: int, order: int, smallest: int = 1) -> Bool[Tensor, "set player"]:
    """Every set of up to `order` players, small ones first."""
    members = [c for size in range(smallest, order + 1) for c in combinations(range(n), size)]
    sets = torch.zeros(len(members), n, dtype=torch.bool)
    for row, chosen in enumerate(members):
        sets[row, list(chosen)] = True
    return sets


def enumerated(
    game: Game, order: int, table: Float[Tensor, "size inside coalition"]
) -> Interactions:
    """Exact scores from the values of all coalitions."""
    n = game.players.n
    sets = small_sets(n, order)
    total: Tensor | None = None
    ends: list[Tensor] = []
    shape: torch.Size = torch.Size()
    for codes in torch.arange(2**n).split(max(PIECE // max(n, len(sets)), 1)):
        present = (codes[:, None] >> torch.arange(n)) & 1 == 1
        values = game.value(present)
        ends += [values[0]] if not ends else []
        shape, last = values.shape[1:], values[-1]
        part = values.double().reshape(len(codes), -1).T @ spread(table, present, sets)
        total = part if total is None else total + part
    assert total is not None  # there is the empty coalition
    scores = total.reshape(*shape, len(sets))
    return Interactions.among(
        game,
        sets,
        scores,
        none=ends[0],
        full=last,
        error_note="exact: all coalitions were asked",
    )


def _sampled(plan: Plan, game: Game, rng: Generator) -> Interactions:
    """A polynomial fitted to the sample, whose index is known, and the index of what it leaves,
    summed over the sample. [witter2025]
    """
    n = game.players.n
    ends = torch.zeros(2, n, dtype=torch.bool)
    ends[1] = True
    none, full = game.value(ends)
    sets = small_sets(n, plan.order)
    design, sides, asked = KernelDesign(n, rng), [ends[:0]], []
    scores = error = None
    stopped, shape = False, (*full.shape, len(sets))
    for pairs in plan.looks(n):
        side = design.grow(pairs)
        sides.append(side)
        values = game.value(torch.stack([side, ~side], 1).flatten(0, 1)).double()
        asked.append(values.reshape(len(side), 2, -1))
        whole = Pairs(torch.cat(sides), torch.cat(asked), design.weights())
        fit = fitted(whole, sets, none.double().reshape(-1), full.double().reshape(-1))
        if fit is None:  # these coalitions do not determine it; the next ones may
            continue
        scores, error = _adjusted(plan, design, whole, fit, sets)
        stopped = plan.until is not None and error is not None and plan.until(scores, error)
        if stopped:
            break
    if scores is None:
        raise BadRequest(
            f"{plan.owner}(samples={plan.samples}): the coalitions drawn cannot tell {len(sets):,} "
            f"sets apart; ask for more samples, at least {2 * plan.least(n):,}, or lower order"
        )
    return Interactions.among(
        game,
        sets,
        scores.reshape(shape),
        error=None if error is None else error.reshape(shape),
        freedom=max(2 * len(design.size_class) - len(sets), 1),
        none=none,
        full=full,
        error_note="" if error is not None else "too few samples for errors; ask for more",
        notes=ceiling_note(plan.until, stopped, f"{plan.samples} samples", error),
    )


def _adjusted(
    plan: Plan, design: KernelDesign, asked: Pairs, fit: Polynomial, sets: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Scores (out, set) and standard errors: sizes of coalitions are strata, drawn without
    replacement, so exhausted sizes add none.
    """
    n, order = sets.shape[1], plan.order
    table = weights(plan.share, n, order)
    scores, variance = _index_of(plan, fit.terms, sets), torch.zeros_like(fit.terms)
    strata = torch.tensor(design.size_class)
    piece = max(PIECE // (4 * len(sets) * len(fit.terms)), 1)
    known = True
    for k in strata.unique().tolist():
        there, taken = design.available[k], design.taken[k]
        spreads = Running()
        for rows in (strata == k).nonzero().flatten().split(piece):
            side = asked.side[rows]
            counts_for = torch.stack(
                [spread(table, side, sets), spread(table, ~side, sets)], 1
            )  # pair side set
            left, jackknifed = fit.residual(asked, rows)
            scores = scores + torch.einsum("jso,jsp->op", left, counts_for) * (there / taken)
            if taken < there:
                known = known and jackknifed is not None
                used = left if jackknifed is None else jackknifed
                spreads.add(torch.einsum("jso,jsp->jop", used, counts_for))
        if taken < there:
            variance += _variance(spreads) * (there**2 * (1 - taken / there) / taken)
    return scores, variance.sqrt() if known else None


def _variance(samples: Running) -> Tensor:
    """Of one sample; a single one is all that is known of it."""
    assert samples.mean is not None and samples.squares is not None
    return samples.squares / (samples.count - 1) if samples.count > 1 else samples.mean.square()


def _index_of(plan: Plan, terms: Float[Tensor, "out set"], sets: Tensor) -> Tensor:
    """The index of a polynomial with these terms: each is shared among the sets inside it."""
    size, order = sets.sum(-1), plan.order
    shares = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    for s in range(1, order + 1):
        for t in range(s, order + 1):
            shares[s, t] = float(plan.share(s, t, order))
    overlap = (sets.double() @ sets.double().T).long()
    inside = torch.where(overlap == size[:, None], shares[size[:, None], size[None, :]], 0.0)
    return torch.einsum("st,ot->os", inside, terms)
