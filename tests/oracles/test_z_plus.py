"""LRP-z+ equals its definition, and says where it conserves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from apportion.backward import alpha_beta, z_plus
from tests.oracles import relevance
from tests.oracles.test_epsilon import conv_net, credit_of
from tests.small import close, mlp, normal


def shared(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """R_i = sum_j (x_i w_ji)^+ R_j / (sum_k (x_k w_jk)^+ + b_j^+), entry by entry."""
    out = torch.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(w)):
            total = sum(max(float(w[j, k] * x[k]), 0) for k in range(len(x))) + max(float(b[j]), 0)
            out[i] += max(float(w[j, i] * x[i]), 0) / (total + 1e-6) * r[j]
    return out


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_a_network_of_layers_by_sums(act) -> None:
    model, x = mlp(act=act), normal(1, 6, seed=1)
    expected = relevance.stack(model, x[0], 1, shared)
    close(credit_of(model, x, z_plus()).scores, expected, atol=1e-12)


def test_convolutions_by_their_matrices() -> None:
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4)
    expected = relevance.stack(model, x[0], 1, shared)
    close(credit_of(model, x, z_plus()).scores, expected.sum(0).flatten(), atol=1e-12)


def test_it_is_alpha_1_beta_0() -> None:
    model, x = mlp(act=nn.Tanh), normal(1, 6, seed=1)
    close(credit_of(model, x, z_plus()).scores, credit_of(model, x, alpha_beta(1, 0)).scores)


def test_relevance_has_the_sign_of_the_value() -> None:
    """Only positive shares are handed down, so no pixel counts against the class."""
    for target in range(3):
        model, x = mlp(act=nn.ReLU), normal(1, 6, seed=target)
        credit = credit_of(model, x, z_plus())
        assert bool((credit.scores * credit.full.sign() >= 0).all())


def test_conservation_is_not_claimed_and_fails_where_nothing_activates() -> None:
    """A unit all of whose contributions are negative hands nothing down."""
    assert not z_plus().conserves
    model, x = mlp(act=nn.Tanh, bias=False), normal(1, 6, seed=1)
    credit = credit_of(model, x, z_plus(1e-12))
    close(credit.scores.sum(), credit.full)
    with torch.no_grad():
        model[0].weight[:4] = -model[0].weight[:4].abs() * x[0].sign()
    credit = credit_of(model, x, z_plus(1e-12))
    assert abs(float(credit.scores.sum() - credit.full)) > 1e-3
