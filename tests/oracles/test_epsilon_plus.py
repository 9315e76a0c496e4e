"""Epsilon for linear layers, z+ for convolutions: by hand, layer by layer."""

from __future__ import annotations

from apportion.backward import epsilon_plus
from tests.oracles.composites import PLUS, check


def test_layers_by_their_rules() -> None:
    check("epsilon-plus", epsilon_plus(), PLUS)
