"""LIME: weighted least squares by other means, its kernel, and what it tends to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import any_game, gates_of, generator, subsets, within_noise
from tests.oracles.test_linear_surrogate import best_line
from tests.small import close


def kernel(rows: np.ndarray, distance: ap.Distance, width: float) -> np.ndarray:
    """exp(-D(z, 1)^2 / width^2) of the paper, D by vectors."""
    everyone, out = np.ones(rows.shape[1]), []
    for z in rows:
        if distance is ap.Distance.EUCLIDEAN:
            away = np.linalg.norm(everyone - z)
        else:
            length = np.linalg.norm(z) * np.linalg.norm(everyone)
            away = 1 - (z @ everyone / length if length else 0.0)
        out.append(np.exp(-(away**2) / width**2))
    return np.array(out)


SETTINGS = [(ap.Distance.COSINE, 0.25), (ap.Distance.COSINE, 1.0), (ap.Distance.EUCLIDEAN, 1.5)]


@pytest.mark.parametrize(("distance", "width"), SETTINGS)
def test_equals_weighted_least_squares_on_its_coalitions(distance, width) -> None:
    """Errors too: HC3 of the regression whose rows are scaled by the root of their weight."""
    n, samples = 5, 60
    game, v, _ = any_game(n, seed=4)
    credit = ap.attribute(game, ap.Lime(samples=samples, distance=distance, width=width), seed=2)
    rows = (torch.rand(samples, n, generator=generator(2)) < 0.5).double().numpy()
    y = np.array([v(frozenset(np.flatnonzero(row).tolist())) for row in rows])
    w = kernel(rows, distance, width)
    close(credit.scores, torch.as_tensor(best_line(rows, y, w)[1:]))
    design = np.column_stack([np.ones(samples), rows])
    middle = np.zeros((n + 1, n + 1))
    for j in range(samples):
        others = np.arange(samples) != j
        missed = y[j] - design[j] @ best_line(rows[others], y[others], w[others])
        middle += (w[j] * missed) ** 2 * np.outer(design[j], design[j])
    bread = np.linalg.inv((design.T * w) @ design)
    close(credit.error, torch.as_tensor(np.sqrt(np.diag(bread @ middle @ bread))[1:]), atol=1e-8)


@pytest.mark.parametrize(("distance", "width"), SETTINGS)
def test_tends_to_the_enumerated_fit_with_errors_that_cover(distance, width) -> None:
    n = 5
    game, v, _ = any_game(n, seed=6)
    rows = gates_of(subsets(n), n)
    y = np.array([v(s) for s in subsets(n)])
    truth = torch.as_tensor(best_line(rows, y, kernel(rows, distance, width))[1:])
    estimator = ap.Lime(samples=1500, distance=distance, width=width)
    credits = [ap.attribute(game, estimator, seed=s) for s in range(60)]
    off = torch.stack([c.scores - truth for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.90 <= float(covered) <= 0.99


def test_a_wide_kernel_is_the_linear_surrogate() -> None:
    game, _, _ = any_game(5, seed=7)
    wide = ap.attribute(game, ap.Lime(samples=80, width=1e6), seed=3)
    plain = ap.attribute(game, ap.LinearSurrogate(samples=80), seed=3)
    close(wide.scores, plain.scores)
    close(wide.error, plain.error)
    penalised = ap.attribute(game, ap.Lime(samples=80, width=1e6, penalty=0.2), seed=3)
    ridge = ap.attribute(game, ap.LinearSurrogate(samples=80, l2=0.2), seed=3)
    close(penalised.scores, ridge.scores)
    assert penalised.error is None and "shrinks" in penalised.provenance.error_note


def test_a_penalty_is_the_weighted_ridge() -> None:
    """argmin of the weighted mean of squares + penalty |w|^2, by its normal equations."""
    n, samples, penalty = 4, 50, 0.3
    game, v, _ = any_game(n, seed=8)
    credit = ap.attribute(game, ap.Lime(samples=samples, penalty=penalty), seed=5)
    rows = (torch.rand(samples, n, generator=generator(5)) < 0.5).double().numpy()
    y = np.array([v(frozenset(np.flatnonzero(row).tolist())) for row in rows])
    w = kernel(rows, ap.Distance.COSINE, 0.25)
    w /= w.sum()
    design = np.column_stack([np.ones(samples), rows])
    lift = penalty * np.diag([0.0, *[1.0] * n])
    line = np.linalg.solve((design.T * w) @ design + lift, (design.T * w) @ y)
    close(credit.scores, torch.as_tensor(line[1:]))


def test_a_narrow_kernel_tends_to_leave_one_out() -> None:
    """With all coalitions of 3 players drawn many times, the narrower the nearer."""
    game, _, _ = any_game(3, seed=9)
    drop = ap.attribute(game, ap.LeaveOneOut()).scores
    off = [
        float((ap.attribute(game, ap.Lime(samples=4000, width=w)).scores - drop).abs().max())
        for w in (1.0, 0.2, 0.1)
    ]
    assert off[0] > off[1] > off[2] and off[2] < 1e-3


def test_a_kernel_that_leaves_few_samples_says_so() -> None:
    game = toy.moebius(12, 2, generator(1))
    narrow = ap.attribute(game, ap.Lime(samples=300, width=0.05))
    assert "in effect for 12 slopes" in narrow.provenance.notes[0]
    assert not ap.attribute(game, ap.Lime(samples=300, width=1.0)).provenance.notes


def test_stops_at_a_precision() -> None:
    game, _, _ = any_game(5, seed=6)
    credit = ap.attribute(game, ap.Lime(samples=50_000, until=ap.StandardError(0.1)))
    assert float(credit.error.max()) <= 0.1 and credit.cost.evaluations < 50_000
    short = ap.attribute(game, ap.Lime(samples=60, until=ap.StandardError(1e-9)))
    assert "ceiling" in short.provenance.notes[0]


def test_wrong_options_are_refused() -> None:
    for wrong in ({"width": 0.0}, {"penalty": -1.0}, {"width": float("nan")}):
        with pytest.raises(ap.BadRequest, match=r"width=0\.25"):
            ap.Lime(**wrong)
    with pytest.raises(ap.BadRequest, match="minimum is 7"):
        ap.attribute(any_game(5)[0], ap.Lime(samples=6))
    assert ap.Lime(samples=6, penalty=0.1).cost(5).evaluations == 6
    with pytest.raises(ap.BadRequest, match=r"5,000 players.*merge"):
        ap.Lime(samples=10_000).cost(5000)
