"""LayerCAM: every position's own gradient, where it is positive."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.backward import LAYER_CAM
from tests.oracles.maps import LAYERS, halves, maps_game, picture
from tests.small import close, cnn


@pytest.mark.parametrize("layer", LAYERS)
def test_is_the_formula_of_the_paper(layer) -> None:
    """M(i, j) = sum_k relu(dy / dA_k(i, j)) A_k(i, j), before the last ReLU."""
    x = picture()
    activation, slope = halves(cnn(), layer, x)
    expected = torch.zeros(activation.shape[2:], dtype=torch.float64)
    for k in range(activation.shape[1]):
        for i in range(activation.shape[2]):
            for j in range(activation.shape[3]):
                expected[i, j] += max(float(slope[0, k, i, j]), 0.0) * activation[0, k, i, j]
    credit = ap.attribute(maps_game(layer, x).under(LAYER_CAM), ap.Gradient())
    close(credit.scores, expected.flatten(), atol=1e-12)


def test_against_an_output_and_for_it_add_up_to_the_gate_gradient() -> None:
    """relu(g) - relu(-g) = g: maps for y and for -y differ by HiResCAM."""
    x = picture()
    game = maps_game("2", x).explaining(ap.values.Contrast(1, 0))
    against = game.explaining(ap.values.Contrast(0, 1))
    up, down = (ap.attribute(g.under(LAYER_CAM), ap.Gradient()).scores for g in (game, against))
    close(up - down, ap.attribute(game, ap.Gradient()).scores, atol=1e-12)
