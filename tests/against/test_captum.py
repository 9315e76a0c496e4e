"""The compositions that captum has a class for, against captum.

Conventions of captum 0.9 that differ, and how equal settings are written:

- Integrated gradients round the quadrature nodes (torch.linspace) and weights (.float()) to
  float32 whatever the model computes in, Occlusion its quotients and Shapley values their sums;
  `in_double` lifts that for the comparison, `test_rounded_weights...` bounds what it does.
- riemann_trapezoid has nodes k/(n-1) like ours but weights 1/n (half at the ends): they sum to
  (n-1)/n. Ours is captum's times n/(n-1).
- riemann_left has no row here: it is Quadrature.RIGHT of the reversed question, sign changed.
- Saliency takes absolute values by default; ours is signed: Saliency.attribute(abs=False).
- Captum credits elements of a tensor. A pixel here is all its channels, a channel all its
  positions, a token its whole embedding: the sum of captum's credits over what the player owns.
- Layer methods interpolate between the layer's activations on input and baseline: removal
  counterfactual(baseline) at the layer. Zeros at the layer is LayerGradientXActivation.
- Occlusion and FeatureAblation write a feature's credit on each of its elements, not their sum.
- GuidedBackprop gives gradients, not gradients x input: removal step(1.0). It bends nn.ReLU only.
- KernelShap draws coalition sizes and imposes the ends by a weight of 1e6: it tends to the Shapley
  value but does not reach it when n_samples >= 2^n. The exact one is ShapleyValues.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.estimators._quadrature import nodes_and_weights
from tests.conftest import missing
from tests.oracles.slow import within_noise
from tests.small import close, cnn, mlp, normal, seeded

try:
    import captum.attr as peer
except ImportError:
    peer = None

pytestmark = pytest.mark.peer

CLASS, MODEL = 1, mlp()
METHODS = {
    "gausslegendre": ap.Quadrature.GAUSS_LEGENDRE,
    "riemann_middle": ap.Quadrature.MIDPOINT,
    "riemann_right": ap.Quadrature.RIGHT,
    "riemann_trapezoid": ap.Quadrature.TRAPEZOID,
}
EVERY_METHOD = pytest.mark.parametrize("method", list(METHODS))


@pytest.fixture(autouse=True)
def needs_captum() -> None:
    if peer is None:
        missing("captum is not installed")


@contextmanager
def in_double() -> Iterator[None]:
    """Captum's nodes, weights and sums stay float64. Nothing of ours may run inside."""
    single = torch.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float, torch.float = torch.Tensor.double, torch.float64
    try:
        yield
    finally:
        del torch.Tensor.float
        torch.float = single
        torch.set_default_dtype(torch.float32)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Captum draws from the global generators: seeded here, restored afterwards."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def scale(method: str, steps: int) -> float:
    """What captum's weights lack to sum to 1."""
    return steps / (steps - 1) if method == "riemann_trapezoid" else 1.0


def path(method: str, steps: int) -> ap.PathIntegral:
    return ap.PathIntegral(steps=steps, nodes=METHODS[method], tolerance=None)


def table(removal: object, x: Tensor, value: object = None) -> ap.ModelGame:
    value = value if value is not None else ap.values.Logit(CLASS)
    return ap.ModelGame(MODEL, x, value, ap.players.columns(x), removal)


def zeros() -> ap.Blend:
    return ap.Blend(ap.removals.zeros())


def step() -> ap.Blend:
    return ap.Blend(ap.removals.step(1.0))


def towards(x: Tensor) -> ap.Blend:
    return ap.Blend(ap.removals.counterfactual(x))


# -- integrated gradients


@EVERY_METHOD
def test_integrated_gradients_of_columns(method) -> None:
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    with in_double():
        theirs = peer.IntegratedGradients(MODEL).attribute(
            x, other, target=CLASS, n_steps=13, method=method
        )
    ours = ap.attribute(table(towards(other), x), path(method, 13))
    close(ours.scores, theirs[0] * scale(method, 13))


@EVERY_METHOD
def test_integrated_gradients_of_pixels(method) -> None:
    model, x, other = cnn(), normal(1, 2, 8, 8, seed=3), normal(1, 2, 8, 8, seed=4)
    with in_double():
        theirs = peer.IntegratedGradients(model).attribute(
            x, other, target=CLASS, n_steps=10, method=method, internal_batch_size=4
        )
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.pixels(x), towards(other))
    ours = ap.attribute(game, path(method, 10))
    close(ours.scores, theirs[0].sum(0).flatten() * scale(method, 10))


def test_integrated_gradients_of_several_rows_from_zero() -> None:
    x = normal(3, 6, seed=5)
    with in_double():
        theirs = peer.IntegratedGradients(MODEL).attribute(x, target=CLASS, n_steps=9)
    close(ap.attribute(table(zeros(), x), path("gausslegendre", 9)).scores, theirs)


@EVERY_METHOD
def test_rounded_weights_are_all_that_separates_captum_as_shipped(method) -> None:
    """With 16 (trapezoid: 17) steps the nodes are binary fractions, so only weights are rounded:
    each by at most 2^-24 of itself.
    """
    steps = 17 if method == "riemann_trapezoid" else 16
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    theirs = peer.IntegratedGradients(MODEL).attribute(
        x, other, target=CLASS, n_steps=steps, method=method
    )
    game = table(towards(other), x)
    off = ap.attribute(game, path(method, steps)).scores - theirs[0] * scale(method, steps)
    if method in ("riemann_middle", "riemann_right"):  # 1/16 is exact in float32
        close(off, torch.zeros(6))
    level, weight = nodes_and_weights(METHODS[method], steps)
    _, slopes = game.grad(level[:, None].expand(-1, 6))
    assert bool((off.abs() <= 2**-24 * (weight @ slopes.abs()) + 1e-12).all())


def test_trapezoid_of_captum_misses_a_share_of_a_linear_model() -> None:
    """On a linear model every rule whose weights sum to 1 is exact."""
    x, line = normal(1, 6, seed=1), seeded(lambda: nn.Linear(6, 3))
    exact = line.weight[CLASS] * x[0]
    game = ap.ModelGame(line, x, ap.values.Logit(CLASS), ap.players.columns(x), zeros())
    for method in METHODS:
        with in_double():
            theirs = peer.IntegratedGradients(line).attribute(
                x, target=CLASS, n_steps=5, method=method
            )
        close(ap.attribute(game, path(method, 5)).scores, exact.detach())
        close(theirs[0] * scale(method, 5), exact.detach())


def test_left_riemann_is_the_right_one_of_the_reversed_question() -> None:
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    with in_double():
        theirs = peer.IntegratedGradients(MODEL).attribute(
            x, other, target=CLASS, n_steps=7, method="riemann_left"
        )
    reverse = ap.attribute(table(towards(x), other), path("riemann_right", 7))
    close(-reverse.scores, theirs[0])


# -- gradients


def test_saliency_is_the_gradient_under_a_unit_step() -> None:
    x = normal(1, 6, seed=1)
    ours = ap.attribute(table(step(), x), ap.Gradient()).scores
    saliency = peer.Saliency(MODEL)
    close(ours, saliency.attribute(x.clone().requires_grad_(), target=CLASS, abs=False)[0])
    close(ours.abs(), saliency.attribute(x.clone().requires_grad_(), target=CLASS)[0])
    model, x = cnn(), normal(1, 2, 8, 8, seed=3)
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.pixels(x), step())
    theirs = peer.Saliency(model).attribute(x.clone().requires_grad_(), target=CLASS, abs=False)
    close(ap.attribute(game, ap.Gradient()).scores, theirs[0].sum(0).flatten())


def test_input_x_gradient_is_the_gradient_towards_zeros() -> None:
    model, x = cnn(), normal(2, 2, 8, 8, seed=3)
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.pixels(x), zeros())
    theirs = peer.InputXGradient(model).attribute(x.clone().requires_grad_(), target=CLASS)
    close(ap.attribute(game, ap.Gradient()).scores, theirs.sum(1).flatten(1))


def test_guided_backprop_is_the_guided_table() -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells that it sets hooks
        guided = peer.GuidedBackprop(model)
        theirs = guided.attribute(x.clone().requires_grad_(), target=CLASS)
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.pixels(x), step())
    bent = ap.attribute(game.under(ap.backward.GUIDED), ap.Gradient())
    close(bent.scores, theirs[0].sum(0).flatten())
    plain = ap.attribute(game, ap.Gradient())
    assert float((bent.scores - plain.scores).abs().max()) > 1e-3


def test_noise_tunnel_is_the_averaged_gradient_of_a_jittered_game() -> None:
    x, sigma = normal(1, 6, seed=1), 0.5
    tunnel = peer.NoiseTunnel(peer.Saliency(MODEL))
    with own_randomness(0):
        runs = torch.cat(
            [
                tunnel.attribute(
                    x, nt_type="smoothgrad", nt_samples=100, stdevs=sigma, target=CLASS, abs=False
                )
                for _ in range(20)
            ]
        )
    ours = ap.attribute(
        table(ap.Jitter(step(), sigma), x), ap.AveragedGradient(samples=2000), seed=3
    )
    error = (ours.error.square() + runs.var(0) / len(runs)).sqrt()
    assert float(((ours.scores - runs.mean(0)).abs() / error).max()) < 4
    # at this precision smoothing is not the plain gradient
    sharp = ap.attribute(table(step(), x), ap.Gradient()).scores
    assert float(((ours.scores - sharp).abs() / error).max()) > 10


# -- inside the model


@pytest.mark.parametrize(("layer", "unit"), [("0", "channel"), ("4", "channel"), ("7", "neuron")])
def test_layer_gradient_x_activation(layer, unit) -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=3)
    build = ap.players.channels if unit == "channel" else ap.players.neurons
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), build(model, layer), zeros())
    theirs = peer.LayerGradientXActivation(model, model.get_submodule(layer)).attribute(
        x, target=CLASS
    )
    close(
        ap.attribute(game, ap.Gradient()).scores,
        theirs[0].flatten(1).sum(1) if unit == "channel" else theirs[0],
    )


@EVERY_METHOD
def test_layer_integrated_gradients_of_channels(method) -> None:
    model, x, other = cnn(), normal(1, 2, 8, 8, seed=3), normal(1, 2, 8, 8, seed=4)
    with in_double():
        theirs = peer.LayerIntegratedGradients(model, model.get_submodule("4")).attribute(
            x, other, target=CLASS, n_steps=11, method=method
        )
    players = ap.players.channels(model, "4")
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), players, towards(other))
    ours = ap.attribute(game, path(method, 11))
    close(ours.scores, theirs[0].sum((1, 2)) * scale(method, 11))


def test_layer_feature_ablation_of_channels() -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=3)
    players = ap.players.channels(model, "4")
    mask = torch.arange(5).reshape(1, 5, 1, 1).expand(1, 5, 4, 4)
    theirs = peer.LayerFeatureAblation(model, model.get_submodule("4")).attribute(
        x, target=CLASS, layer_mask=mask
    )
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), players, zeros())
    close(ap.attribute(game, ap.LeaveOneOut()).scores, theirs[0, :, 0, 0])


# -- hard coalitions


def test_occlusion_with_disjoint_windows_is_leave_one_out_of_patches() -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=3)
    with in_double():
        theirs = peer.Occlusion(model).attribute(
            x, (2, 4, 4), strides=(2, 4, 4), baselines=0.3, target=CLASS
        )
    removal = ap.Blend(ap.removals.constant(0.3))
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), ap.players.patches(x, 4), removal)
    close(ap.attribute(game, ap.LeaveOneOut()).scores, theirs[0, 0, ::4, ::4].flatten())


def test_feature_ablation_is_leave_one_out_of_merged_columns() -> None:
    x, other, groups = normal(2, 6, seed=1), normal(1, 6, seed=2), [[0, 3], [1], [2, 4, 5]]
    players = ap.players.columns(x).merge(groups)
    mask = torch.tensor([[0, 1, 2, 0, 2, 2]])
    theirs = peer.FeatureAblation(MODEL).attribute(x, other, target=CLASS, feature_mask=mask)
    game = ap.ModelGame(MODEL, x, ap.values.Logit(CLASS), players, towards(other))
    close(ap.attribute(game, ap.LeaveOneOut()).scores, theirs[:, :3])


def exact(x: Tensor, other: Tensor) -> Tensor:
    return ap.attribute(table(towards(other), x), ap.KernelShap(samples=2**6)).scores


def test_exact_shapley_values() -> None:
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    with in_double():
        theirs = peer.ShapleyValues(MODEL).attribute(
            x, other, target=CLASS, perturbations_per_eval=64
        )
    close(exact(x, other), theirs[0])


def test_sampled_shapley_values_scatter_around_ours() -> None:
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    sampling = peer.ShapleyValueSampling(MODEL)
    with own_randomness(0):
        runs = [
            sampling.attribute(x, other, target=CLASS, n_samples=8, perturbations_per_eval=7)
            for _ in range(30)
        ]
    within_noise(torch.cat(runs) - exact(x, other))


def test_kernel_shap_tends_to_ours() -> None:
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    kernel = peer.KernelShap(MODEL)
    with own_randomness(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [
            kernel.attribute(x, other, target=CLASS, n_samples=400, perturbations_per_eval=50)
            for _ in range(16)
        ]
    within_noise(torch.cat(runs).double() - exact(x, other))


def test_kernel_shap_fed_with_every_coalition_is_ours() -> None:
    """Captum's regression on all 2^6 coalitions with the weights of the paper; what it returns is
    rounded to float32.
    """
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    kernel = peer.KernelShap(MODEL)

    def weight(original, perturbed, coalition, **_) -> Tensor:
        size = int(coalition.sum())
        inner = math.comb(6, size) * size * (6 - size)
        return torch.tensor([5 / inner if inner else 1e9])

    def every(original, **_) -> Iterator[Tensor]:
        for coalition in product((0, 1), repeat=6):
            yield torch.tensor([coalition])

    kernel.perturb_func, kernel.similarity_func = every, weight
    with own_randomness(0), in_double(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = kernel.attribute(x, other, target=CLASS, n_samples=64, perturbations_per_eval=64)
    ours = exact(x, other)
    assert bool(((theirs[0] - ours).abs() <= 2**-24 * ours.abs() + 1e-9).all())
