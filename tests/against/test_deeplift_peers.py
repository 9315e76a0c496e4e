"""DeepLIFT equals captum's and, over a background, captum's DeepLiftShap and shap's
DeepExplainer.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import DEEPLIFT
from tests.conftest import missing
from tests.small import close, mlp, normal, seeded

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]


def conv_net(pool: type = nn.AvgPool2d) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(4, 5, 3, padding=1),
            nn.ELU(), nn.Flatten(), nn.Linear(80, 6), nn.Tanh(), nn.Linear(6, 3),
        )
    )  # fmt: skip


def rows(images: bool, count: int, seed: int) -> torch.Tensor:
    return normal(count, 2, 8, 8, seed=seed) if images else normal(count, 6, seed=seed)


def model_of(images: bool, act: type = nn.ReLU) -> nn.Module:
    return conv_net() if images else mlp(act=act)


def scores(model: nn.Module, x: torch.Tensor, background: torch.Tensor, target: int):
    players = ap.players.pixels(x) if x.ndim == 4 else ap.players.columns(x)
    removal = ap.Blend(ap.removals.rows(background))
    game = ap.ModelGame(model, x, ap.values.Logit(target), players, removal)
    return ap.attribute(ap.averaged(game.under(DEEPLIFT)), ap.Gradient()).scores


def pooled(theirs: torch.Tensor) -> torch.Tensor:
    one = theirs.detach()[0]
    return one.sum(0).flatten() if one.ndim == 3 else one


@pytest.mark.parametrize("target", [0, 2])
@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("count", [1, 5])
def test_captum(images, target, count) -> None:
    """One reference, and the mean over several."""
    try:
        from captum.attr import DeepLift, DeepLiftShap
    except ImportError as failure:
        missing(f"captum is not importable ({failure})")
    model, x, background = model_of(images), rows(images, 1, 1), rows(images, count, 5)
    method = DeepLift if count == 1 else DeepLiftShap
    theirs = method(model).attribute(x.clone(), baselines=background, target=target)
    close(scores(model, x, background, target), pooled(theirs), atol=1e-10)


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.Softplus, nn.LeakyReLU])
def test_captum_other_activations(act) -> None:
    try:
        from captum.attr import DeepLift
    except ImportError as failure:
        missing(f"captum is not importable ({failure})")
    model, x, other = mlp(act=act), rows(False, 1, 1), rows(False, 1, 5)
    theirs = DeepLift(model).attribute(x.clone(), baselines=other, target=1)
    close(scores(model, x, other, 1), pooled(theirs), atol=1e-10)


def test_captum_loses_the_sum_at_max_pools_between_activations() -> None:
    """Its own convergence delta says so, which is why there is none above; ours sums."""
    try:
        from captum.attr import DeepLift
    except ImportError as failure:
        missing(f"captum is not importable ({failure})")
    model, x, other = conv_net(nn.MaxPool2d), rows(True, 1, 1), rows(True, 1, 5)
    method = DeepLift(model)
    _, delta = method.attribute(x.clone(), other, target=0, return_convergence_delta=True)
    assert abs(float(delta)) > 1e-3
    with torch.no_grad():
        change = (model(x) - model(other))[0, 0]
    close(scores(model, x, other, 0).sum(), change, atol=1e-12)


@pytest.mark.parametrize("model", ["average pool", "max pool", "columns"])
def test_shap(model) -> None:
    """Max pools included. Theirs takes the derivative where inputs are closer than 1e-6."""
    images = model != "columns"
    try:
        import shap
    except ImportError as failure:
        missing(f"shap is not importable ({failure})")
    pool = nn.MaxPool2d if model == "max pool" else nn.AvgPool2d
    model = conv_net(pool) if images else mlp(act=nn.ReLU)
    x, background = rows(images, 1, 1), rows(images, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = shap.DeepExplainer(model, background)
        theirs = torch.as_tensor(explainer.shap_values(x, check_additivity=False))[..., 2]
    close(scores(model, x, background, 2), pooled(theirs), atol=1e-10)
