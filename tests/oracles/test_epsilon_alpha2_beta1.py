"""Epsilon for linear layers, alpha 2 and beta 1 for convolutions: by hand, layer by layer."""

from __future__ import annotations

from apportion.backward import epsilon_alpha2_beta1
from tests.oracles.composites import TWO_ONE, check


def test_layers_by_their_rules() -> None:
    check("epsilon-alpha2-beta1", epsilon_alpha2_beta1(), TWO_ONE)
