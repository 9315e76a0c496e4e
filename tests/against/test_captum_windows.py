"""Sliding windows against captum's Occlusion, also where the stride does not divide the way.

Captum occludes elements and adds the drops up in float32: `in_double` lifts that. A pixel here is
all its channels: captum's window spans them.
"""

from __future__ import annotations

import pytest

import apportion as ap
from tests.against.test_captum import CLASS, in_double, needs_captum, peer, zeros  # noqa: F401
from tests.small import close, cnn, normal

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    ("window", "stride"),
    [((3, 3), (1, 1)), ((3, 2), (2, 1)), ((3, 3), (3, 3)), ((5, 4), (2, 3)), ((8, 8), (1, 1))],
)
def test_occlusion_of_pixels(window, stride) -> None:
    model, x = cnn(), normal(2, 2, 8, 8, seed=3)
    with in_double():
        theirs = peer.Occlusion(model).attribute(
            x, (2, *window), strides=(2, *stride), target=CLASS
        )
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.pixels(x), zeros())
    ours = ap.attribute(game, ap.Occlusion(window=window, stride=stride))
    close(ours.scores, theirs[:, 0].flatten(1))
    close(ours.scores, theirs[:, 1].flatten(1))
