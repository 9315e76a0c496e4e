"""Epsilon for linear layers, z+ for convolutions, a flat first layer: by hand."""

from __future__ import annotations

from apportion.backward import epsilon_plus_flat
from tests.oracles.composites import PLUS, check, evenly


def test_layers_by_their_rules() -> None:
    check("epsilon-plus-flat", epsilon_plus_flat(), PLUS, evenly)
