"""Greedy paths: where every path agrees, where one is the straight one, and how fast the gap
falls.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.estimators import Direction
from apportion.games import toy
from tests.oracles.slow import generator
from tests.small import close, mlp, normal, seeded, table_game

DIRECTIONS = list(Direction)


def column_game(model: nn.Module, n: int, seed: int = 1) -> ap.ModelGame:
    x, other = normal(1, n, seed=seed), normal(1, n, seed=seed + 1)
    removal = ap.Blend(ap.removals.counterfactual(other))
    return ap.ModelGame(model, x, ap.values.Logit(0), ap.players.columns(x), removal)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("share", "step"), [(0.01, 1.0), (0.4, 0.3), (1.0, 0.7)])
def test_a_linear_model_is_exact_for_every_order_and_step(direction, share, step) -> None:
    model = seeded(lambda: nn.Linear(9, 2))
    game = column_game(model, 9)
    estimator = ap.GreedyPath(share=share, step=step, direction=direction)
    x, other = normal(1, 9, seed=1)[0], normal(1, 9, seed=2)[0]
    close(ap.attribute(game, estimator).scores, model.weight[0].detach() * (x - other))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_on_an_additive_model_every_path_tends_to_the_same_credit(direction) -> None:
    """f = sum sin x_i: player i earns sin x_i - sin x'_i on any path."""

    class Sines(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x).sum(-1, keepdim=True)

    game = column_game(Sines(), 5)
    x, other = normal(1, 5, seed=1)[0], normal(1, 5, seed=2)[0]
    for share, momentum in ((0.01, 0.0), (0.5, 0.9)):
        missed = [
            float(
                (ap.attribute(game, estimator).scores - (torch.sin(x) - torch.sin(other)))
                .abs()
                .max()
            )
            for step in (0.16, 0.08, 0.04)
            for estimator in [
                ap.GreedyPath(share=share, step=step, momentum=momentum, direction=direction)
            ]
        ]
        assert missed[2] < 0.02
        for coarse, fine in pairwise(missed):
            assert coarse / fine > 1.7  # at least in proportion to the step


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_with_all_players_in_every_step_it_is_the_path_integral(direction) -> None:
    game = table_game()
    straight = ap.attribute(game, ap.PathIntegral(steps=200, nodes=ap.Quadrature.TRAPEZOID))
    greedy = ap.GreedyPath(share=1.0, step=1 / 199, momentum=0.0, direction=direction)
    close(ap.attribute(game, greedy).scores, straight.scores, atol=1e-12)


def test_one_player_after_the_other_is_the_gain_along_a_greedy_order_of_a_multilinear_game() -> (
    None
):
    """Its derivative does not change while one player moves, so credit is v(S + i) - v(S), for the
    order that takes the largest derivative first, written as a loop.
    """
    n = 6
    game = toy.moebius(n, 3, generator(3))
    value = lambda s: float(game.value(torch.tensor([[i in s for i in range(n)]]))[0])
    for way in (Direction.ADD, Direction.REMOVE):
        here = set() if way is Direction.ADD else set(range(n))
        aim = 1 if value(set(range(n))) >= value(set()) else -1
        expected = torch.zeros(n, dtype=torch.float64)
        left = set(range(n))
        while left:
            gain = {i: value(here | {i}) - value(here - {i}) for i in left}
            best = max(left, key=lambda i: aim * gain[i])
            expected[best] = gain[best]
            left.remove(best)
            here ^= {best}
        estimator = ap.GreedyPath(momentum=0.0, direction=way)
        close(ap.attribute(game, estimator).scores, expected)
    both = ap.attribute(game, ap.GreedyPath(momentum=0.0)).scores
    ways = [ap.GreedyPath(momentum=0.0, direction=d) for d in (Direction.ADD, Direction.REMOVE)]
    close(both, torch.stack([ap.attribute(game, w).scores for w in ways]).mean(0), atol=1e-12)


def test_the_gap_falls_with_the_square_of_the_step_on_a_smooth_model() -> None:
    """Where the order does not change between steps: all players move, in proportion."""
    game = column_game(
        seeded(lambda: nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1))), 20
    )
    sizes = torch.tensor([0.2, 0.1, 0.05, 0.025], dtype=torch.float64)
    gaps = [
        float(ap.attribute(game, ap.GreedyPath(share=1.0, step=float(s))).gap.abs()) for s in sizes
    ]
    slope = torch.tensor(gaps).log().diff() / sizes.log().diff()
    assert 1.8 < float(slope.mean()) < 2.2, gaps


def test_the_gap_of_a_greedy_path_vanishes_with_the_step() -> None:
    game = column_game(mlp(20, 16, 1), 20)
    gaps = [
        float(ap.attribute(game, ap.GreedyPath(share=0.1, step=step)).gap.abs())
        for step in (1.0, 0.25, 1 / 16)
    ]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]


def test_it_takes_the_players_that_change_the_value_its_own_way_first() -> None:
    """v = 3 a + 1 b - 1 c rises by 3: a moves first; and where v falls, the one that lowers it
    most. Seen in the path that is asked.
    """
    seen: list[Tensor] = []

    def play(sign: float) -> list[list[float]]:
        seen.clear()

        def f(gates: Tensor) -> Tensor:
            seen.append(gates.detach().clone())
            return sign * (gates * torch.tensor([1.0, 3.0, -1.0], dtype=gates.dtype)).sum(-1)

        game = ap.FunctionGame(f, 3, domain="unit", differentiable=True)
        ap.attribute(game, ap.GreedyPath(direction=Direction.ADD))
        return torch.cat(seen)[-4:].tolist()

    path = [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert play(1.0) == path and play(-1.0) == path


def test_moves_fill_every_step_and_no_gate_leaves_its_range() -> None:
    seen: list[Tensor] = []

    def f(gates: Tensor) -> Tensor:
        seen.append(gates.detach().clone())
        return torch.sin(3 * gates.double() @ torch.linspace(-1, 2, 10).double())

    game = ap.FunctionGame(f, 10, domain="unit", differentiable=True)
    estimator = ap.GreedyPath(share=0.2, step=0.35, direction=Direction.REMOVE)
    credit = ap.attribute(game, estimator)
    path = torch.cat(seen)[2:]
    steps = math.ceil(10 / (0.35 * 2))
    assert len(path) == steps + 1 and credit.cost == ap.Cost(2, steps + 1) == estimator.cost(10)
    moved = path[:-1] - path[1:]
    assert float(moved.min()) >= -1e-12 and float(path.min()) >= 0 and float(path.max()) <= 1
    close(moved.sum(1)[:-1], torch.full((steps - 1,), 0.7, dtype=torch.float64), atol=1e-12)
    close(path[-1], torch.zeros(10), atol=0)


def test_concentrates_credit_more_than_the_straight_path_on_a_max() -> None:
    """Smooth maximum of alike players: the greedy path pays one, the straight path all."""
    game = ap.FunctionGame(
        lambda g: torch.logsumexp(8 * g, -1) / 8, 5, domain="unit", differentiable=True
    )
    greedy = ap.attribute(game, ap.GreedyPath(step=0.05)).scores
    straight = ap.attribute(game, ap.PathIntegral()).scores
    assert float(greedy.var()) > float(straight.var()) + 1e-3
    close(straight, straight.mean().expand(5), atol=1e-9)


def test_bad_requests() -> None:
    for wrong in ({"share": 0.0}, {"share": 1.5}, {"step": 0.0}, {"momentum": 1.0}):
        with pytest.raises(ap.BadRequest, match="share and step are above 0"):
            ap.GreedyPath(**wrong)
    with pytest.raises(ap.BadRequest, match="picked"):
        ap.attribute(table_game(ap.values.Logit((0, 2))), ap.GreedyPath())


def test_a_gap_is_spoken_of() -> None:
    """A cliff within one step is missed by both of its ends; a slope without one is not."""
    cliff = ap.FunctionGame(
        lambda g: torch.sqrt(1e-9 + g.sum(1)), 4, domain="unit", differentiable=True
    )
    credit = ap.attribute(cliff, ap.GreedyPath())
    assert abs(float(credit.gap)) > 0.05 * 2.0
    assert "make step smaller" in credit.provenance.notes[0]
    smooth = ap.FunctionGame(lambda g: g.sum(1) ** 2, 4, domain="unit", differentiable=True)
    assert not ap.attribute(smooth, ap.GreedyPath()).provenance.notes
