"""Slow definitions of scores of sets, written from the papers with plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import torch

import apportion as ap
from tests.oracles.slow import SetFunction, subsets

N = 5


def members(found: ap.Interactions) -> list[frozenset[int]]:
    """The scored sets."""
    return [frozenset(row.nonzero().flatten().tolist()) for row in found.sets]


def gain(v: SetFunction, s: frozenset[int], at: frozenset[int]) -> float:
    """What the players of s do together, where those of `at` are there."""
    inside = [frozenset(c) for k in range(len(s) + 1) for c in combinations(sorted(s), k)]
    return sum((-1) ** (len(s) - len(w)) * v(at | w) for w in inside)


def by_definition(found: ap.Interactions, score: Callable[[frozenset[int]], float]) -> torch.Tensor:
    return torch.tensor([score(s) for s in members(found)], dtype=torch.float64)


def others(s: frozenset[int], n: int = N) -> list[frozenset[int]]:
    """Every coalition of the players outside s."""
    return [t for t in subsets(n) if not t & s]


def shapley_interaction(v: SetFunction, s: frozenset[int], n: int = N) -> float:
    """Grabisch and Roubens, their equation of the interaction index."""
    k, f = len(s), math.factorial
    return sum(f(n - len(t) - k) * f(len(t)) / f(n - k + 1) * gain(v, s, t) for t in others(s, n))


def taylor(v: SetFunction, s: frozenset[int], order: int, n: int = N) -> float:
    """Mean over all orders of arrival of the gain where the first of s has not yet arrived."""
    if len(s) < order:
        return gain(v, s, frozenset())
    total, count = 0.0, 0
    for arrival in permutations(range(n)):
        first = min(arrival.index(i) for i in s)
        total += gain(v, s, frozenset(arrival[:first]))
        count += 1
    return total / count


def best_fit(
    v: SetFunction, order: int, weight: Callable[[int], float], *, ends: bool, n: int = N
) -> np.ndarray:
    """Coefficients of least squares on all coalitions, both ends exact where `ends`."""
    sets = [s for s in subsets(n) if 1 <= len(s) <= order]
    rows = [a for a in subsets(n) if not ends or 0 < len(a) < n]
    x = np.array([[float(s <= a) for s in sets] for a in rows])
    w = np.array([weight(len(a)) for a in rows])
    if not ends:
        x = np.concatenate([x, np.ones((len(rows), 1))], 1)
        y = np.array([v(a) for a in rows])
        return np.linalg.lstsq(x * np.sqrt(w)[:, None], y * np.sqrt(w), rcond=None)[0][:-1]
    y = np.array([v(a) - v(frozenset()) for a in rows])
    gram, moment = (x * w[:, None]).T @ x, (x * w[:, None]).T @ y
    count = len(sets)
    bordered = np.block([[gram, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    total = v(frozenset(range(n))) - v(frozenset())
    return np.linalg.solve(bordered, np.append(moment, total))[:-1]
