"""Guided backpropagation and deconvolution equal captum's, an independent implementation with
hooks.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward import DECONVNET, GUIDED, Rules
from tests.conftest import missing
from tests.small import close, cnn, mlp, normal

pytestmark = pytest.mark.peer
STEP = ap.Blend(ap.removals.step(1.0))


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("rules", [GUIDED, DECONVNET])
def test_equals_captum(rules: Rules, images, target) -> None:
    try:
        from captum.attr import Deconvolution, GuidedBackprop
    except ImportError as failure:
        missing(f"captum is not importable ({failure})")
    model = cnn() if images else mlp(act=nn.ReLU)
    x = normal(1, 2, 8, 8, seed=4) if images else normal(1, 6, seed=1)
    players = ap.players.pixels(x) if images else ap.players.columns(x)
    game = ap.ModelGame(model, x, ap.values.Logit(target), players, STEP)
    scores = ap.attribute(game.under(rules), ap.Gradient()).scores
    method = GuidedBackprop if rules is GUIDED else Deconvolution
    theirs = method(model).attribute(x.clone().requires_grad_(), target=target)
    pooled = theirs[0].sum(0) if images else theirs[0]
    close(scores, pooled.detach().flatten(), atol=1e-12)
    assert isinstance(theirs, torch.Tensor)
