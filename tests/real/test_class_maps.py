"""Class activation maps of a photo made of two: each class is found on its own half."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.maps import activation_map, seen_through
from tests.real.test_answers import loaded, photo, zeros
from tests.small import close

pytestmark = pytest.mark.slow

CAT, COFFEE = 285, 967
# the activation behind the last convolution; the module runs twice, first behind the first one
LAST = {"layer": "_swish", "call": 1}


@pytest.fixture(scope="module")
def net() -> ap.Subject:
    return loaded("efficientnet-lite0")


@pytest.fixture(scope="module")
def both(net) -> Tensor:
    """The middle of the cat on the left, the middle of the cup on the right."""
    cat, cup = photo(net), photo(net, "coffee")
    return torch.cat([cat[..., 56:168], cup[..., 56:168]], -1)


def lean(scores: Tensor) -> float:
    """Credit of the left three of seven columns less that of the right three, over all its size."""
    grid = scores.reshape(7, 7)
    return float((grid[:, :3].sum() - grid[:, 4:].sum()) / grid.abs().sum())


def maps(net: ap.Subject, both: Tensor, target: int) -> dict[str, Tensor]:
    model, value = net.model, ap.values.Logit(target)
    cells = ap.players.cells(model, input=both, **LAST)
    on_cells = ap.ModelGame(model, both, value, cells, zeros())
    found = {"hires-cam": ap.attribute(on_cells, ap.Gradient()).scores}
    for rules in ("GRAD_CAM", "GRAD_CAM_PLUS_PLUS", "LAYER_CAM"):
        table = vars(ap.backward)[rules]
        found[rules] = ap.attribute(on_cells.under(table), ap.Gradient()).scores
    channels = ap.players.channels(model, input=both, **LAST)
    inside = ap.ModelGame(model, both, value, channels, zeros())
    pictured = ap.ModelGame(model, both, value, ap.players.patches(both, 8), zeros())
    for name, credit in {
        "ablation-cam": ap.attribute(inside, ap.LeaveOneOut()),
        "score-cam": ap.attribute(pictured, seen_through(inside)),
    }.items():
        found[name] = activation_map(credit, inside, cells).scores
    return found


def test_every_map_finds_the_cat_and_the_cup_on_their_own_sides(net, both) -> None:
    cat, cup = maps(net, both, CAT), maps(net, both, COFFEE)
    shares = {name: (lean(cat[name]), lean(cup[name])) for name in cat}
    for name, (of_cat, of_cup) in shares.items():
        assert of_cat > 0 > of_cup, (name, shares)
    close(cat["hires-cam"], cat["GRAD_CAM"], rtol=1e-3, atol=1e-4)  # mean pooling follows
