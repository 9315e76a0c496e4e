"""LIME against captum: the same coalitions, weights and fit; masks and kernel from the papers.

Captum converts masks, outputs and weights to float32 before the fit, whatever the model computes
in, which bounds the agreement: about 1e-6 of the values.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import apportion as ap
from tests.against.test_captum import CLASS, MODEL, needs_captum, own_randomness, peer, table, zeros  # noqa: F401
from tests.oracles.slow import generator
from tests.small import close, normal

pytestmark = pytest.mark.peer


class Line:
    """Weighted least squares with intercept, in the form captum asks for."""

    def fit(self, loader: object) -> None:
        ((x, y, w),) = loader
        root = np.sqrt(w.double().numpy())
        design = np.column_stack([np.ones(len(x)), x.double().numpy()])
        self.line = np.linalg.lstsq(design * root[:, None], y.double().numpy() * root, rcond=None)[
            0
        ]

    def representation(self) -> torch.Tensor:
        return torch.as_tensor(self.line[1:])


@pytest.mark.parametrize(
    ("distance", "mode", "width"),
    [
        (ap.Distance.COSINE, "cosine", 0.25),
        (ap.Distance.EUCLIDEAN, "euclidean", 2.0),
    ],
)
def test_lime_with_captums_own_kernel(distance, mode, width) -> None:
    """Captum's kernel is exp(-d^2 / (2 width^2)), and its distance one of inputs: with an input of
    ones both are distances of masks.
    """
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    x, samples = torch.ones(1, 6).double(), 80
    masks = iter((torch.rand(samples, 6, generator=generator(4)) < 0.5).double())
    lime = peer.LimeBase(
        MODEL,
        Line(),
        similarity_func=get_exp_kernel_similarity_function(mode, width / 2**0.5),
        perturb_func=lambda given, **_: next(masks)[None],
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda mask, given, **_: given * mask,
        to_interp_rep_transform=None,
    )
    with own_randomness(0):  # its data loader draws from the global generator
        theirs = lime.attribute(x, target=CLASS, n_samples=samples)
    estimator = ap.Lime(samples=samples, distance=distance, width=width)
    close(ap.attribute(table(zeros(), x), estimator, seed=4).scores, theirs.flatten(), atol=2e-6)


def test_continuous_lime_is_captums_with_noise_for_masks() -> None:
    from apportion.estimators.c_lime import cut_normal

    x, samples, width = normal(1, 6, seed=1), 60, 3.0
    away = cut_normal(torch.rand(30, 6, generator=generator(4), dtype=torch.float64), 0.1)
    noise = iter(torch.cat([away, -away]))
    lime = peer.LimeBase(
        MODEL,
        Line(),
        similarity_func=lambda *_, **__: 1.0,
        perturb_func=lambda given, **_: next(noise)[None],
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda step, given, **_: given + width * step,
        to_interp_rep_transform=None,
    )
    with own_randomness(0):  # its data loader draws from the global generator
        theirs = lime.attribute(x, target=CLASS, n_samples=samples)
    ours = ap.attribute(table(ap.Around(width), x), ap.CLime(samples=samples), seed=4)
    close(ours.scores, theirs.flatten(), atol=2e-5)
