"""Exact values of coalitional games against shapiq's exact computer."""

from __future__ import annotations

import numpy as np
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


@pytest.mark.parametrize("sizes", list(ap.Sizes))
def test_kernel_shap_with_and_without_leverage_sampling(sizes) -> None:
    """The same values from all coalitions; from some, an error that is no larger in the mean."""
    n, far = 8, {"ours": [], "theirs": []}
    weights = np.array([0.0] + [1.0] * (n - 1) + [0.0])
    options = {} if sizes is ap.Sizes.KERNEL else {"sampling_weights": weights}
    game, _, _ = any_game(n, seed=4)
    truth = ap.attribute(game, ap.ExactShapley()).scores
    none = float(game.value(torch.zeros(1, n, dtype=torch.bool))[0])
    ask = lambda rows: game.value(torch.as_tensor(rows, dtype=torch.bool)).numpy() - none
    for seed, budget in [(0, 2**n), *((s, 100) for s in range(20))]:
        kind = peer.approximator.KernelSHAP
        got = kind(n=n, pairing_trick=True, random_state=seed, **options).approximate(budget, ask)
        theirs = torch.tensor([got[(i,)] for i in range(n)], dtype=torch.float64)
        ours = ap.attribute(game, ap.KernelShap(samples=budget, sizes=sizes), seed=seed).scores
        if budget == 2**n:
            close(ours, theirs, atol=1e-5)  # theirs come back in float32
            continue
        far["ours"].append((ours - truth).square().mean())
        far["theirs"].append((theirs - truth).square().mean())
    ours, theirs = (torch.stack(x) for x in far.values())
    gap = ours - theirs
    assert float(gap.mean()) < 3 * float(gap.std()) / len(gap) ** 0.5
