"""LRP-epsilon equals zennit's, an independent implementation with hooks."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.backward import epsilon
from tests.conftest import missing
from tests.small import close, mlp, normal, seeded

pytestmark = pytest.mark.peer
ZEROS = ap.Blend(ap.removals.zeros())


@pytest.fixture
def zennit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Zennit, which imports torchvision only to know two blocks of its ResNets by class."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        resnet = types.ModuleType("torchvision.models.resnet")
        resnet.Bottleneck = resnet.BasicBlock = type("Block", (nn.Module,), {})
        for name in ("torchvision", "torchvision.models"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, "torchvision.models.resnet", resnet)
    try:
        import zennit.composites
        import zennit.rules
        import zennit.types
    except ImportError as failure:
        missing(f"zennit is not importable ({failure})")
    return zennit


def theirs(zennit: Any, model: nn.Module, x: Tensor, target: int, eps: float) -> Tensor:
    """Relevance of the input, (*input): hooks on the layers, seeded with the logit itself."""
    layers = zennit.rules.Epsilon(epsilon=eps)
    composite = zennit.composites.LayerMapComposite(
        [(zennit.types.Convolution, layers), (zennit.types.Linear, layers),
         (zennit.types.Activation, zennit.rules.Pass())]
    )  # fmt: skip
    leaf = x.clone().requires_grad_()
    with composite.context(model) as hooked:
        out = hooked(leaf)
        seed = torch.zeros_like(out)
        seed[0, target] = out[0, target].detach()
        return torch.autograd.grad(out, leaf, seed)[0][0]


def ours(model: nn.Module, x: Tensor, target: int, eps: float) -> Tensor:
    players = ap.players.pixels(x) if x.ndim == 4 else ap.players.columns(x)
    game = ap.ModelGame(model, x, ap.values.Logit(target), players, ZEROS)
    return ap.attribute(game.under(epsilon(eps)), ap.Gradient()).scores


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
def test_a_stack_of_layers(zennit, act, eps) -> None:
    model, x = mlp(act=act), normal(1, 6, seed=1)
    for target in (0, 1, 2):
        close(ours(model, x, target, eps), theirs(zennit, model, x, target, eps), atol=1e-12)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(zennit, bias, eps) -> None:
    """Of a pixel: their relevance summed over channels."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, stride=2, bias=bias), nn.SiLU(), nn.Flatten(),
            nn.Linear(5, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias),
        )
    )  # fmt: skip
    x = normal(1, 2, 8, 8, seed=4)
    expected = theirs(zennit, model, x, 1, eps).sum(0).flatten()
    close(ours(model, x, 1, eps), expected, atol=1e-12)
