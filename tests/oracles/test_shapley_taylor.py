"""Shapley-Taylor by orders of arrival, and the paper's majority game."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from tests.oracles import sets
from tests.oracles.slow import any_game, shapley
from tests.small import close


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_mean_over_all_orders_of_arrival(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.ShapleyTaylor(order=order))
    close(found.scores, sets.by_definition(found, lambda s: sets.taylor(v, s, order)))
    close(found.gap, torch.tensor(0.0))


def test_order_one_is_the_shapley_value() -> None:
    game, v, _ = any_game(sets.N)
    scores = ap.attribute(game, ap.ShapleyTaylor(order=1)).scores
    close(scores, torch.tensor(shapley(v, sets.N)))


def test_majority_of_three_is_all_in_the_pairs() -> None:
    """Nobody wins alone, so single players get nothing and each pair a third."""
    majority = ap.FunctionGame(lambda g: (g.sum(-1) >= 2).double(), 3)
    found = ap.attribute(majority, ap.ShapleyTaylor(order=2))
    close(found.of(1).scores, torch.zeros(3))
    close(found.of(2).scores, torch.full((3,), 1 / 3, dtype=torch.float64))
