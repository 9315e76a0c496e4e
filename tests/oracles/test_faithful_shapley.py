"""Faithful Shapley interactions as the least-squares fit they are defined by."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles import sets
from tests.oracles.slow import any_game
from tests.small import close


def kernel(size: int, n: int = sets.N) -> float:
    return (n - 1) / (comb(n, size) * size * (n - size))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_best_fit_under_the_shapley_kernel(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.FaithfulShapley(order=order))
    if order == sets.N:
        truth = sets.by_definition(found, lambda s: sets.gain(v, s, frozenset()))
    else:
        truth = torch.tensor(sets.best_fit(v, order, kernel, ends=True))
    close(found.scores, truth)


def test_order_one_is_kernel_shap_from_the_same_sample() -> None:
    game = toy.moebius(9, 4, torch.Generator().manual_seed(0))
    ours = ap.attribute(game, ap.FaithfulShapley(order=1, samples=60), seed=3)
    theirs = ap.attribute(game, ap.KernelShap(samples=60), seed=3)
    close(ours.scores, theirs.scores)


def test_a_sample_gives_the_fit_to_that_sample_and_nothing_is_added() -> None:
    """The index of what a best fit leaves is zero, so the correction vanishes: the scores are the
    weighted fit to the coalitions that were asked.
    """
    inner = toy.moebius(9, 5, torch.Generator().manual_seed(1))
    asked: list[torch.Tensor] = []

    def f(gates: torch.Tensor) -> torch.Tensor:
        asked.append(gates)
        return inner.value(gates)

    game = ap.FunctionGame(f, 9)
    found = ap.FaithfulShapley(samples=202)(game, torch.Generator().manual_seed(0))
    rows = torch.cat(asked[1:])
    none, full = float(found.none), float(found.full)
    size = rows.sum(-1)
    taken = torch.bincount(size, minlength=10)
    # each coalition stands for its size's share of the kernel
    weight = np.array([1 / (s * (9 - s)) / taken[s] for s in size.tolist()])
    x = ((rows.double() @ found.sets.double().T) == found.sets.sum(-1)).double().numpy()
    y = inner.value(rows).numpy() - none
    gram, moment = (x * weight[:, None]).T @ x, (x * weight[:, None]).T @ y
    one = np.ones((len(gram), 1))
    bordered = np.block([[gram, one], [one.T, np.zeros((1, 1))]])
    fit = np.linalg.solve(bordered, np.append(moment, full - none))[:-1]
    close(found.scores, torch.tensor(fit), atol=1e-8)


def test_scores_predict_coalitions_better_than_other_indices_do() -> None:
    game, v, _ = any_game(sets.N)

    def loss(estimator) -> float:
        found = ap.attribute(game, estimator)
        total = 0.0
        for a in sets.subsets(sets.N):
            if 0 < len(a) < sets.N:
                inside = [s <= a for s in sets.members(found)]
                guess = v(frozenset()) + float(found.scores[inside].sum())
                total += kernel(len(a)) * (v(a) - guess) ** 2
        return total

    best = loss(ap.FaithfulShapley())
    assert best < loss(ap.NShapley()) and best < loss(ap.ShapleyTaylor())
