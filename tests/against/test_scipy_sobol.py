"""Sobol indices against scipy's, given the same values at A, B and C_i.

Scipy divides by the variance of the values at A and B together, we by that at A: totals (Jansen)
need no B, and are asked without it. Its first order centres all values at their mean over A and B.
"""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import apportion as ap
from apportion.estimators._points import unit_points
from apportion.games import toy
from tests.oracles.slow import generator
from tests.small import close

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("samples", [32, 256])
def test_the_same_design_gives_the_same_shares(samples) -> None:
    n = 5
    game = toy.moebius(n, 3, generator(2))
    both = unit_points(ap.Points.SOBOL, samples, 2 * n, generator(6))
    a, b = both[:, :n], both[:, n:]
    mixed = a.expand(n, samples, n).clone()
    for i in range(n):
        mixed[i, :, i] = b[:, i]
    at_a, at_b = game.value(a), game.value(b)
    at_c = game.value(mixed.flatten(0, 1)).reshape(n, 1, samples)
    theirs = stats.sobol_indices(
        func={"f_A": at_a[None].numpy(), "f_B": at_b[None].numpy(), "f_AB": at_c.numpy()},
        n=samples,
    )
    scale = float(torch.cat([at_a, at_b]).var(correction=0) / at_a.var(correction=0))
    total = ap.attribute(game, ap.Sobol(samples=samples, designs=1), seed=6).scores
    close(total, scale * torch.as_tensor(theirs.total_order).flatten())
    first = ap.attribute(
        game,
        ap.Sobol(samples=samples, designs=1, index=ap.Sensitivity.FIRST_ORDER),
        seed=6,
    ).scores
    # the two centres differ by a shift that multiplies the mean of f(C_i) - f(A)
    shift = float(torch.cat([at_a, at_b]).mean() - at_a.mean())
    drift = (at_c[:, 0] - at_a).mean(1) * shift / at_a.var(correction=0)
    close(first, scale * torch.as_tensor(theirs.first_order).flatten() + drift)
