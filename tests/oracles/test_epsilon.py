"""LRP-epsilon equals its definition, relevance carried layer by layer, and loses what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import epsilon
from tests.oracles import relevance
from tests.small import close, mlp, normal, seeded

ZEROS = ap.Blend(ap.removals.zeros())


def conv_net(*, bias: bool = True) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1, bias=bias), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(4 * 9, 5, bias=bias), nn.ELU(), nn.Linear(5, 3, bias=bias),
        )
    )  # fmt: skip


def credit_of(model: nn.Module, x: torch.Tensor, rules: ap.backward.Rules) -> ap.Attribution:
    builder = ap.players.pixels if x.ndim == 4 else ap.players.columns
    players = builder(x)
    game = ap.ModelGame(model, x, ap.values.Logit(1), players, ZEROS)
    return ap.attribute(game.under(rules), ap.Gradient())


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU, nn.Hardswish])
def test_a_network_of_layers_by_sums_over_its_weights(act, eps) -> None:
    model, x = mlp(act=act), normal(1, 6, seed=1)
    expected = relevance.epsilon(model, x[0], 1, eps)
    close(credit_of(model, x, epsilon(eps)).scores, expected, atol=1e-12)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
def test_convolutions_by_their_matrices(eps) -> None:
    """Of a pixel: the relevance of its channels together."""
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4)
    expected = relevance.epsilon(model, x[0], 1, eps)
    scores = credit_of(model, x, epsilon(eps)).scores
    close(scores, expected.sum(0).flatten(), atol=1e-12)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
def test_hidden_units_carry_the_relevance_of_their_layer(eps) -> None:
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    hidden = model[:2](x).detach()
    players = ap.players.neurons(model, "1", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(1), players, ZEROS).under(epsilon(eps))
    expected = relevance.epsilon(model[2:], hidden[0], 1, eps)
    close(ap.attribute(game, ap.Gradient()).scores, expected, atol=1e-12)


def test_what_is_lost_falls_with_the_stabiliser() -> None:
    """Without biases credit sums to the logit as eps -> 0, with an error proportional to eps; so
    conservation is not claimed.
    """
    model, x = mlp(act=nn.ReLU, bias=False), normal(1, 6, seed=1)
    lost = []
    for eps in (1e-2, 1e-6, 1e-8):
        assert not epsilon(eps).conserves
        credit = credit_of(model, x, epsilon(eps))
        lost.append(abs(float(credit.scores.sum() - credit.full)))
    assert lost[0] > 1e-4
    close(torch.tensor([lost[1] / lost[2]]), torch.tensor([100.0]), atol=0.1)


def test_biases_keep_their_share() -> None:
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    credit = credit_of(model, x, epsilon(1e-9))
    assert abs(float(credit.scores.sum() - credit.full)) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_stabiliser_it_is_gradient_times_input_also_where_units_are_dead(dtype) -> None:
    """Of a ReLU network. Dead units give 0 / 0, also where a stabiliser underflows."""
    model = mlp(act=nn.ReLU, bias=False).to(dtype)
    with torch.no_grad():
        model[0].weight.copy_(-model[0].weight.abs())
        model[0].weight[0] *= -1
    x = normal(1, 6, seed=1).abs().to(dtype)
    plain = credit_of(model, x, ap.backward.Rules("nothing", {})).scores
    close(credit_of(model, x, epsilon(0)).scores, plain, atol=1e-6)
    model[2].weight.data[0] = 0  # the sums into this unit are exactly 0
    plain = credit_of(model, x, ap.backward.Rules("nothing", {})).scores
    for eps in (0, 1e-60, 1e-9):
        assert credit_of(model, x, epsilon(eps)).scores.isfinite().all()
    close(credit_of(model, x, epsilon(0)).scores, plain, atol=1e-6)


def test_a_negative_stabiliser_is_refused() -> None:
    for eps in (-1e-6, float("nan")):
        with pytest.raises(ap.BadRequest, match="must not be negative"):
            epsilon(eps)
