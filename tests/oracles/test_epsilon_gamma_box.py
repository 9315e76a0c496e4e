"""Epsilon for linear layers, gamma for convolutions, a box for the first layer: by hand."""

from __future__ import annotations

from apportion.backward import epsilon_gamma_box
from tests.oracles.composites import GAMMA, box, check


def test_layers_by_their_rules() -> None:
    check("epsilon-gamma-box", epsilon_gamma_box(), GAMMA, box)
