"""Exact values of coalitional games against shapiq's exact computer."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from tests.conftest import missing
from tests.oracles.slow import any_game
from tests.small import close

try:
    import shapiq as peer
except ImportError:
    peer = None

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def needs_shapiq() -> None:
    if peer is None:
        missing("shapiq is not installed")


@pytest.mark.parametrize("n", [3, 6, 9])
@pytest.mark.parametrize(
    ("index", "estimator"),
    [("SV", ap.ExactShapley()), ("BV", ap.Banzhaf(samples=2**9))],
    ids=["shapley", "banzhaf"],
)
def test_exact_values(index, estimator, n) -> None:
    game, _, _ = any_game(n, seed=n)
    exact = peer.ExactComputer(
        lambda rows: game.value(torch.as_tensor(rows, dtype=torch.bool)).numpy(), n
    )
    theirs = exact(index, order=1)
    ours = ap.attribute(game, estimator).scores
    close(ours, torch.tensor([theirs[(i,)] for i in range(n)], dtype=torch.float64))
