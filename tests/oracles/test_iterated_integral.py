"""Integrals over the input's path of integrals at a layer: one game, whose instances are the points
of the input's path, and players at the layer.

The iterated map of a layer is the mean over instances of credit at the layer: with `PathIntegral`
the inner integral from a removal, with `Gradient` its last point.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.estimators._quadrature import Quadrature, nodes_and_weights
from tests.oracles.maps import CLASS, LAYERS, ZEROS, cells, halves, picture
from tests.small import close, cnn, seeded


def along(x: Tensor, levels: Tensor) -> Tensor:
    """Points of the straight path from zero, one instance each."""
    return levels[:, None, None, None] * x


def game_at(layer: str, xs: Tensor, model: nn.Module | None = None) -> ap.ModelGame:
    model = cnn() if model is None else model
    places = halves(model, layer, xs[:1])[0].shape[2:]
    return ap.ModelGame(model, xs, ap.values.Logit(CLASS), cells(layer, *places), ZEROS)


@pytest.mark.parametrize("layer", LAYERS)
def test_both_integrals_written_as_two_loops(layer) -> None:
    """int int  sum_k dy / du_k (beta a(alpha)) a_k(alpha)  d alpha d beta."""
    x, model, cut = picture(), cnn(), int(layer) + 1
    outer = nodes_and_weights(Quadrature.MIDPOINT, 4)
    inner = nodes_and_weights(Quadrature.MIDPOINT, 5)
    total = torch.zeros(1, dtype=torch.float64)
    for a, w in zip(*outer, strict=True):
        act = model[:cut](a * x).detach()
        for b, v in zip(*inner, strict=True):
            leaf = (b * act).requires_grad_()
            (slope,) = torch.autograd.grad(model[cut:](leaf)[0, CLASS], leaf)
            total = total + w * v * (slope * act).sum(1).flatten()
    levels, weights = outer
    asked = ap.PathIntegral(steps=5, nodes=Quadrature.MIDPOINT, tolerance=None)
    credit = ap.attribute(game_at(layer, along(x, levels)), asked)
    close(torch.einsum("i,ip->p", weights, credit.scores), total, atol=1e-12)


def test_it_adds_up_to_the_mean_rise_of_the_value_over_the_layer() -> None:
    """At every point of the input's path the layer's integral is complete, so is their mean."""
    x = picture()
    levels, weights = nodes_and_weights(Quadrature.GAUSS_LEGENDRE, 6)
    game = game_at("2", along(x, levels))
    credit = ap.attribute(game, ap.PathIntegral(steps=400, nodes=Quadrature.MIDPOINT))
    rise = (credit.full - credit.none).double() @ weights
    close(weights @ credit.scores.sum(-1), rise, atol=2e-3)


def test_at_the_end_of_the_input_s_path_behind_pooling_it_is_gradient_x_activation() -> None:
    """A head that is linear in the layer: any integral of its gradient is the gradient."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    )
    x = picture()
    credit = ap.attribute(game_at("1", along(x, torch.ones(1).double()), model), ap.PathIntegral())
    activation, slope = halves(model, "1", x)
    close(credit.scores, (slope * activation).sum(1).flatten(), atol=1e-12)


def test_with_the_gradient_it_is_the_released_code_s_mean_of_gradient_x_activation() -> None:
    """mean over points of the input's path of sum_k dy / dA_k A_k at the layer itself."""
    x = picture()
    levels = torch.linspace(0, 1, 11, dtype=torch.float64)
    credit = ap.attribute(game_at("2", along(x, levels)), ap.Gradient())
    each = [halves(cnn(), "2", a * x) for a in levels]
    expected = torch.stack([(s * a).sum(1).flatten() for a, s in each]).mean(0)
    close(credit.scores.mean(0), expected, atol=1e-12)
