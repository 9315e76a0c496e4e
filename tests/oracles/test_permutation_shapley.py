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
from apportion.estimators._orders import Orders, _directions, arrivals
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
    draws = orders // 2 if paired else orders
    drawn = arrivals(Orders.INDEPENDENT, draws, 1, n, paired=paired, rng=generator(7))
    for row, arrival in enumerate(drawn.tolist()):
        before: frozenset[int] = frozenset()
        for player in sorted(range(n), key=lambda i, when=arrival: when[i]):
            gains[row, player] = v(before | {player}) - v(before)
            before = before | {player}
    close(credit.scores, torch.as_tensor(gains.mean(0)), atol=1e-12)
    samples = gains.reshape(-1, 2, n).mean(1) if paired else gains
    error = samples.std(0, ddof=1) / len(samples) ** 0.5
    close(credit.error, torch.as_tensor(error), atol=1e-12)


@pytest.mark.parametrize("kind", Orders)
@pytest.mark.parametrize("place", [0, 2])
def test_every_order_is_equally_likely(kind, place) -> None:
    """Chi-square over the 24 orders of 4 players: 23 degrees of freedom, 99.9 % point 49.7. Of
    each block one order counts, as only blocks are independent.
    """
    length = 1 if kind is Orders.INDEPENDENT else 3 if kind is Orders.ORTHOGONAL else 4
    for paired in (True, False):
        blocks, each = (2_400 if paired else 4_800), 1 + paired
        drawn = arrivals(kind, blocks, length, 4, paired=paired, rng=generator(2))
        drawn = drawn.unflatten(0, (blocks, length, each))[:, min(place, length - 1)].flatten(0, 1)
        count = Counter(map(tuple, drawn.tolist()))
        assert set(count) == set(permutations(range(4)))
        # reversed orders come in pairs, so only one of each pair is an independent draw
        cells = [k for k in count if not paired or k < tuple(3 - i for i in k)]
        expected = 4_800 / 24
        statistic = sum((count[k] - expected) ** 2 / expected for k in cells)
        assert statistic < (31.3 if paired else 49.7)  # 11 or 23 degrees of freedom


def test_paired_orders_are_reverses_of_each_other() -> None:
    drawn = arrivals(Orders.INDEPENDENT, 5, 1, 6, paired=True, rng=generator(0))
    pairs = drawn.unflatten(0, (5, 2))
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


def test_directions_are_orthogonal_and_of_zero_sum() -> None:
    frames = _directions(3, 5, 6, generator(0))
    close(frames @ frames.mT, torch.eye(5, dtype=torch.float64).expand(3, 5, 5), atol=1e-12)
    close(frames.sum(-1), torch.zeros(3, 5, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "orders", "paired", "length"),
    [
        (Orders.INDEPENDENT, 64, True, 1),
        (Orders.ORTHOGONAL, 64, True, 4),  # eight blocks
        (Orders.ORTHOGONAL, 640, True, 5),  # no more than n - 1 directions are orthogonal
        (Orders.SOBOL, 100, True, 4),  # a power of two
        (Orders.SOBOL, 100, False, 8),
        (Orders.SOBOL, 8, True, 1),  # too few for blocks: independent ones
    ],
)
def test_as_many_orders_depend_on_each_other_as_eight_blocks_allow(
    kind, orders, paired, length
) -> None:
    estimator = ap.PermutationShapley(orders=orders, paired=paired, sampling=kind)
    assert estimator._blocks(6)[1] == length
    game, _, _ = any_game(6, seed=1)
    credit = ap.attribute(game, estimator)
    assert credit.cost.evaluations == estimator.cost(6).evaluations <= 2 + 5 * orders
    assert estimator._blocks(6)[0] >= min(8, orders // (1 + paired))


@pytest.mark.parametrize(("kind", "orders"), [(Orders.ORTHOGONAL, 112), (Orders.SOBOL, 512)])
def test_orders_spread_evenly_err_less_and_their_error_knows_it(kind, orders) -> None:
    """Mean squared error over seeds, beside independent orders, and beside the squared error that
    each answer tells of itself.
    """
    game = toy.moebius(8, 3, generator(6))

    def runs(sampling: Orders) -> tuple[float, float]:
        estimator = ap.PermutationShapley(orders=orders, sampling=sampling)
        found = [ap.attribute(game, estimator, seed=s) for s in range(60)]
        missed = torch.stack([credit.scores - game.shapley() for credit in found])
        told = torch.stack([credit.error for credit in found])
        return float(missed.square().mean()), float(told.square().mean())

    missed, told = runs(kind)
    assert missed < 0.8 * runs(Orders.INDEPENDENT)[0]
    assert 0.75 < missed / told < 1.33


@pytest.mark.parametrize("kind", Orders)
def test_unbiased_on_a_game_without_structure(kind) -> None:
    for paired in (True, False):
        game, v, _ = any_game(5, seed=2)
        truth = torch.as_tensor(shapley(v, 5))
        estimator = ap.PermutationShapley(orders=32, paired=paired, sampling=kind)
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


def test_more_players_than_sobol_points_have_coordinates_are_refused_before_the_run() -> None:
    with pytest.raises(ap.BadRequest, match=r"30,000 players.*Orders\.ORTHOGONAL"):
        ap.PermutationShapley(sampling=Orders.SOBOL).cost(30_000)
