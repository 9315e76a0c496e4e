"""LRP-gamma equals its definition, contribution by contribution, and conserves without biases."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import CP_LRP, Rules, gamma
from tests.contracts.ruled import columns_game, slopes
from tests.oracles import relevance
from tests.oracles.test_epsilon import conv_net, credit_of
from tests.small import close, mlp, normal, seeded


@pytest.mark.parametrize("g", [0.0, 0.25, 10.0])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
def test_a_network_of_layers_by_its_contributions(act, g) -> None:
    """Tanh has outputs of both signs, and the input too."""
    model, x = mlp(act=act), normal(1, 6, seed=1)
    expected = relevance.stack(model, x[0], 1, partial(relevance.gamma, g=g))
    close(credit_of(model, x, gamma(g)).scores, expected, atol=1e-12)


@pytest.mark.parametrize("g", [0.25, 10.0])
def test_convolutions_by_their_matrices(g) -> None:
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4)
    expected = relevance.stack(model, x[0], 1, partial(relevance.gamma, g=g))
    close(credit_of(model, x, gamma(g)).scores, expected.sum(0).flatten(), atol=1e-12)


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_conservation_without_biases_and_not_with_them(act) -> None:
    assert gamma().conserves
    x = normal(1, 6, seed=1)
    for g in (0.0, 0.25, 100.0):
        credit = credit_of(mlp(act=act, bias=False), x, gamma(g))
        close(credit.scores.sum(), credit.full)
        credit = credit_of(mlp(act=act), x, gamma(g))
        assert abs(float(credit.scores.sum() - credit.full)) > 1e-3


def test_gamma_zero_is_the_epsilon_rule_without_a_stabiliser() -> None:
    model, x = mlp(act=nn.Tanh), normal(1, 6, seed=1)
    close(
        credit_of(model, x, gamma(0)).scores,
        credit_of(model, x, ap.backward.epsilon(0)).scores,
        atol=1e-12,
    )


def test_large_gamma_is_z_plus_where_inputs_and_sums_are_positive() -> None:
    """With an error proportional to 1 / gamma."""
    model, x = mlp(act=nn.ReLU, bias=False), normal(1, 6, seed=1).abs()
    with torch.no_grad():
        model[4].weight.abs_()  # what has a negative sum is asked about negative contributions
    target = credit_of(model, x, ap.backward.z_plus(0)).scores
    off = [float((credit_of(model, x, gamma(g)).scores - target).abs().max()) for g in (1e4, 1e6)]
    close(torch.tensor([off[0] / off[1]]), torch.tensor([100.0]), atol=1.0)


def spelled(kind: str) -> nn.Module:
    """One layer of the network in the spelling of GPT-2, or one vector at a time."""
    model = mlp(act=nn.Tanh)
    middle = model[2]
    w, b = middle.weight.detach(), middle.bias.detach()
    bodies = {
        "addmm": lambda h: torch.addmm(b, h, w.T),
        "scaled": lambda h: torch.addmm(b / 2, h, w.T / 3, beta=2, alpha=3),
        "left": lambda h: torch.addmm(b[:, None], w, h.T).T,
        "addmv": lambda h: torch.stack([torch.addmv(b, w, row) for row in h]),
        "keywords": lambda h: F.linear(input=h, bias=b, weight=w),
        "conv": lambda h: F.conv1d(h[:, :, None], w[:, :, None], b).squeeze(-1),
    }

    class Other(nn.Module):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return bodies[kind](h)

    model[2] = Other()
    return model


@pytest.mark.parametrize("kind", ["addmm", "scaled", "left", "addmv", "keywords", "conv"])
@pytest.mark.parametrize("table", [gamma(), ap.backward.alpha_beta(), ap.backward.z_plus()])
def test_one_layer_in_many_spellings(kind, table) -> None:
    close(
        slopes(columns_game(spelled(kind)), table),
        slopes(columns_game(mlp(act=nn.Tanh)), table),
        atol=1e-12,
    )


def test_transposed_convolutions_conserve() -> None:
    model = seeded(
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 3)), nn.ConvTranspose1d(2, 4, 3, 2, bias=False), nn.Tanh(),
            nn.Flatten(), nn.Linear(28, 3, bias=False),
        )
    )  # fmt: skip
    credit = credit_of(model, normal(1, 6, seed=1), gamma(0.5))
    close(credit.scores.sum(), credit.full)


def test_dead_units_pass_nothing_and_leave_no_holes() -> None:
    model, x = mlp(act=nn.ReLU, bias=False), normal(1, 6, seed=1)
    with torch.no_grad():
        model[0].weight[3] = 0
        model[2].weight[2] = 0
    for table in (gamma(), ap.backward.z_plus(0), ap.backward.alpha_beta(eps=0)):
        assert credit_of(model, x, table).scores.isfinite().all()
    credit = credit_of(model, x, gamma())
    close(credit.scores.sum(), credit.full)


def test_tables_join_layer_rules_and_attention_rules() -> None:
    """The recipe for vision transformers: attention as in CP-LRP, layers by gamma."""
    both = CP_LRP | gamma(0.05)
    assert both.functions[F.softmax] is CP_LRP.functions[F.softmax]
    assert both.functions[F.linear] is not CP_LRP.functions[F.linear]


def test_weights_that_are_computed_from_the_input_are_refused() -> None:
    class Computed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x[0], x[0, :, None] * torch.ones(6, 6).to(x))[None]

    game = columns_game(nn.Sequential(Computed(), mlp()))
    for table in (gamma(), ap.backward.z_plus()):
        with pytest.raises(ap.BadRequest, match="weights are computed from the input"):
            game.under(table).grad(torch.ones(1, 6, dtype=torch.float64))
    game.under(gamma() | Rules("both", {F.linear: CP_LRP.functions[F.linear]})).grad(
        torch.ones(1, 6, dtype=torch.float64)
    )


@pytest.mark.parametrize("g", [-0.1, float("nan")])
def test_a_negative_weight_is_refused(g) -> None:
    with pytest.raises(ap.BadRequest, match="must not be negative"):
        gamma(g)
