"""Scores of sets from all coalitions, by shapiq.

Conventions of shapiq 1.4 that differ, and how equal settings are written:

- Its sets are tuples, and it also gives the empty one (the value with nobody, or a constant): ours
  have at least one player.
- Faithful Shapley is solved there as least squares with a weight of 10^6 on both ends, so the two
  agree to about 1e-9 where the others agree to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.games import toy
from tests.conftest import missing
from tests.small import close

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shapiq import ExactComputer
except ImportError:
    ExactComputer = None

pytestmark = pytest.mark.peer
INDICES: dict[str, Callable[..., object]] = {
    "SII": ap.ShapleyInteractions, "k-SII": ap.NShapley, "STII": ap.ShapleyTaylor,
    "FSII": ap.FaithfulShapley, "BII": ap.BanzhafInteractions, "FBII": ap.FaithfulBanzhaf,
    "JointSV": ap.JointShapley,
}  # fmt: skip
GAME = toy.moebius(7, 7, Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def needs_shapiq() -> None:
    if ExactComputer is None:
        missing("shapiq is not installed")


def worth(present: np.ndarray) -> np.ndarray:
    return GAME.value(torch.as_tensor(np.asarray(present)).bool()).numpy()


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("index", INDICES)
def test_exact_computer(index, order) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ExactComputer(n_players=7, game=worth)(index, order)
    ours = ap.attribute(GAME, INDICES[index](order=order))
    scores = [theirs[tuple(row.nonzero().flatten().tolist())] for row in ours.sets]
    close(
        ours.scores,
        torch.tensor(scores, dtype=torch.float64),
        atol=1e-7 if index == "FSII" else 1e-12,
    )
