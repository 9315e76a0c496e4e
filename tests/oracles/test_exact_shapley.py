"""Exact Shapley values: the mean over all orders of arrival, one by one."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.estimators import _enumerate
from apportion.games import toy
from tests.oracles.slow import any_game, generator, shapley, subsets
from tests.small import close, table_game


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_equals_the_mean_gain_over_all_orders(n) -> None:
    game, v, asked = any_game(n, seed=n)
    credit = ap.attribute(game, ap.ExactShapley())
    close(credit.scores, torch.as_tensor(shapley(v, n)))
    assert sorted(map(sorted, asked)) == sorted(map(sorted, subsets(n)))  # each once
    close(credit.none, torch.tensor(v(frozenset()), dtype=torch.float64))
    close(credit.full, torch.tensor(v(frozenset(range(n))), dtype=torch.float64))
    close(credit.gap, torch.zeros(()))


def test_equals_the_closed_form_with_more_players_and_several_outputs() -> None:
    game = toy.moebius(12, 4, generator(1), out=(3,))
    close(ap.attribute(game, ap.ExactShapley()).scores, game.shapley())


def test_enumeration_in_pieces_gives_the_same(monkeypatch) -> None:
    game = toy.moebius(7, 5, generator(2))
    whole = ap.attribute(game, ap.ExactShapley())
    monkeypatch.setattr(_enumerate, "PIECE", 8 * 7 * 5)  # five coalitions at a time
    parts = ap.attribute(game, ap.ExactShapley())
    close(parts.scores, whole.scores, atol=1e-14)
    assert torch.equal(parts.full, whole.full) and torch.equal(parts.none, whole.none)


def test_sampled_shapley_values_agree_on_a_network() -> None:
    game = table_game()
    exact = ap.attribute(game, ap.ExactShapley())
    close(exact.scores, ap.attribute(game, ap.KernelShap(samples=64)).scores)
    sampled = ap.attribute(game, ap.PermutationShapley(orders=400))
    assert float(((sampled.scores - exact.scores).abs() / sampled.error).max()) < 4


def test_too_many_players_are_refused_before_anything_is_asked() -> None:
    _, _, asked = any_game(2)
    assert ap.ExactShapley().cost(20).evaluations == 2**20
    many = toy.additive(torch.ones(21))
    with pytest.raises(ap.BadRequest, match=r"21 players.*KernelShap.*merge"):
        ap.attribute(many, ap.ExactShapley())
    assert not asked
