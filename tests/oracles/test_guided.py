"""Guided backpropagation by hand: the gradient, and what is negative stops at every activation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import GUIDED
from tests.small import close, decoder, mlp, normal, table_game

STEP = ap.Blend(ap.removals.step(1.0))
SLOPES = {
    nn.ReLU: lambda z: (z > 0).astype(float),
    nn.Tanh: lambda z: 1 - np.tanh(z) ** 2,
    nn.LeakyReLU: lambda z: np.where(z > 0, 1.0, 0.01),
    nn.ELU: lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    nn.Softsign: lambda z: 1 / (1 + np.abs(z)) ** 2,
}


def by_hand(model: nn.Module, x: np.ndarray, target: int, act: type) -> np.ndarray:
    """d f / d x of a stack of layers, where what reaches an activation is cut at 0 from below."""
    layers = [m for m in model if isinstance(m, nn.Linear)]
    weights = [m.weight.detach().numpy() for m in layers]
    a, sums = x, []
    for m, w in zip(layers[:-1], weights, strict=False):
        sums.append(w @ a + m.bias.detach().numpy())
        a = act()(torch.as_tensor(sums[-1])).numpy()
    back = weights[-1][target]
    for w, z in zip(reversed(weights[:-1]), reversed(sums), strict=True):
        back = w.T @ (SLOPES[act](z) * np.maximum(back, 0))
    return back


@pytest.mark.parametrize("act", SLOPES)
@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_stack_of_layers_by_the_chain_rule_cut_at_zero(act, target) -> None:
    model = mlp(act=act)
    game = table_game(ap.values.Logit(target), STEP, model=model).under(GUIDED)
    expected = by_hand(model, normal(1, 6, seed=1)[0].numpy(), target, act)
    close(ap.attribute(game, ap.Gradient()).scores, torch.as_tensor(expected), atol=1e-12)


def test_without_activations_it_is_the_gradient() -> None:
    game = table_game(model=nn.Sequential(mlp()[0], mlp()[2]).double())
    close(
        ap.attribute(game.under(GUIDED), ap.Gradient()).scores,
        ap.attribute(game, ap.Gradient()).scores,
        atol=0,
    )


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_it_is_not_linear_in_the_question(act) -> None:
    """The credit of -f is not minus that of f, as what was cut is now kept."""
    game = table_game(ap.values.Contrast(0, 1), model=mlp(act=act)).under(GUIDED)
    turned = table_game(ap.values.Contrast(1, 0), model=mlp(act=act)).under(GUIDED)
    both = ap.attribute(game, ap.Gradient()).scores + ap.attribute(turned, ap.Gradient()).scores
    assert float(both.abs().max()) > 1e-3


def test_conservation_is_not_claimed_and_does_not_hold() -> None:
    assert not GUIDED.conserves
    game = table_game(model=mlp(act=nn.ReLU, bias=False))
    plain, guided = (ap.attribute(g, ap.Gradient()) for g in (game, game.under(GUIDED)))
    close(plain.scores.sum(), plain.full)  # a ReLU network without biases is homogeneous
    assert abs(float(guided.scores.sum() / guided.full) - 1) > 1e-2
    model = decoder()
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    tokens = ap.players.tokens(model, ids)
    game = ap.ModelGame(model, ids, ap.values.Logit(7), tokens, ap.Blend(ap.removals.zeros()))
    credit = ap.attribute(game.under(GUIDED), ap.Gradient())
    assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-2
