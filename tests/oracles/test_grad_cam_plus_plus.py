"""Grad-CAM++ from derivatives of every order, taken of exp(v) where the paper takes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.backward import GRAD_CAM, GRAD_CAM_PLUS_PLUS, grad_cam_plus_plus
from tests.oracles.maps import ZEROS, cells, halves, maps_game, picture
from tests.small import close, cnn, normal, seeded


def by_hand(activation: Tensor, slope: Tensor) -> Tensor:
    """Equations 10 and 19 of the paper in loops: a = g^2 / (2 g^2 + sum A g^3), where g is not 0,
    weight = sum a relu(g).
    """
    channels, height, width = activation.shape
    total = torch.zeros(height, width, dtype=activation.dtype)
    for k in range(channels):
        weight, mass = 0.0, float(activation[k].sum())
        for g in slope[k].flatten().tolist():
            if g != 0:
                weight += g**2 / (2 * g**2 + mass * g**3) * max(g, 0.0)
        total += weight * activation[k]
    return total.flatten()


@pytest.mark.parametrize("layer", ["2", "5"])
def test_is_the_formula_of_the_paper(layer) -> None:
    x = picture()
    credit = ap.attribute(maps_game(layer, x).under(GRAD_CAM_PLUS_PLUS), ap.Gradient())
    activation, slope = halves(cnn(), layer, x)
    close(credit.scores, by_hand(activation[0], slope[0]), atol=1e-12)
    # nothing is negative here: the weights and the activations are not
    assert float(credit.scores.min()) >= 0 and "chattopadhay2018" in credit.provenance.cites


def test_weights_are_the_paper_s_derivatives_of_the_exponential() -> None:
    """With Y = exp(S) and a head that is linear in the map, alpha = Y'' / (2 Y'' + sum A Y''') by
    repeated differentiation; the weight is sum alpha relu(Y') / Y, as exp(S) is shared by all.
    """
    w, activation = normal(3, 4, seed=1), normal(3, 4, seed=2).abs()
    leaf = activation.clone().requires_grad_()
    y = torch.exp((w * leaf).sum())

    def own(values: Tensor) -> Tensor:
        """d values[i] / d leaf[i], element by element."""
        flat = values.flatten()
        rows = [
            torch.autograd.grad(flat[i], leaf, create_graph=True)[0].flatten()[i]
            for i in range(flat.numel())
        ]
        return torch.stack(rows).reshape(values.shape)

    (first,) = torch.autograd.grad(y, leaf, create_graph=True)
    second = own(first)
    third = own(second)
    alpha = second / (2 * second + leaf.sum(1, keepdim=True) * third)
    weight = (alpha * first.clamp(min=0)).sum(1) / y
    bent = GRAD_CAM_PLUS_PLUS.at_site(activation[None], w[None])[0]
    close(bent, weight.detach()[:, None].expand(3, 4), atol=1e-12)


def test_a_gradient_that_vanishes_everywhere_gives_nothing() -> None:
    close(
        GRAD_CAM_PLUS_PLUS.at_site(torch.ones(1, 2, 3), torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3)
    )


def test_equal_gradients_are_grad_cam_up_to_one_factor_per_channel() -> None:
    """Behind mean pooling g is the same everywhere: Z relu(g) / (2 + g sum A) in place of g."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    )
    x = picture()
    game = maps_game("1", x, model)
    activation, slope = halves(model, "1", x)
    g, mass = slope[0, :, 0, 0], activation[0].sum((1, 2))
    factor = 36 * g.clamp(min=0) / (2 + g * mass)
    plus = ap.attribute(game.under(GRAD_CAM_PLUS_PLUS), ap.Gradient()).scores
    close(plus, torch.einsum("k,kij->ij", factor, activation[0]).flatten(), atol=1e-12)
    plain = ap.attribute(game.under(GRAD_CAM), ap.Gradient()).scores
    close(plain, torch.einsum("k,kij->ij", g, activation[0]).flatten(), atol=1e-12)


def test_features_on_the_last_axis() -> None:
    x, g = normal(1, 6, 3, seed=1).abs(), normal(1, 6, 3, seed=2)
    turned = GRAD_CAM_PLUS_PLUS.at_site(x.transpose(1, 2), g.transpose(1, 2)).transpose(1, 2)
    close(grad_cam_plus_plus(axis=-1).at_site(x, g), turned, atol=0)


def test_a_denominator_that_vanishes_is_told() -> None:
    """g (sum A) = -2: possible only where activations are negative."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.map(x).sum((1, 2))[:, None]

    x = torch.full((1, 1, 2), -1.0, dtype=torch.float64)
    game = ap.ModelGame(Line(), x, ap.values.Logit(0), cells("map", 2), ZEROS)
    with pytest.raises(ap.BadRequest, match="holds NaN or infinite"):
        ap.attribute(game.under(GRAD_CAM_PLUS_PLUS), ap.Gradient())
    assert ap.attribute(game, ap.Gradient()).scores.tolist() == [-1.0, -1.0]
