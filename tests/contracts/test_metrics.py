"""Every metric on games where the answer is known, and honest about credit that knows nothing."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
import torch
from scipy.stats import spearmanr
from torch import Generator

import apportion as ap
from apportion.attribution import Attribution
from apportion.evaluate import (
    TABLE,
    additive_fidelity,
    insertion,
    insertion_minus_deletion,
    joint_removal,
    rank_agreement,
)
from apportion.evaluate.agreement import _moved, _moves, by_chance, spearman
from apportion.evaluate.score import band, p_value
from apportion.games import Store, toy
from tests.small import close, normal

ROWS = [pytest.param(metric, id=name) for name, metric in TABLE.items()]
PLAYERS = 20


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def planted(seed: int = 3) -> tuple[toy.MoebiusGame, Attribution]:
    """An additive game and its exact credit."""
    game = toy.additive(normal(PLAYERS, seed=seed), base=0.5)
    return game, ap.attribute(game, ap.LeaveOneOut())


def saying(game: toy.MoebiusGame, scores: torch.Tensor) -> Attribution:
    return Attribution.of(game, scores)


@pytest.mark.parametrize("metric", ROWS)
def test_the_true_credit_of_an_additive_game_beats_chance(metric) -> None:
    game, credit = planted()
    score = metric(credit, game)
    assert score.outside
    assert score.p_value <= 0.05


@pytest.mark.parametrize("metric", ROWS)
def test_the_negated_credit_is_worse_than_the_true_one(metric) -> None:
    game, credit = planted()
    true, false = metric(credit, game), metric(saying(game, -credit.scores), game)
    assert not false.outside
    assert (true.value > false.value) == (true.better == "higher")


@pytest.mark.parametrize("metric", ROWS)
def test_random_credit_passes_about_as_often_as_promised(metric) -> None:
    game, _ = planted()
    runs = 100
    p = torch.tensor(
        [
            metric(saying(game, normal(PLAYERS, seed=100 + s)), game, seeded(s)).p_value
            for s in range(runs)
        ]
    )
    # under chance P(p <= .05) is at most .05; three standard errors of a share over 100 runs
    assert float((p <= 0.05).double().mean()) <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert 0.4 < float(p.mean()) < 0.6


@pytest.mark.parametrize("metric", ROWS)
def test_same_generator_same_score_and_cost_is_counted(metric) -> None:
    game, credit = planted()
    asked = []

    def count(gates: torch.Tensor) -> torch.Tensor:
        asked.append(len(gates))
        return game.value(gates)

    watched = ap.FunctionGame(count, PLAYERS)
    a, b = metric(credit, watched, seeded(5)), metric(credit, watched, seeded(5))
    assert (a.value, a.p_value, a.chance) == (b.value, b.p_value, b.chance)
    assert sum(asked) <= 2 * a.cost.evaluations  # repeats inside a request are asked once


@pytest.mark.parametrize("metric", ROWS)
def test_a_shared_store_makes_the_second_time_free(metric) -> None:
    game, credit = planted()
    asked = []

    def count(gates: torch.Tensor) -> torch.Tensor:
        asked.append(len(gates))
        return game.value(gates)

    watched, store = ap.FunctionGame(count, PLAYERS), Store()
    metric(credit, watched, seeded(5), store=store)
    before = sum(asked)
    metric(credit, watched, seeded(5), store=store)
    assert sum(asked) == before


# these judge every output, and average over them
OF_MANY = {"linear-datamodeling-score", "leave-one-out-correlation"}


@pytest.mark.parametrize("metric", [row for row in ROWS if row.id not in OF_MANY])
def test_several_outputs_are_refused_with_the_remedy(metric) -> None:
    game = toy.additive(normal(2, PLAYERS))
    with pytest.raises(ap.BadRequest, match=r"credit\.pick"):
        metric(ap.attribute(game, ap.LeaveOneOut()), game)


@pytest.mark.parametrize("name", ["insertion", "deletion", "insertion-minus-deletion"])
def test_true_order_is_optimal_over_all_orders(name: str) -> None:
    game = toy.additive(normal(5, seed=7))
    weights = game.shapley()
    metric = TABLE[name]
    values = [
        metric(
            saying(game, -torch.tensor(order, dtype=torch.float64).argsort().double()),
            game,
            random=1,
        ).value
        for order in permutations(range(5))
    ]
    true = metric(saying(game, weights), game, random=1)
    extreme = max(values) if true.better == "higher" else min(values)
    assert true.value == pytest.approx(extreme, abs=1e-12)


def test_insertion_is_the_area_under_the_curve_by_hand() -> None:
    weights = torch.tensor([3.0, -1.0, 2.0, 0.5])
    game = toy.additive(weights, base=1.0)
    heights = [1.0, 4.0, 6.0, 6.5, 5.5]  # 3, then 2, then .5, then -1 are added
    by_hand = sum((a + b) / 2 for a, b in pairwise(heights)) / 4
    assert insertion(saying(game, weights), game).value == pytest.approx(by_hand)


def test_reversing_the_order_negates_insertion_minus_deletion() -> None:
    game = toy.moebius(8, 3, seeded(0))
    credit = saying(game, normal(8, seed=4))
    there = insertion_minus_deletion(credit, game).value
    back = insertion_minus_deletion(saying(game, -credit.scores), game).value
    assert there == pytest.approx(-back)


def test_ties_are_broken_at_random_and_not_by_number() -> None:
    game = toy.additive(torch.arange(6.0))
    flat = saying(game, torch.zeros(6))
    values = {round(insertion(flat, game, seeded(s)).value, 6) for s in range(8)}
    assert len(values) > 1


def test_joint_removal_is_the_loss_by_hand_and_sees_stand_ins() -> None:
    game = toy.unanimity(10, (0, 1))
    redundant = ap.FunctionGame(lambda g: (g[:, 0] | g[:, 1]).double(), 10)
    scores = torch.zeros(10, dtype=torch.float64)
    scores[:2] = 1.0
    assert joint_removal(saying(game, scores), game, k=1).value == 1.0
    assert joint_removal(saying(game, scores), redundant, k=1).value == 0.0
    assert joint_removal(saying(game, scores), redundant, k=2).value == 1.0


def test_additive_fidelity_is_one_on_additive_games_and_does_not_reward_size() -> None:
    game, credit = planted()
    assert additive_fidelity(credit, game).value == pytest.approx(1.0)
    everyone_helps = toy.additive(torch.ones(PLAYERS, dtype=torch.float64))
    flat = additive_fidelity(saying(everyone_helps, normal(PLAYERS)), everyone_helps)
    assert flat.value is None
    assert "same value" in flat.note


def test_two_players_have_one_order_and_its_reverse() -> None:
    game = toy.additive(torch.tensor([3.0, 1.0], dtype=torch.float64))
    score = insertion_minus_deletion(ap.attribute(game, ap.LeaveOneOut()), game)
    # trapezoids over (0, 3, 4) and (4, 1, 0)
    assert score.value == 1.0
    assert score.outside is None
    assert score.p_value is None
    assert "no other order" in score.note


def test_undefined_is_said_and_not_zero() -> None:
    game = toy.additive(torch.ones(3))
    assert additive_fidelity(saying(game, torch.ones(3)), game).value is None
    constant = saying(game, torch.zeros(3))
    assert rank_agreement(constant, constant).value is None


def test_spearman_equals_scipy_with_ties() -> None:
    a = torch.tensor([1.0, 2, 2, 3, 5, 5, 5, -1], dtype=torch.float64)
    b = normal(4, 8).round()
    close(spearman(a, b), torch.tensor([spearmanr(a, row).statistic for row in b]), atol=1e-12)


def test_smooth_maps_agree_by_chance_no_more_often_than_said() -> None:
    rng, outside, pairs = seeded(5), {"moved": 0, "shuffled": 0}, 120
    kernel = torch.outer(*(torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64),) * 2)[None, None]

    def smooth() -> torch.Tensor:
        noise = torch.randn(1, 1, 9, 9, generator=rng, dtype=torch.float64)
        return torch.nn.functional.conv2d(noise, kernel).flatten()

    for _ in range(pairs):
        a, b = smooth(), smooth()
        value = float(spearman(a, b[None])[0])
        for null, grid in (("moved", (7, 7)), ("shuffled", None)):
            outside[null] += value > band(by_chance(a, b, grid, rng), sides="both")[1]
    # nominal 2.5%: 3 of 120, and more than 9 in one of a thousand; shuffles promise too much
    assert outside["moved"] <= 9 < outside["shuffled"]


@pytest.mark.parametrize("grid", [(3, 4), (5, 5)])
def test_moves_of_a_grid_are_different_and_keep_neighbours(grid) -> None:
    height, width = grid
    every = [tuple(_moved(m, grid).tolist()) for m in range(_moves(grid))]
    assert every[0] == tuple(range(height * width))
    assert len(set(every)) == len(every)
    for cells in every:
        assert sorted(cells) == list(range(height * width))
        laid = torch.tensor(cells).reshape(grid)
        beside = laid.roll(1, 1).flatten().tolist()
        for here, there in zip(cells, beside, strict=True):
            apart = ((here // width - there // width) % height, (here - there) % width)
            assert apart in {(0, 1), (0, width - 1), (1, 0), (height - 1, 0)}


def test_agreement_error_grows_with_the_noise_of_the_credits() -> None:
    game = toy.additive(normal(20))
    exact = saying(game, game.shapley())

    def noisy(size: float) -> Attribution:
        return Attribution.of(
            game, game.shapley(), error=torch.full((20,), size, dtype=torch.float64)
        )

    assert rank_agreement(exact, exact).error is None
    small, large = rank_agreement(exact, noisy(0.01)), rank_agreement(exact, noisy(1.0))
    assert small.error < large.error


def test_band_and_p_value_agree_on_what_is_outside() -> None:
    random = normal(39, seed=1)
    low, high = band(random)
    for value in torch.linspace(-3, 3, 200, dtype=torch.float64).tolist():
        assert (value > high) == (p_value(value, random) <= 0.05)
        assert (value < low) == (p_value(-value, -random) <= 0.05)
