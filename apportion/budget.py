"""What a number of seconds buys: measured speed in, estimators and plans of checks out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .estimators import (
    Estimator,
    Gradient,
    KernelShap,
    LeaveOneOut,
    PathIntegral,
    PermutationShapley,
)
from .games import Game, averaged, chunked
from .types import BadRequest

COMPONENTS, PIXELS = 0.15, 0.06  # shares of the seconds for what is asked beside the features
EXAMPLES = 0.4  # share for the training rows, where a training was recorded
ROWS = 4  # coalitions per timing
MOST_ORDERS, FEWEST_ORDERS = 256, 8  # more buy nothing a reader can see; fewer have no error bar
CREDIT_ORDERS = 16  # of the credit itself, at least
CHANGED_ORDERS = 32  # of the changed games of a check, at most
ENUMERATED = 2**13  # coalitions that are simply all asked
TRUSTED_PAIRS = 4  # per player, from which kernel SHAP's jackknife can be read
STEPS, FEWEST_STEPS = 14, 5  # points of a curve
RANDOM, FEWEST_RANDOM = 39, 19  # random orders; 19 give a smallest p-value of 1/20
SAMPLES, FEWEST_SAMPLES = 128, 32  # random halves


@dataclass(frozen=True)
class Speed:
    """Seconds per coalition of one game, all its draws included."""

    value: float
    grad: float | None  # None = no gradient

    def rows(self, seconds: float) -> int:
        """How many values fit into so many seconds."""
        return int(seconds / max(self.value, 1e-9))


def measured(game: Game, *, gradient: bool = False) -> Speed:
    """Times a few evaluations after one that warms up. Costs about three batches of each."""
    asked = averaged(chunked(game)) if game.draws != 1 else chunked(game)
    gates = torch.ones(ROWS, game.players.n, dtype=torch.bool)
    gates[:, ::2] = False

    def timed(ask: Callable[[Tensor], object]) -> float:
        best = float("inf")
        for _ in range(2):
            begin = time.perf_counter()
            ask(gates)
            best = min(best, time.perf_counter() - begin)
        return best / ROWS

    has_gradient = gradient and game.grad_price is not None and game.domain != "binary"
    return Speed(timed(asked.value), timed(asked.grad) if has_gradient else None)


@dataclass(frozen=True)
class Bounds:
    """What one part of an answer can use, in coalitions."""

    fewest: int  # with fewer it says nothing
    most: int  # more would not be noticed
    share: float  # of what is left when every part has its fewest


def parts(players: int, dear: int) -> dict[str, Bounds]:
    """The parts of an answer about features, the most important first.

    `dear`: how many times more a coalition costs under the other meaning of absence.
    """

    def orders(count: int) -> int:
        return count * (players - 1) + 2

    few = orders(FEWEST_ORDERS)
    every = 2**players if players < ENUMERATED.bit_length() else ENUMERATED + 1
    credit = Bounds(min(orders(CREDIT_ORDERS), every), orders(MOST_ORDERS), 0.4)
    exact = every <= credit.fewest
    changed = min(orders(CHANGED_ORDERS), every)
    least = _curve_rows(FEWEST_RANDOM, min(FEWEST_STEPS, players))
    return {
        "credit": credit,
        "orders": Bounds(least, _curve_rows(RANDOM, min(STEPS, players)), 0.15),
        "again": Bounds(0, 0, 0.0) if exact else Bounds(few, orders(MOST_ORDERS), 0.2),
        "unseen": Bounds(FEWEST_SAMPLES, SAMPLES, 0.05),
        "shuffled": Bounds(min(few, every), changed, 0.1),
        "absence": Bounds(min(few, every) * dear, changed * dear, 0.1),
    }


def allot(rows: int, wanted: Mapping[str, Bounds]) -> dict[str, int]:
    """Coalitions for each part: to all the fewest, and what is left by share, up to the most.

    Where not even the fewest fit, parts are left out from the end.
    """
    kept = dict(wanted)
    while kept and sum(bounds.fewest for bounds in kept.values()) > rows:
        kept.popitem()
    granted = {name: float(bounds.fewest) for name, bounds in kept.items()}
    growing = {name: b for name, b in kept.items() if b.most > b.fewest}
    left = rows - sum(granted.values())
    while growing and left >= 1:
        total = sum(bounds.share for bounds in growing.values())
        for name, bounds in growing.items():
            granted[name] = min(granted[name] + left * bounds.share / total, bounds.most)
        growing = {name: b for name, b in growing.items() if granted[name] < b.most}
        left = rows - sum(granted.values())
    return {name: int(amount) for name, amount in granted.items()}


def _curve_rows(random: int, steps: int) -> int:
    """Coalitions of an insertion and a deletion curve, with their random orders."""
    return (random + 3) * (steps - 1) + 2


def shapley(players: int, rows: int, most: int = MOST_ORDERS) -> Estimator | None:
    """The best Shapley estimator that so many coalitions buy; None if they buy none with an error
    bar.
    """
    if players == 1:
        return LeaveOneOut()
    if players < 2**5 and 2**players <= min(rows, ENUMERATED):
        return KernelShap(samples=2**players)
    rows = min(rows, most * (players - 1) + 2)
    # from about a quarter of all sets of two on kernel SHAP errs less: benchmarks/precision.py
    if rows >= max(_sets_of_two(players) / 4, TRUSTED_PAIRS * 2 * players):
        return KernelShap(samples=rows)
    return _permutations(players, rows)


def second(players: int, rows: int, first: Estimator) -> Estimator | None:
    """Another estimator of the Shapley value with at most as many coalitions as the first."""
    rows = min(rows, first.cost(players).evaluations)
    if isinstance(first, KernelShap) and first.samples < 2**players:
        return _permutations(players, rows)
    if isinstance(first, PermutationShapley) and rows >= 2 * players + 2:
        return KernelShap(samples=rows)
    return None


def _permutations(players: int, rows: int) -> Estimator | None:
    orders = (rows - 2) // (players - 1) // 2 * 2
    return PermutationShapley(orders=orders) if orders >= FEWEST_ORDERS else None


def _sets_of_two(players: int) -> int:
    """Coalitions that hold or lack at most two players."""
    return 2 * (1 + players + players * (players - 1) // 2)


def single_effects(players: int, speed: Speed, seconds: float) -> Estimator:
    """Leave-one-out where it fits; else a path integral; else one gradient."""
    if players + 1 <= speed.rows(seconds):
        return LeaveOneOut()
    if speed.grad is None:
        raise BadRequest(
            f"{players} components need about {players * speed.value:.0f} s one by one; raise the "
            "budget"
        )
    steps = min(int(seconds / speed.grad), 32)
    return PathIntegral(steps=steps) if steps >= 2 * FEWEST_ORDERS else Gradient()


def curve(players: int, rows: int) -> tuple[int, int]:
    """Random orders and points per curve that so many coalitions buy; at least the fewest that can
    decide.
    """
    steps = min(STEPS, players)
    while steps > min(FEWEST_STEPS, players) and _curve_rows(RANDOM, steps) > rows:
        steps -= 1
    return (RANDOM if _curve_rows(RANDOM, steps) <= rows else FEWEST_RANDOM), steps
