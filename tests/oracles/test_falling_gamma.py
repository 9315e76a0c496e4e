"""Gamma that falls with depth, by hand, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import TABLE, falling_gamma
from tests.oracles import relevance
from tests.oracles.composites import box
from tests.oracles.test_epsilon import credit_of
from tests.small import close, mlp, normal


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_gamma_falls_with_depth(act) -> None:
    model, x = mlp(act=act), normal(1, 6, seed=1)
    with torch.no_grad():
        hidden = [x[0]]
        for module in model:
            hidden.append(module(hidden[-1]))
    r = torch.zeros(3).double()
    r[1] = hidden[-1][1]
    for k, g in ((4, 0.0), (2, 0.1)):
        layer = model[k]
        r = relevance.gamma(hidden[k], layer.weight.detach(), layer.bias.detach(), r, g)
    expected = box(hidden[0], model[0].weight.detach(), model[0].bias, r)
    table = falling_gamma(((0, 0.5), (1, 0.1), (2, 0.0)))
    close(credit_of(model, x, table).scores, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_falls_of_vgg16_by_the_places_of_its_convolutions() -> None:
    """Layer numbers of the original: up to 10, up to 17, up to 24, above, where convolutions
    stand at 0, 2 | 5, 7 | 10, 12, 14 | 17, 19, 21 | 24, 26, 28.
    """
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    by_number = [0.5 if p <= 10 else 0.25 if p <= 17 else 0.1 if p <= 24 else 0.0 for p in places]
    falls = dict(ap.backward.layered.FALLS)
    g, ours = 0.0, []
    for k in range(len(places)):
        g = falls.get(k, g)
        ours.append(g)
    assert ours == by_number


@pytest.mark.parametrize("falls", [(), ((1, 0.5),), ((0, 0.5), (0, 0.1)), ((0, 1.0), (-1, 0.0))])
def test_falls_that_do_not_start_or_increase_are_refused(falls) -> None:
    with pytest.raises(ap.BadRequest, match="starting at layer 0"):
        falling_gamma(falls)


def test_conservation_is_not_claimed_and_fails_by_the_biases() -> None:
    rules = falling_gamma()
    assert TABLE["falling-gamma"].name == rules.name and not rules.conserves
    credit = credit_of(mlp(act=nn.ReLU), normal(1, 6, seed=1), rules)
    assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-3
