"""Banzhaf interactions as the mean over all coalitions of the others."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles import sets
from tests.oracles.slow import any_game, mean_gain
from tests.small import close


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_mean_gain_over_all_coalitions_of_the_others(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.BanzhafInteractions(order=order))

    def mean(s: frozenset[int]) -> float:
        there = sets.others(s)
        return sum(sets.gain(v, s, t) for t in there) / len(there)

    close(found.scores, sets.by_definition(found, mean))
    close(found.of(1).scores, torch.tensor(mean_gain(v, sets.N)))


def test_mixed_derivatives_at_one_half() -> None:
    """On the multilinear extension the pair's score is the second derivative at 1/2."""
    game = toy.moebius(6, 4, torch.Generator().manual_seed(0))
    found = ap.attribute(game, ap.BanzhafInteractions())
    middle = torch.full((1, 6), 0.5, dtype=torch.float64)
    for i, j in ((0, 1), (2, 5)):
        up, down = middle.clone(), middle.clone()
        up[:, j], down[:, j] = 1, 0  # linear in each gate, so this difference is the derivative
        change = game.grad(up)[1][0, i] - game.grad(down)[1][0, i]
        assert found[i, j].score == pytest.approx(float(change), abs=1e-12)
