"""Class activation maps of captum.

LayerGradCam keeps its map's sign unless relu_attributions=True, and so do we. It averages the
gradient over every axis behind the channels, and sums over channels.
"""

from __future__ import annotations

import pytest

import apportion as ap
from apportion.backward import GRAD_CAM
from tests.conftest import missing
from tests.oracles.maps import CLASS, LAYERS, maps_game, picture
from tests.small import close, cnn

try:
    import captum.attr as peer
except ImportError:
    peer = None

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def needs_captum() -> None:
    if peer is None:
        missing("captum is not installed")


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_grad_cam(layer) -> None:
    model, x = cnn(), picture()
    ours = ap.attribute(maps_game(layer, x).under(GRAD_CAM), ap.Gradient())
    theirs = peer.LayerGradCam(model, model.get_submodule(layer)).attribute(x, target=CLASS)
    close(ours.scores, theirs.detach().flatten(), atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_times_activation_summed_over_channels_is_the_plain_map(layer) -> None:
    model, x = cnn(), picture()
    ours = ap.attribute(maps_game(layer, x), ap.Gradient())
    theirs = peer.LayerGradientXActivation(model, model.get_submodule(layer))
    close(ours.scores, theirs.attribute(x, target=CLASS).detach().sum(1).flatten(), atol=1e-12)
