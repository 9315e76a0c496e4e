"""Permutation Shapley: every order by hand, the orders it draws, and what its precision is
worth.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.estimators._designs import arrivals
from apportion.games import toy
from tests.oracles.slow import any_game, generator, shapley, within_noise
from tests.small import close


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_closed_forms_of_the_exact_games_equal_all_orders(order) -> None:
    """Moebius coefficients and enumeration are independent roads to the same Shapley value."""
    game = toy.moebius(5, order, generator(order))

    def v(s: frozenset[int]) -> float:
        return float(game.value(torch.tensor([[i in s for i in range(5)]]))[0])

    close(game.shapley(), torch.as_tensor(shapley(v, 5)))


@pytest.mark.parametrize("paired", [True, False])
def test_equals_the_mean_gain_over_its_own_orders(paired) -> None:
    """The same random orders, walked through one player at a time."""
    n, orders = 5, 6
    game, v, _ = any_game(n, seed=1)
    credit = ap.attribute(game, ap.PermutationShapley(orders=orders, paired=paired), seed=7)
    gains = np.zeros((orders, n))
    for row, arrival in enumerate(arrivals(orders, n, paired=paired, rng=generator(7)).tolist()):
        before: frozenset[int] = frozenset()
        for player in sorted(range(n), key=lambda i, when=arrival: when[i]):
            gains[row, player] = v(before | {player}) - v(before)
            before = before | {player}
    close(credit.scores, torch.as_tensor(gains.mean(0)), atol=1e-12)
    samples = gains.reshape(-1, 2, n).mean(1) if paired else gains
    error = samples.std(0, ddof=1) / len(samples) ** 0.5
    close(credit.error, torch.as_tensor(error), atol=1e-12)


def test_every_order_is_equally_likely() -> None:
    """Chi-square over the 24 orders of 4 players: 23 degrees of freedom, 99.9 % point 49.7."""
    for paired in (True, False):
        drawn = arrivals(24_000, 4, paired=paired, rng=generator(2))
        count = Counter(map(tuple, drawn.tolist()))
        assert set(count) == set(permutations(range(4)))
        # reversed orders come in pairs, so only one of each pair is an independent draw
        cells = [k for k in count if not paired or k < tuple(3 - i for i in k)]
        expected = 24_000 / 24
        statistic = sum((count[k] - expected) ** 2 / expected for k in cells)
        assert statistic < (31.3 if paired else 49.7)  # 11 or 23 degrees of freedom


def test_paired_orders_are_reverses_of_each_other() -> None:
    pairs = arrivals(10, 6, paired=True, rng=generator(0)).unflatten(0, (5, 2))
    assert torch.equal(pairs[:, 0] + pairs[:, 1], torch.full((5, 6), 5))


@pytest.mark.parametrize("players", [2, 3, 8])
def test_two_paired_orders_are_exact_when_players_interact_in_pairs(players) -> None:
    for seed in range(5):
        game = toy.moebius(players, 2, generator(seed))
        close(ap.attribute(game, ap.PermutationShapley(orders=2), seed=seed).scores, game.shapley())
    game = toy.moebius(8, 2, generator(0))
    unpaired = ap.attribute(game, ap.PermutationShapley(orders=2, paired=False))
    assert float((unpaired.scores - game.shapley()).abs().max()) > 0.01
    three = toy.moebius(8, 3, generator(0))
    assert (
        float(
            (ap.attribute(three, ap.PermutationShapley(orders=2)).scores - three.shapley())
            .abs()
            .max()
        )
        > 0.01
    )


def test_unbiased_on_a_game_without_structure() -> None:
    for paired in (True, False):
        game, v, _ = any_game(5, seed=2)
        truth = torch.as_tensor(shapley(v, 5))
        estimator = ap.PermutationShapley(orders=4, paired=paired)
        within_noise(
            torch.stack([ap.attribute(game, estimator, seed=s).scores - truth for s in range(100)])
        )


def test_pairing_pays_at_equal_cost() -> None:
    """On a game of third order the pairs remove the whole error of second order."""
    game = toy.moebius(8, 3, generator(6))
    spread = {
        paired: torch.stack(
            [
                ap.attribute(game, ap.PermutationShapley(orders=8, paired=paired), seed=s).scores
                - game.shapley()
                for s in range(80)
            ]
        )
        .square()
        .mean()
        for paired in (True, False)
    }
    assert float(spread[True]) < 0.6 * float(spread[False])


def test_a_dummy_and_a_twin_on_the_way() -> None:
    """A player that adds its own worth always scores exactly that, whoever else plays."""
    game, _, _ = any_game(4, seed=5)

    def with_fifth(g: torch.Tensor) -> torch.Tensor:
        return game.f(g[:, :4]) + 0.75 * g[:, 4]

    credit = ap.attribute(ap.FunctionGame(with_fifth, 5), ap.PermutationShapley(orders=6))
    close(credit.scores[4], torch.tensor(0.75))
