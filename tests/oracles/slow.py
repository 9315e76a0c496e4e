"""Slow definitions, written from the papers with plain loops: what the fast code must equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Generator, Tensor

import apportion as ap
from tests.small import normal

SetFunction = Callable[[frozenset[int]], float]


def any_game(n: int, seed: int = 0) -> tuple[ap.FunctionGame, SetFunction, list[frozenset[int]]]:
    """A game without any structure: a random number for each of the 2^n coalitions.

    Returns the game, the same numbers as a function of a set, and a list that receives every
    coalition the game is asked about.
    """
    worth = normal(2**n, seed=seed)
    asked: list[frozenset[int]] = []

    def f(gates: Tensor) -> Tensor:
        rows = [frozenset(row.nonzero().flatten().tolist()) for row in gates]
        asked.extend(rows)
        return torch.stack([worth[sum(1 << i for i in row)] for row in rows])

    return ap.FunctionGame(f, n), lambda s: float(worth[sum(1 << i for i in s)]), asked


def subsets(n: int) -> list[frozenset[int]]:
    """Every coalition of n players."""
    return [frozenset(c) for size in range(n + 1) for c in combinations(range(n), size)]


def shapley(v: SetFunction, n: int) -> np.ndarray:
    """Mean gain over all n! orders of arrival. [shapley1953]"""
    total = np.zeros(n)
    for order in permutations(range(n)):
        before: frozenset[int] = frozenset()
        for player in order:
            total[player] += v(before | {player}) - v(before)
            before = before | {player}
    return total / math.factorial(n)


def mean_gain(v: SetFunction, n: int, keep: float = 0.5) -> np.ndarray:
    """Expected gain of each player when every other player is present with probability `keep`.

    The Banzhaf value where keep = 1/2.
    """
    total = np.zeros(n)
    for i in range(n):
        for s in subsets(n):
            if i not in s:
                chance = keep ** len(s) * (1 - keep) ** (n - 1 - len(s))
                total[i] += chance * (v(s | {i}) - v(s))
    return total


def gates_of(sets: list[frozenset[int]], n: int) -> np.ndarray:
    """One row of zeros and ones per coalition."""
    return np.array([[float(i in s) for i in range(n)] for s in sets])


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def within_noise(off: Tensor, *, runs_axis: int = 0) -> None:
    """The mean of independent runs differs from 0 by less than 4 of its standard errors."""
    runs = off.shape[runs_axis]
    error = off.std(runs_axis) / runs**0.5
    assert float((off.mean(runs_axis).abs() / error).max()) < 4
