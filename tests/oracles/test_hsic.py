"""HSIC: the matrices of the definition, its limit, and errors by leaving rows out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.estimators._points import unit_points
from apportion.estimators.hsic import Bandwidth
from apportion.games import toy
from tests.oracles.slow import any_game, generator
from tests.small import close


def by_definition(m: np.ndarray, v: np.ndarray, width: float) -> np.ndarray:
    """sum [H (1 + K_i) H] o [H L H] / N^2, player by player, with full matrices."""
    count = len(m)
    h = np.eye(count) - np.ones((count, count)) / count
    values = np.exp(-((v[:, None] - v[None]) ** 2) / (2 * width**2))
    out = []
    for i in range(m.shape[1]):
        same = 0.5 - (m[:, None, i] - m[None, :, i]) ** 2
        out.append(((h @ (1 + same) @ h) * (h @ values @ h)).sum() / count**2)
    return np.array(out)


def median_distance(v: np.ndarray) -> float:
    pairs = sorted(abs(v[j] - v[k]) for j in range(len(v)) for k in range(j))
    return pairs[(len(pairs) - 1) // 2]


@pytest.mark.parametrize("points", list(ap.Points))
@pytest.mark.parametrize("bandwidth", list(Bandwidth))
def test_equals_the_definition_on_its_coalitions(points, bandwidth) -> None:
    n, samples = 5, 32
    game, v, _ = any_game(n, seed=3)
    credit = ap.attribute(
        game, ap.Hsic(samples=samples, points=points, bandwidth=bandwidth), seed=2
    )
    m = (unit_points(points, samples, n, generator(2)) >= 0.5).double().numpy()
    values = np.array([v(frozenset(np.flatnonzero(row).tolist())) for row in m])
    width = (
        float(np.median(values)) if bandwidth is Bandwidth.MEDIAN_VALUE else median_distance(values)
    )
    close(credit.scores, torch.as_tensor(by_definition(m, values, width)))
    sequence = points in (ap.Points.SOBOL, ap.Points.HALTON)
    assert (credit.error is None) == sequence
    if sequence:
        assert "LATIN" in credit.provenance.error_note
        return
    left = np.array(
        [by_definition(np.delete(m, j, 0), np.delete(values, j), width) for j in range(samples)]
    )
    squares = (samples - 1) / samples * ((left - left.mean(0)) ** 2).sum(0)
    close(credit.error, torch.as_tensor(np.sqrt(squares)))


def limit(game: ap.FunctionGame, n: int, width: float) -> np.ndarray:
    """Over all pairs of coalitions: E[K L] - 2 E[E K E L] + E K E L, where E K given m is 0."""
    sets = np.array(list(product((0.0, 1.0), repeat=n)))
    values = game.value(torch.as_tensor(sets) > 0.5).double().numpy()
    kernel = np.exp(-((values[:, None] - values[None]) ** 2) / (2 * width**2))
    out = []
    for i in range(n):
        same = 0.5 - (sets[:, None, i] - sets[None, :, i]) ** 2
        assert np.allclose(same.mean(1), 0)
        out.append((same * kernel).mean())
    return np.array(out)


def test_tends_to_the_dependence_over_all_coalitions_with_errors_that_cover() -> None:
    """The width is that of the sample, which moves with it by less than the error. The bias is
    about E[1 - L] / 2N, small beside the error for players with an effect.
    """
    n = 6
    game = toy.additive(torch.tensor([2.0, 1.5, 1.0, 1.0, -1.0, 0.0]).double())
    sets = torch.tensor(list(product((False, True), repeat=n)))
    values = game.value(sets).numpy()
    width = float(np.median(np.abs(values[:, None] - values[None])[~np.eye(64, dtype=bool)]))
    truth = torch.as_tensor(limit(game, n, width))
    for points in (ap.Points.RANDOM, ap.Points.LATIN):
        estimator = ap.Hsic(samples=400, points=points)
        credits = [ap.attribute(game, estimator, seed=s) for s in range(60)]
        scores = torch.stack([c.scores for c in credits])
        errors = torch.stack([c.error for c in credits])
        off = (scores - truth)[:, :5]
        assert float((off.abs() <= 1.96 * errors[:, :5]).double().mean()) >= 0.90
        assert float(scores[:, 5].mean()) < 0.1 * float(scores[:, :5].mean())


def test_sees_an_effect_that_has_no_mean() -> None:
    """v is +1 or -1 at a coin when the player is there, 0 when it is not: every coalitional mean
    gain of the player is 0, its presence is anything but independent of the value.
    """
    game = ap.FunctionGame(lambda g: g[:, 0].double() * (2 * g[:, 1].double() - 1), 3)
    banzhaf = ap.attribute(game, ap.Banzhaf(samples=8)).scores
    close(banzhaf, torch.tensor([0.0, 1.0, 0.0]))
    scores = ap.attribute(game, ap.Hsic()).scores
    assert float(scores[0]) > 10 * float(scores[2])


def test_is_not_moved_by_offsets_and_scales_unless_the_width_is_the_median_value() -> None:
    game, _, _ = any_game(5, seed=3)
    moved = ap.FunctionGame(lambda g: 50 - 3 * game.value(g), 5)
    for bandwidth in Bandwidth:
        one, two = (ap.attribute(g, ap.Hsic(bandwidth=bandwidth)).scores for g in (game, moved))
        same = torch.allclose(one, two, atol=1e-9)
        assert same == (bandwidth is Bandwidth.MEDIAN_DISTANCE)


def test_a_value_that_never_changes_depends_on_nobody() -> None:
    flat = ap.FunctionGame(lambda g: torch.zeros(len(g)).double(), 4)
    for bandwidth in Bandwidth:
        credit = ap.attribute(flat, ap.Hsic(bandwidth=bandwidth))
        close(credit.scores, torch.zeros(4), atol=1e-12)
        close(credit.error, torch.zeros(4), atol=1e-12)


def test_wrong_numbers_of_coalitions_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match=r"powers of two.*samples=512"):
        ap.Hsic(samples=500, points=ap.Points.SOBOL)
    with pytest.raises(ap.BadRequest, match="at least 2"):
        ap.Hsic(samples=1)
    with pytest.raises(ap.BadRequest, match=r"most is 8,192"):
        ap.Hsic(samples=10_000)
