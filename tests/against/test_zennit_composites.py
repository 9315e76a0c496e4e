"""Composites equal zennit's on a net in the style of VGG: convolutions, pools, dense layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from apportion.backward import (
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
    gamma,
    layers,
    w_square,
    z_box,
)
from tests.against.test_zennit import zennit  # noqa: F401 - a fixture
from tests.against.test_zennit_rules import credit_under, relevance_of
from tests.small import close, normal, seeded

pytestmark = pytest.mark.peer


def vgg() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout(),
            nn.Linear(8, 5),
        )
    )  # fmt: skip


X = normal(1, 3, 16, 16, seed=4).clamp(-3, 3)
LOW, HIGH = torch.full_like(X, -3), torch.full_like(X, 3)


@pytest.mark.parametrize("target", [0, 3])
@pytest.mark.parametrize(
    "name", ["gamma box", "plus", "plus flat", "alpha2 beta1", "alpha2 beta1 flat"]
)
def test_composites(zennit, name, target) -> None:  # noqa: F811
    made = zennit.composites
    mine, theirs = {
        "gamma box": (epsilon_gamma_box(-3, 3), made.EpsilonGammaBox(LOW, HIGH)),
        "plus": (epsilon_plus(), made.EpsilonPlus()),
        "plus flat": (epsilon_plus_flat(), made.EpsilonPlusFlat()),
        "alpha2 beta1": (epsilon_alpha2_beta1(), made.EpsilonAlpha2Beta1()),
        "alpha2 beta1 flat": (epsilon_alpha2_beta1_flat(), made.EpsilonAlpha2Beta1Flat()),
    }[name]
    expected = relevance_of(theirs, vgg(), X, target)
    scale = float(expected.abs().max())
    # their gamma and average pooling are stabilised by 1e-6, ours need no stabiliser
    close(credit_under(mine, vgg(), X, target), expected, atol=1e-4 * scale)


@pytest.mark.parametrize("first", ["box", "squared"])
def test_gamma_by_depth(zennit, first) -> None:  # noqa: F811
    """Rules by order of the layers equal rules by their names, with another first layer."""
    rules, tiny = zennit.rules, 1e-13
    one, top = {
        "box": (rules.ZBox(LOW, HIGH, stabilizer=tiny), z_box(-3, 3, tiny)),
        # unlike ours theirs gives the bias a share unless it is left out
        "squared": (rules.WSquare(tiny, zero_params=["bias"]), w_square(tiny)),
    }[first]
    composite = zennit.composites.NameLayerMapComposite(
        [(("0",), one), (("2",), rules.Gamma(0.5, tiny)), (("5",), rules.Gamma(0.1, tiny))],
        [(zennit.types.Linear, rules.Gamma(0.0, tiny)), (zennit.types.Activation, rules.Pass()),
         (zennit.types.AvgPool, rules.Norm(tiny))],
    )  # fmt: skip
    mine = gamma(0.0) | gamma(0.5).within(layers(1, 2)) | gamma(0.1).within("5") | top
    expected = relevance_of(composite, vgg(), X, 2)
    close(credit_under(mine, vgg(), X, 2), expected, atol=1e-9 * float(expected.abs().max()))
