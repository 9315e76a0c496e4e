"""Deconvolution by hand: transposed weights, and what is negative stops at every activation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import DECONVNET, GUIDED
from tests.small import close, mlp, normal, table_game

STEP = ap.Blend(ap.removals.step(1.0))


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.ELU])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_stack_of_layers_by_its_transposed_weights(act, target) -> None:
    model = mlp(act=act)
    game = table_game(ap.values.Logit(target), STEP, model=model).under(DECONVNET)
    weights = [m.weight.detach().numpy() for m in model if isinstance(m, nn.Linear)]
    back = weights[-1][target]
    for w in reversed(weights[:-1]):
        back = w.T @ np.maximum(back, 0)
    close(ap.attribute(game, ap.Gradient()).scores, torch.as_tensor(back), atol=1e-12)


def test_the_input_counts_only_through_max_pooling() -> None:
    """Without pools it is the same for every input, unlike guided backpropagation."""
    model = mlp(act=nn.ReLU)
    columns = ap.players.columns(normal(1, 6))
    games = [
        ap.ModelGame(model, normal(1, 6, seed=s), ap.values.Logit(1), columns, STEP) for s in (1, 2)
    ]
    one, other = (ap.attribute(g.under(DECONVNET), ap.Gradient()).scores for g in games)
    close(one, other, atol=1e-14)
    one, other = (ap.attribute(g.under(GUIDED), ap.Gradient()).scores for g in games)
    assert float((one - other).abs().max()) > 1e-3


def test_it_equals_guided_backpropagation_where_every_unit_is_active() -> None:
    model = mlp(act=nn.ReLU)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.bias.fill_(100.0)
    game = table_game(model=model, removal=STEP)
    one, other = (ap.attribute(game.under(r), ap.Gradient()).scores for r in (DECONVNET, GUIDED))
    close(one, other, atol=0)


def test_conservation_is_not_claimed_and_does_not_hold() -> None:
    assert not DECONVNET.conserves
    credit = ap.attribute(
        table_game(model=mlp(act=nn.ReLU, bias=False)).under(DECONVNET), ap.Gradient()
    )
    assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-2
