"""Path integrals: polynomials, kinks integrated exactly, and the measured rate of each rule."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.estimators import Quadrature
from apportion.games import toy
from tests.oracles.slow import generator, shapley
from tests.small import close, mlp, normal, table_game

RULES = list(Quadrature)


def of(f, n: int) -> ap.FunctionGame:
    return ap.FunctionGame(f, n, domain="unit", differentiable=True)


def exactly(steps: int, nodes: Quadrature = Quadrature.GAUSS_LEGENDRE) -> ap.PathIntegral:
    return ap.PathIntegral(steps=steps, nodes=nodes, tolerance=None)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_gauss_legendre_is_exact_up_to_degree_2_steps_minus_1_and_not_beyond(steps) -> None:
    """v = g_0^p g_1: player 0 earns p / (p + 1) and its gradient has degree p on the path."""
    for degree, right in ((2 * steps - 1, True), (2 * steps, False)):
        game = of(lambda g, p=degree: g[:, 0] ** p * g[:, 1], 2)
        scores = ap.attribute(game, exactly(steps)).scores
        expected = torch.tensor([degree, 1.0]).double() / (degree + 1)
        assert torch.allclose(scores, expected, atol=1e-12, rtol=0) == right


@pytest.mark.parametrize("rule", RULES)
def test_linear_and_quadratic_models_have_closed_forms(rule) -> None:
    """w (x - b), and for x' Q x from 0: x_i (Q x)_i, which the midpoint finds with one node."""
    x, b, w = normal(1, 6, seed=1), normal(1, 6, seed=2), normal(6, seed=3)
    q = normal(6, 6, seed=4)
    q = q + q.T

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ w)[:, None]

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ri,ij,rj->r", x, q, x)[:, None]

    game = lambda m, ref: ap.ModelGame(
        m, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ref)
    )
    least = 2 if rule is Quadrature.TRAPEZOID else 1
    linear = game(Linear(), ap.removals.counterfactual(b))
    close(ap.attribute(linear, exactly(least, rule)).scores, w * (x - b)[0])
    quadratic = game(Quadratic(), ap.removals.zeros())
    scores = ap.attribute(quadratic, exactly(least, rule)).scores
    if rule is Quadrature.RIGHT:  # looks at the end only, where the gradient is twice its mean
        close(scores, 2 * x[0] * (q @ x[0]))
    else:
        close(scores, x[0] * (q @ x[0]))


def test_the_paper_s_example_of_a_gradient_that_is_blind() -> None:
    """F = 1 - relu(1 - x) from 0 to 2: the gradient at 2 is 0, the credit is 1."""
    game = of(lambda g: 1 - torch.relu(1 - 2 * g[:, 0]), 1)
    close(ap.attribute(game, ap.Gradient()).scores, torch.tensor([0.0]))
    close(
        ap.attribute(game, exactly(10, Quadrature.MIDPOINT)).scores, torch.tensor([1.0])
    )  # the kink lies between two nodes


@pytest.mark.parametrize("rule", RULES)
def test_symmetric_functions_pay_equal_players_equally(rule) -> None:
    game = of(lambda g: torch.minimum(g[:, 0], g[:, 1]) + torch.sin(3 * g[:, 0] * g[:, 1]), 2)
    scores = ap.attribute(game, exactly(7, rule)).scores
    close(scores[0], scores[1])


def test_on_a_multilinear_game_it_is_shapley() -> None:
    n = 5
    game = toy.moebius(n, 4, generator(2))

    def v(s: frozenset[int]) -> float:
        return float(game.value(torch.tensor([[i in s for i in range(n)]]))[0])

    # a product of at most 4 gates has a derivative of degree 3: two nodes
    close(ap.attribute(game, exactly(2)).scores, torch.as_tensor(shapley(v, n)))


@pytest.mark.parametrize("rule", RULES)
def test_equals_the_weighted_sum_of_autograd_gradients(rule) -> None:
    model, x, b = mlp(), normal(1, 6, seed=1), normal(1, 6, seed=2)
    game = table_game(removal=ap.Blend(ap.removals.counterfactual(b)), model=model)
    m = 9
    points = {
        Quadrature.MIDPOINT: [((k + 0.5) / m, 1 / m) for k in range(m)],
        Quadrature.RIGHT: [(k / m, 1 / m) for k in range(1, m + 1)],
        Quadrature.TRAPEZOID: [
            (k / (m - 1), (0.5 if k in (0, m - 1) else 1.0) / (m - 1)) for k in range(m)
        ],
        Quadrature.GAUSS_LEGENDRE: [
            ((t + 1) / 2, weight / 2)
            for t, weight in zip(*np.polynomial.legendre.leggauss(m), strict=True)
        ],
    }[rule]
    total = torch.zeros(6, dtype=torch.float64)
    for a, weight in points:
        leaf = (b + a * (x - b)).requires_grad_()
        slope = torch.autograd.grad(model(leaf)[0, 1], leaf)[0]
        total += weight * (slope * (x - b))[0]
    close(ap.attribute(game, exactly(m, rule)).scores, total, atol=1e-12)


def piecewise(model: nn.Sequential, x: np.ndarray, b: np.ndarray, target: int) -> np.ndarray:
    """Integrated gradients of a ReLU network without quadrature: its gradient is constant between
    kinks, and kinks of a layer are where its inputs, linear since the last kink, cross 0.
    """
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in model[::2]]
    cuts = [0.0, 1.0]
    for depth in range(len(layers) - 1):
        found = []
        for low, high in pairwise(cuts):
            left, right = (before_activation(layers, b + a * (x - b), depth) for a in (low, high))
            cross = left * right < 0
            found += (low + (high - low) * left[cross] / (left - right)[cross]).tolist()
        cuts = sorted([*cuts, *found])
    total = np.zeros_like(x)
    for low, high in pairwise(cuts):
        middle = b + (low + high) / 2 * (x - b)
        row = layers[-1][0][target]
        for depth in reversed(range(len(layers) - 1)):
            row = (row * (before_activation(layers, middle, depth) > 0)) @ layers[depth][0]
        total += (high - low) * row * (x - b)
    return total


def before_activation(layers: list, x: np.ndarray, depth: int) -> np.ndarray:
    for k, (w, bias) in enumerate(layers):
        x = w @ x + bias
        if k == depth:
            break
        x = np.maximum(x, 0)
    return x


def test_relu_networks_integrate_to_the_exact_piecewise_sum() -> None:
    model, x, b = mlp(hidden=12, act=nn.ReLU), normal(1, 6, seed=1), 2 * normal(1, 6, seed=7)
    exact = torch.as_tensor(piecewise(model, x[0].numpy(), b[0].numpy(), 1))
    ends = (model(x) - model(b))[0, 1].detach()
    close(exact.sum(), ends)  # the oracle itself is complete
    game = table_game(removal=ap.Blend(ap.removals.counterfactual(b)), model=model)
    steepest = None
    for steps in (1000, 4000):
        off = (ap.attribute(game, exactly(steps, Quadrature.MIDPOINT)).scores - exact).abs().max()
        # each kink spoils at most one cell of width 1 / steps, by at most the jump of the gradient
        steepest = float(off) * steps if steepest is None else steepest
        assert float(off) < 3 * max(steepest, 1.0) / steps
    assert float(off) < 2e-3


@pytest.mark.parametrize(
    ("rule", "rate"),
    [(Quadrature.RIGHT, 1), (Quadrature.MIDPOINT, 2), (Quadrature.TRAPEZOID, 2)],
)
def test_the_error_falls_at_the_rate_of_the_rule(rule, rate) -> None:
    game = table_game()
    exact = ap.attribute(game, exactly(60)).scores
    sizes = (16, 32, 64, 128)
    off = [float((ap.attribute(game, exactly(m, rule)).scores - exact).norm()) for m in sizes]
    cells = np.array(sizes) - (1 if rule is Quadrature.TRAPEZOID else 0)
    slope = np.polyfit(np.log(cells), np.log(off), 1)[0]
    assert abs(slope + rate) < 0.05, (rule, slope)


def test_gauss_legendre_converges_geometrically_on_a_smooth_model() -> None:
    """Each node more multiplies the error by about the same factor, which no power law does."""
    other = 3 * normal(1, 6, seed=5)  # far away: the error is not rounding until 20 nodes
    game = table_game(removal=ap.Blend(ap.removals.counterfactual(other)))
    exact = ap.attribute(game, exactly(60)).scores
    steps = np.arange(2, 17)
    off = [float((ap.attribute(game, exactly(int(m))).scores - exact).norm()) for m in steps]
    geometric = np.polyfit(steps, np.log(off), 1, full=True)
    power = np.polyfit(np.log(steps), np.log(off), 1, full=True)
    assert geometric[0][0] < -0.7  # at least halved by each node
    assert geometric[1][0] < 0.5 * power[1][0]  # and the better description


@pytest.mark.parametrize("rule", RULES)
def test_the_gap_is_what_the_quadrature_missed(rule) -> None:
    game = table_game()
    credit = ap.attribute(game, exactly(5, rule))
    ends = game.value(torch.tensor([[False] * 6, [True] * 6]))
    close(credit.gap, ends[1] - ends[0] - credit.scores.sum(), atol=1e-12)


def test_nodes_are_doubled_once_where_the_gap_is_large_and_the_note_says_what_that_did() -> None:
    smooth = of(lambda g: g[:, 0] ** 2 * g[:, 1] + g[:, 1], 2)
    gap = lambda c: float((c.gap / (c.full - c.none)).abs())
    few = ap.PathIntegral(steps=3, nodes=Quadrature.RIGHT, tolerance=0.05)
    assert gap(ap.attribute(smooth, exactly(3, Quadrature.RIGHT))) > 0.05
    credit = ap.attribute(smooth, few)
    assert credit.cost == ap.Cost(2, 6)  # three of the six nodes are known
    close(credit.scores, ap.attribute(smooth, exactly(6, Quadrature.RIGHT)).scores, atol=1e-14)
    assert "with 3 nodes" in credit.provenance.notes[0]
    assert "6" in credit.provenance.notes[0]

    fine = ap.attribute(smooth, ap.PathIntegral(steps=20, tolerance=0.05))
    assert fine.cost == ap.Cost(2, 20)
    assert not fine.provenance.notes

    cliff = of(lambda g: torch.tanh(2000 * g[:, 0]) + 0 * g[:, 1], 2)
    steep = ap.attribute(cliff, ap.PathIntegral(steps=8))
    assert "does not vanish" in steep.provenance.notes[0]
    assert gap(steep) > 0.05


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("times", [0, 1, 3])
def test_doubled_nodes_are_the_rule_on_twice_the_cells_at_the_declared_cost(rule, times) -> None:
    """Trapezoid and right sums use every gradient again, the others none."""
    game = of(lambda g: torch.tanh(60 * g[:, 0] - 22) + g[:, 1], 2)
    extra = rule is Quadrature.TRAPEZOID
    asked = ap.PathIntegral(steps=3, nodes=rule, tolerance=1e-13, doublings=times)
    credit = ap.attribute(game, asked)
    last = (3 - extra) * 2**times + extra
    close(credit.scores, ap.attribute(game, exactly(last, rule)).scores, atol=1e-12)
    nested = rule in (Quadrature.TRAPEZOID, Quadrature.RIGHT)
    spent = last if nested else 3 * (2 ** (times + 1) - 1)
    assert credit.cost == asked.cost(2) == ap.Cost(2, spent)
    note = credit.provenance.notes[0]
    assert f"doublings={times + 2}" in note and "does not vanish" in note
    assert f"with {last}" in note


def test_doubling_stops_as_soon_as_the_gap_is_below_the_tolerance() -> None:
    game = of(lambda g: torch.sin(20 * g[:, 0]) + g[:, 1], 2)
    share = lambda c: float((c.gap / (c.full - c.none)).abs())
    asked = ap.PathIntegral(steps=2, nodes=Quadrature.MIDPOINT, tolerance=0.01, doublings=12)
    credit = ap.attribute(game, asked)
    used = next(
        2**k
        for k in range(1, 14)
        if share(ap.attribute(game, exactly(2**k, Quadrature.MIDPOINT))) <= 0.01
    )
    close(credit.scores, ap.attribute(game, exactly(used, Quadrature.MIDPOINT)).scores, atol=0)
    assert share(credit) <= 0.01 and credit.cost == ap.Cost(2, 2 * used - 2)
    assert credit.cost.within(asked.cost(2)) and credit.cost != asked.cost(2)
    assert f"with {used}" in credit.provenance.notes[0]
    assert "vanish" not in credit.provenance.notes[0]


@pytest.mark.parametrize("wrong", [-1, True])
def test_doublings_count_from_zero(wrong) -> None:
    with pytest.raises(ap.BadRequest, match="doublings"):
        ap.PathIntegral(doublings=wrong)
