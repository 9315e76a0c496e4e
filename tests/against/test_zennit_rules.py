"""Rules by the sign of contributions, and deconvolution, equal zennit's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.backward import DECONVNET, GUIDED, Rules, alpha_beta, gamma, z_plus
from tests.against.test_zennit import zennit  # noqa: F401 - a fixture
from tests.small import close, mlp, normal, seeded

pytestmark = pytest.mark.peer
ZEROS, STEP = ap.Blend(ap.removals.zeros()), ap.Blend(ap.removals.step(1.0))
TINY = 1e-13  # their stabiliser where ours needs none


def relevance_of(composite: Any, model: nn.Module, x: Tensor, target: int) -> Tensor:
    """Relevance of the input, summed over channels: seeded with the logit itself."""
    leaf = x.clone().requires_grad_()
    with composite.context(model) as hooked:
        out = hooked(leaf)
        seed = torch.zeros_like(out)
        seed[0, target] = out[0, target].detach()
        (back,) = torch.autograd.grad(out, leaf, seed)
    return back[0].sum(0).flatten() if x.ndim == 4 else back[0]


def credit_under(rules: Rules, model: nn.Module, x: Tensor, target: int, removal=ZEROS) -> Tensor:
    players = ap.players.pixels(x) if x.ndim == 4 else ap.players.columns(x)
    game = ap.ModelGame(model, x, ap.values.Logit(target), players, removal)
    return ap.attribute(game.under(rules), ap.Gradient()).scores


def conv_net() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, stride=2), nn.Tanh(), nn.ConvTranspose2d(5, 4, 2), nn.ReLU(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3),
        )
    )  # fmt: skip


MODELS = {
    "convolutions": (conv_net, normal(1, 2, 8, 8, seed=4)),
    "rectified": (lambda: mlp(act=nn.ReLU), normal(1, 6, seed=1)),
    "both signs": (lambda: mlp(act=nn.Tanh), normal(1, 6, seed=1)),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize(
    "rule", ["gamma 0.25", "gamma 100", "z+", "alpha 2 beta 1", "alpha 1.5 beta 0.5"]
)
def test_one_rule_everywhere(zennit, kind, target, rule) -> None:  # noqa: F811
    rules = zennit.rules
    mine, hook = {
        "gamma 0.25": (gamma(0.25), rules.Gamma(0.25, stabilizer=TINY)),
        "gamma 100": (gamma(100), rules.Gamma(100, stabilizer=TINY)),
        "z+": (z_plus(), rules.ZPlus()),
        "alpha 2 beta 1": (alpha_beta(), rules.AlphaBeta(2, 1)),
        "alpha 1.5 beta 0.5": (alpha_beta(1.5, 0.5, 1e-3), rules.AlphaBeta(1.5, 0.5, 1e-3)),
    }[rule]
    composite = zennit.composites.LayerMapComposite(
        [(zennit.types.Linear, hook), (zennit.types.Activation, rules.Pass()),
         (zennit.types.AvgPool, rules.Norm(stabilizer=TINY))]
    )  # fmt: skip
    build, x = MODELS[kind]
    expected = relevance_of(composite, build(), x, target)
    scale = float(expected.abs().max())
    close(credit_under(mine, build(), x, target), expected, atol=1e-9 * scale)


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("mine", [DECONVNET, GUIDED])
def test_gradients_cut_by_sign(zennit, mine, target) -> None:  # noqa: F811
    """Theirs is seeded with 1: an ordinary gradient through bent activations."""
    hook = {
        DECONVNET: zennit.rules.ReLUDeconvNet, GUIDED: zennit.rules.ReLUGuidedBackprop
    }[mine]()  # fmt: skip
    composite = zennit.composites.LayerMapComposite([(nn.ReLU, hook)])
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    leaf = x.clone().requires_grad_()
    with composite.context(model) as hooked:
        (expected,) = torch.autograd.grad(hooked(leaf)[0, target], leaf)
    close(credit_under(mine, model, x, target, STEP), expected[0], atol=1e-12)
