"""Epsilon for linear layers, alpha 2 and beta 1 for convolutions, a flat first layer: by hand."""

from __future__ import annotations

from apportion.backward import epsilon_alpha2_beta1_flat
from tests.oracles.composites import TWO_ONE, check, evenly


def test_layers_by_their_rules() -> None:
    check("epsilon-alpha2-beta1-flat", epsilon_alpha2_beta1_flat(), TWO_ONE, evenly)
