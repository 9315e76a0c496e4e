"""Shapley values of table rows against a background, by shap.

Conventions of shap 0.51 that differ, and how equal settings are written:

- The value of a coalition is E over background rows of f(x on S, row elsewhere): removal
  rows(background), whose v(no player) is shap's expected_value.
- KernelExplainer: l1_reg=False, or it selects features first. nsamples counts inner coalitions
  only; ours counts both ends. It enumerates from 2^n - 2 on.
- Independent and the other maskers draw 100 rows from a larger background: max_samples=.
- max_evals of Permutation are 2n + 1 per forward and backward pass over one order, its own
  repeats of the ends included; that pass is one pair of our orders.
- GradientExplainer works in float32 and divides its variances by sqrt(samples): the standard error
  is sqrt(variance / sqrt(samples)).
- LinearExplainer is interventional by default: coefficient x (x - mean of the background). With
  maskers.Impute over (mean, covariance) it is observational, by random orders: 1000 of them in
  pairs, or so many samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.conftest import missing
from tests.oracles.slow import within_noise
from tests.small import close, mlp, normal, seeded

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap as peer
except ImportError:
    peer = None

pytestmark = pytest.mark.peer

MODEL, X, BACKGROUND = mlp(), normal(1, 6, seed=1), normal(7, 6, seed=2)
CLASSES = (0, 1, 2)


@pytest.fixture(autouse=True)
def needs_shap() -> None:
    if peer is None:
        missing("shap is not installed")


@contextmanager
def apart() -> Iterator[None]:
    """Shap seeds and draws from numpy's global generator, and warns about other libraries."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            np.random.set_state(before)


def function(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: model(torch.as_tensor(np.array(rows))).detach().numpy()


def game(model: nn.Module = MODEL, removal: object = None) -> ap.ModelGame:
    removal = removal if removal is not None else ap.Blend(ap.removals.rows(BACKGROUND))
    value = ap.values.Logit(CLASSES)
    return ap.ModelGame(model, X, value, ap.players.columns(X), removal)


def masker() -> object:
    return peer.maskers.Independent(BACKGROUND.numpy(), max_samples=len(BACKGROUND))


def exact(model: nn.Module = MODEL) -> Tensor:
    return ap.attribute(game(model), ap.KernelShap(samples=2**6)).scores


def credit(values: np.ndarray) -> Tensor:
    """(row, player, class) of shap as (class, player)."""
    return torch.as_tensor(values[0]).T


@pytest.mark.parametrize("samples", [2**6 - 2, 2**6, 1000])
def test_kernel_explainer_enumerates_to_our_kernel_shap(samples) -> None:
    with apart():
        kernel = peer.KernelExplainer(function(MODEL), BACKGROUND.numpy())
        theirs = kernel.shap_values(X.numpy(), nsamples=samples, l1_reg=False, silent=True)
    ours = ap.attribute(game(), ap.KernelShap(samples=2**6))
    close(ours.scores, credit(theirs))
    close(ours.none, torch.as_tensor(kernel.expected_value))


def test_exact_explainer() -> None:
    with apart():
        theirs = peer.explainers.Exact(function(MODEL), masker())(X.numpy(), silent=True)
    close(exact(), credit(theirs.values))


def test_one_reference_row_is_a_background_of_one() -> None:
    with apart():
        kernel = peer.KernelExplainer(function(MODEL), BACKGROUND[:1].numpy())
        theirs = kernel.shap_values(X.numpy(), l1_reg=False, silent=True)
    there = game(removal=ap.Blend(ap.removals.counterfactual(BACKGROUND[:1])))
    close(ap.attribute(there, ap.KernelShap(samples=2**6)).scores, credit(theirs))


class Products(nn.Module):
    """x' W x per class: columns interact in pairs and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,kij,bj->bk", x, self.weight, x)


def test_one_pair_of_orders_is_exact_for_both_when_columns_interact_in_pairs() -> None:
    model = seeded(Products)
    with apart():
        explainer = peer.explainers.Permutation(function(model), masker(), seed=3)
        theirs = explainer(X.numpy(), max_evals=2 * 6 + 1, silent=True)
    ours = ap.attribute(game(model), ap.PermutationShapley(orders=2))
    close(ours.scores, credit(theirs.values))
    close(ours.scores, exact(model))


def test_permutation_explainers_scatter_around_the_same_values() -> None:
    truth = exact()
    with apart():
        explainer = peer.explainers.Permutation(function(MODEL), masker(), seed=0)
        runs = [
            credit(explainer(X.numpy(), max_evals=4 * 13, silent=True).values) for _ in range(20)
        ]
    within_noise(torch.stack(runs) - truth)
    ours = ap.attribute(game(), ap.PermutationShapley(orders=60), seed=1)
    assert float(((ours.scores - truth).abs() / ours.error).max()) < 4


def test_sampled_kernel_explainer_scatters_around_the_same_values() -> None:
    truth = exact()
    with apart():
        kernel = peer.KernelExplainer(function(MODEL), BACKGROUND.numpy())
        np.random.seed(0)
        runs = [
            credit(kernel.shap_values(X.numpy(), nsamples=40, l1_reg=False, silent=True))
            for _ in range(20)
        ]
    within_noise(torch.stack(runs) - truth)


def test_gradient_explainer_is_the_averaged_gradient_over_the_way() -> None:
    samples = 4000
    with apart():
        narrow = mlp().float()
        explainer = peer.GradientExplainer(narrow, BACKGROUND.float())
        theirs, variances = explainer.shap_values(
            X.float(), nsamples=samples, rseed=0, return_variances=True
        )
    spread = torch.as_tensor(np.stack([v[0] for v in variances])) / samples**0.5
    ours = ap.attribute(game(), ap.AveragedGradient(samples=samples, start=0.0), seed=1)
    error = (ours.error.square() + spread).sqrt()
    assert float(((ours.scores - credit(theirs)).abs() / error).max()) < 4
    # the two state the same precision
    assert bool((ours.error / spread.sqrt() - 1).abs().max() < 0.2)


@pytest.mark.parametrize("how", ["rows", "mean"])
def test_linear_explainer_is_the_closed_form(how) -> None:
    line = seeded(lambda: nn.Linear(6, 3))
    weight, bias = line.weight.detach(), line.bias.detach()
    with apart():
        theirs = peer.LinearExplainer((weight.numpy(), bias.numpy()), masker())
        values = theirs.shap_values(X.numpy())
    form = weight * (X - BACKGROUND.mean(0))
    close(credit(values), form)
    if how == "rows":
        close(exact(line), form)
    else:
        there = game(line, ap.Blend(ap.removals.mean(BACKGROUND)))
        close(ap.attribute(there, ap.LeaveOneOut()).scores, form)
        close(ap.attribute(there, ap.Gradient()).scores, form)


def test_observational_credit_of_a_linear_model() -> None:
    """Their mean over random orders lies within its error of the closed form."""
    rows = normal(50, 6, seed=4) @ normal(6, 6, seed=5)
    weights, mean = normal(6, seed=6), rows.mean(0)
    cov = torch.from_numpy(np.cov(rows.numpy().T))
    exact = ap.linear.observational(weights, X, (mean, cov))
    ours = ap.linear.observational(weights, X, (mean, cov), orders=1000)
    runs = []
    with apart():
        for seed in range(6):
            np.random.seed(seed)
            theirs = peer.LinearExplainer(
                (weights.numpy(), 0.0),
                peer.maskers.Impute({"mean": mean.numpy(), "cov": cov.numpy()}),
            )
            runs.append(torch.as_tensor(theirs.shap_values(X.numpy())[0]))
    off = torch.stack(runs) - exact.scores
    error = off.std(0) / 6**0.5
    assert bool((off.mean(0).abs() < 5.9 * error + 1e-9).all())  # t of 5 degrees, six columns
    assert bool(((ours.scores - exact.scores).abs() < 4 * ours.error).all())
