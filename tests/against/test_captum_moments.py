"""VarGrad and SmoothGrad-squared of captum's noise tunnel, and its GradientShap.

The tunnel's "vargrad" divides by the number of samples, ours by one less. GradientShap draws a
baseline and a level per sample and multiplies by the difference: expected gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import apportion as ap
from apportion.estimators import Moment
from tests.conftest import missing
from tests.small import close, mlp, normal

try:
    import captum.attr as peer
except ImportError:
    peer = None

pytestmark = pytest.mark.peer

CLASS, MODEL, X, SIGMA = 1, mlp(), normal(1, 6, seed=1), 0.5


@pytest.fixture(autouse=True)
def needs_captum() -> None:
    if peer is None:
        missing("captum is not installed")


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    import numpy as np

    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def game() -> ap.ModelGame:
    removal = ap.Jitter(ap.Blend(ap.removals.step(1.0)), SIGMA)
    return ap.ModelGame(MODEL, X, ap.values.Logit(CLASS), ap.players.columns(X), removal)


NAMES = {Moment.VARIANCE: "vargrad", Moment.SQUARE: "smoothgrad_sq"}


@pytest.mark.parametrize("moment", list(Moment))
def test_noise_tunnel_within_monte_carlo_error(moment) -> None:
    tunnel, each = peer.NoiseTunnel(peer.Saliency(MODEL)), 100
    options = {"nt_samples": each, "stdevs": SIGMA, "target": CLASS, "abs": False}
    with own_randomness(0):
        runs = torch.cat([tunnel.attribute(X, nt_type=NAMES[moment], **options) for _ in range(30)])
    runs = runs * (each / (each - 1) if moment is Moment.VARIANCE else 1.0)
    ours = ap.attribute(game(), ap.GradientMoment(moment=moment, samples=4000), seed=3)
    error = (ours.error.square() + runs.var(0) / len(runs)).sqrt()
    assert float(((ours.scores - runs.mean(0)).abs() / error).max()) < 4


@pytest.mark.parametrize("moment", list(Moment))
def test_noise_tunnel_fed_with_the_same_noise_is_equal(moment) -> None:
    """The gradients that captum's tunnel folds, taken at the noisy inputs it asked for."""
    asked: list[torch.Tensor] = []

    class Watching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            asked.append(x.detach().clone())
            return MODEL(x)

    watching = Watching()
    with own_randomness(5):
        theirs = peer.NoiseTunnel(peer.Saliency(watching)).attribute(
            X, nt_type=NAMES[moment], nt_samples=20, stdevs=SIGMA, target=CLASS, abs=False
        )
    noisy = torch.cat(asked)
    assert len(noisy) == 20
    still = ap.Blend(ap.removals.step(1.0))
    at = ap.ModelGame(MODEL, noisy, ap.values.Logit(CLASS), ap.players.columns(noisy), still)
    samples = ap.attribute(at, ap.Gradient()).scores  # one instance per noisy input

    from apportion.estimators._moments import Running
    from apportion.estimators._spread import Spread

    pile = Spread() if moment is Moment.VARIANCE else Running()
    pile.add(samples if moment is Moment.VARIANCE else samples**2)
    factor = 19 / 20 if moment is Moment.VARIANCE else 1.0
    close(pile.result()[0] * factor, theirs[0], atol=1e-9)


def test_gradient_shap_is_the_averaged_gradient_from_background_rows() -> None:
    rows = normal(7, 6, seed=4)
    shap = peer.GradientShap(MODEL)
    with own_randomness(0):
        runs = torch.cat(
            [shap.attribute(X, rows, n_samples=100, stdevs=0.0, target=CLASS) for _ in range(40)]
        )
    background = ap.Blend(ap.removals.rows(rows))
    asked = ap.ModelGame(MODEL, X, ap.values.Logit(CLASS), ap.players.columns(X), background)
    ours = ap.attribute(asked, ap.AveragedGradient(samples=4000, start=0.0), seed=3)
    error = (ours.error.square() + runs.var(0) / len(runs)).sqrt()
    assert float(((ours.scores - runs.mean(0)).abs() / error).max()) < 4
