"""The gradient: closed forms, plain autograd, differences, and its place among coalition values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import generator, mean_gain
from tests.small import central_difference, close, cnn, mlp, normal, table_game

ZEROS, STEP = ap.Blend(ap.removals.zeros()), ap.Blend(ap.removals.step(1.0))


def plain_gradient(model: torch.nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[0, target], leaf)[0]


def test_tanh_network_by_the_chain_rule() -> None:
    model, x = mlp(), normal(1, 6, seed=1)
    weights = [m.weight.detach().numpy() for m in model if hasattr(m, "weight")]
    biases = [m.bias.detach().numpy() for m in model if hasattr(m, "bias")]
    a, slopes = x[0].numpy(), []
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        a = np.tanh(w @ a + b)
        slopes.append(1 - a**2)
    row = weights[-1][1]
    for w, s in zip(reversed(weights[:-1]), reversed(slopes), strict=True):
        row = (row * s) @ w
    credit = ap.attribute(table_game(model=model), ap.Gradient())
    close(credit.scores, torch.as_tensor(row * x[0].numpy()), atol=1e-12)


@pytest.mark.parametrize("size", [1, 4])
def test_zeros_is_gradient_times_input_and_step_is_the_plain_gradient(size) -> None:
    """Of a patch: summed over the elements it owns."""
    model, x = cnn(), normal(1, 2, 8, 8, seed=4)
    slope = plain_gradient(model, x, 2)
    players = ap.players.patches(x, size)

    def pooled(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (8 // size, size)).unflatten(-3, (8 // size, size)).sum((0, 1, 3, 5))

    for removal, expected in ((ZEROS, slope * x), (STEP, slope)):
        game = ap.ModelGame(model, x, ap.values.Logit(2), players, removal)
        close(ap.attribute(game, ap.Gradient()).scores, pooled(expected).flatten(), atol=1e-12)


def test_another_input_is_attribution_patching() -> None:
    """At neurons: gradient there, times the difference of the two activations."""
    model, x, other = mlp(), normal(1, 6, seed=1), normal(1, 6, seed=2)
    players = ap.players.neurons(model, "2")
    removal = ap.Blend(ap.removals.counterfactual(other))
    game = ap.ModelGame(model, x, ap.values.Logit(0), players, removal)
    here = model[:3](x).detach().requires_grad_()
    there = model[:3](other).detach()
    slope = torch.autograd.grad(model[3:](here)[0, 0], here)[0]
    close(ap.attribute(game, ap.Gradient()).scores, (slope * (here - there)).detach()[0])


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_differences_of_values_alone(at) -> None:
    game = table_game()
    slopes = central_difference(game, torch.full((1, 6), at, dtype=torch.float64))
    close(ap.attribute(game, ap.Gradient(at=at)).scores, slopes[0], atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_leave_one_out_at_one_and_banzhaf_at_a_half_on_a_multilinear_game(order) -> None:
    n = 5
    game = toy.moebius(n, order, generator(order))

    def v(s: frozenset[int]) -> float:
        return float(game.value(torch.tensor([[i in s for i in range(n)]]))[0])

    everyone = frozenset(range(n))
    drops = np.array([v(everyone) - v(everyone - {i}) for i in range(n)])
    close(ap.attribute(game, ap.Gradient()).scores, torch.as_tensor(drops))
    for at in (0.5, 0.2):
        expected = torch.as_tensor(mean_gain(v, n, at))
        close(ap.attribute(game, ap.Gradient(at=at)).scores, expected)


def test_full_is_reported_only_where_it_was_asked() -> None:
    game = table_game()
    close(ap.attribute(game, ap.Gradient()).full, game.value(torch.ones(1, 6).bool())[0], atol=0)
    assert ap.attribute(game, ap.Gradient(at=0.5)).full is None
