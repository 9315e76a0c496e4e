"""LRP-alpha-beta equals its definition, contribution by contribution."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import alpha_beta
from tests.oracles import relevance
from tests.oracles.test_epsilon import conv_net, credit_of
from tests.small import close, mlp, normal

PAIRS = [(2.0, 1.0), (1.0, 0.0), (1.5, 0.5)]


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_a_network_of_layers_by_its_contributions(act, alpha, beta) -> None:
    model, x = mlp(act=act), normal(1, 6, seed=1)
    rule = partial(relevance.alpha_beta, alpha=alpha, beta=beta)
    expected = relevance.stack(model, x[0], 1, rule)
    close(credit_of(model, x, alpha_beta(alpha, beta)).scores, expected, atol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_convolutions_by_their_matrices(alpha, beta) -> None:
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4)
    rule = partial(relevance.alpha_beta, alpha=alpha, beta=beta)
    expected = relevance.stack(model, x[0], 1, rule)
    scores = credit_of(model, x, alpha_beta(alpha, beta)).scores
    close(scores, expected.sum(0).flatten(), atol=1e-12)


def test_what_is_lost_falls_with_the_stabiliser_and_units_of_one_sign_lose_more() -> None:
    """Every unit with contributions of both signs conserves; one without inhibition has nobody to
    charge beta to, so conservation is not claimed.
    """
    assert not alpha_beta().conserves
    model, x = mlp(act=nn.Tanh, bias=False), normal(1, 6, seed=1)
    lost = []
    for eps in (1e-4, 1e-6):
        credit = credit_of(model, x, alpha_beta(eps=eps))
        lost.append(abs(float(credit.scores.sum() - credit.full)))
    close(torch.tensor([lost[0] / lost[1]]), torch.tensor([100.0]), atol=5.0)
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.abs() * x.sign())
    credit = credit_of(model, x, alpha_beta(eps=1e-12))
    close(credit.scores.sum(), 2 * credit.full, atol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 2.0), (0.5, -0.5), (float("nan"), 1.0)])
def test_shares_that_do_not_add_up_are_refused(alpha, beta) -> None:
    with pytest.raises(ap.BadRequest, match=r"alpha - beta must be 1.*write alpha_beta\(2, 1\)"):
        alpha_beta(alpha, beta)
    with pytest.raises(ap.BadRequest, match="must not be negative"):
        alpha_beta(eps=-1.0)
