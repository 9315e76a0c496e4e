"""n-Shapley values by their recursion, from Shapley values to the terms of the game."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles import sets
from tests.oracles.slow import any_game, shapley
from tests.small import close

BERNOULLI = (1.0, -1 / 2, 1 / 6, 0.0, -1 / 30)


def recursion(v, order: int) -> dict[frozenset[int], float]:
    """Definition 4 of the paper: the top order is the interaction index, and each step up gives
    every smaller set its share of what it holds.
    """
    n, scores = sets.N, {}
    for k in range(1, order + 1):
        fresh = {
            frozenset(c): sets.shapley_interaction(v, frozenset(c))
            for c in combinations(range(n), k)
        }
        for s, known in scores.items():
            above = sum(value for t, value in fresh.items() if s < t)
            scores[s] = known + BERNOULLI[k - len(s)] * above
        scores.update(fresh)
    return scores


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_recursion_on_a_game_without_structure(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.NShapley(order=order))
    truth = recursion(v, order)
    close(found.scores, sets.by_definition(found, truth.__getitem__))
    close(found.gap, torch.tensor(0.0))


def test_order_one_is_the_shapley_value_and_order_n_the_terms() -> None:
    game, v, _ = any_game(sets.N)
    close(ap.attribute(game, ap.NShapley(order=1)).scores, torch.tensor(shapley(v, sets.N)))
    every = ap.attribute(game, ap.NShapley(order=sets.N))
    close(every.scores, sets.by_definition(every, lambda s: sets.gain(v, s, frozenset())))


def test_a_term_beyond_the_order_is_shared_alike() -> None:
    """A term of four players at order 2: equal for equals, and it adds up."""
    found = ap.attribute(toy.unanimity(6, (0, 1, 2, 3)), ap.NShapley(order=2))
    inside = found.of(2).scores[found.of(2).sets[:, :4].sum(-1) == 2]
    assert len(inside) == comb(4, 2)
    assert float(inside.std()) < 1e-12
    close(found.sum(), torch.tensor(1.0))
