"""The linear surrogate: least squares by other means, and what its slopes estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import any_game, gates_of, generator, mean_gain, subsets, within_noise
from tests.small import close


def best_line(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Intercept and slopes of the (weighted) least-squares line, by numpy's own solver."""
    root = np.sqrt(np.ones(len(x)) if weights is None else weights)
    design = np.column_stack([np.ones(len(x)), x])
    return np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]


@pytest.mark.parametrize("keep", [0.5, 0.3, 0.8])
def test_equals_least_squares_on_the_coalitions_it_asked(keep) -> None:
    n = 5
    game, v, asked = any_game(n, seed=4)
    credit = ap.attribute(game, ap.LinearSurrogate(samples=60, keep=keep), seed=2)
    # repeats come from the cache, so the rows of the fit are drawn once more from the seed
    rows = (torch.rand(60, n, generator=generator(2)) < keep).double().numpy()
    sets = [frozenset(np.flatnonzero(row).tolist()) for row in rows]
    assert set(sets) == set(asked)
    line = best_line(rows, np.array([v(s) for s in sets]))
    close(credit.scores, torch.as_tensor(line[1:]))


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.9])
def test_the_enumerated_fit_is_the_mean_gain(keep) -> None:
    """Theory: the slopes over all 2^n coalitions are E[v(S and i) - v(S without i)]. The
    estimator is unbiased for them where the line is right, and close to it elsewhere.
    """
    n = 5
    _, v, _ = any_game(n, seed=6)
    sets = subsets(n)
    chance = np.array([keep ** len(s) * (1 - keep) ** (n - len(s)) for s in sets])
    line = best_line(gates_of(sets, n), np.array([v(s) for s in sets]), chance)
    np.testing.assert_allclose(line[1:], mean_gain(v, n, keep), atol=1e-9)
    if keep == 0.5:
        game = toy.moebius(n, 4, generator(1))
        close(
            game.banzhaf(),
            torch.as_tensor(
                mean_gain(
                    lambda s: float(game.value(torch.tensor([[i in s for i in range(n)]]))[0]), n
                )
            ),
        )


@pytest.mark.parametrize("keep", [0.5, 0.75])
def test_tends_to_the_mean_gain_and_knows_how_far_it_is(keep) -> None:
    n = 5
    game, v, _ = any_game(n, seed=6)
    truth = torch.as_tensor(mean_gain(v, n, keep))
    estimator = ap.LinearSurrogate(samples=800, keep=keep)
    credits = [ap.attribute(game, estimator, seed=s) for s in range(60)]
    off = torch.stack([c.scores - truth for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.91 <= float(covered) <= 0.99


def test_errors_are_hc3() -> None:
    """Each row is left out and predicted by the others; these residuals make the sandwich."""
    n, samples = 4, 30
    game, v, _ = any_game(n, seed=8)
    credit = ap.attribute(game, ap.LinearSurrogate(samples=samples), seed=5)
    rows = (torch.rand(samples, n, generator=generator(5)) < 0.5).double().numpy()
    y = np.array([v(frozenset(np.flatnonzero(row).tolist())) for row in rows])
    design = np.column_stack([np.ones(samples), rows])
    middle = np.zeros((n + 1, n + 1))
    for j in range(samples):
        others = np.arange(samples) != j
        missed = y[j] - design[j] @ best_line(rows[others], y[others])
        middle += missed**2 * np.outer(design[j], design[j])
    bread = np.linalg.inv(design.T @ design)
    close(credit.error, torch.as_tensor(np.sqrt(np.diag(bread @ middle @ bread))[1:]))


@pytest.mark.parametrize("penalty", [0.02, 0.1, 0.4])
def test_lasso_meets_its_conditions_of_optimality(penalty) -> None:
    """A minimum of mean squared error / 2 + l1 * sum |w|: the slope of the first part is -l1
    times the sign of w, and at most l1 in size where w = 0.
    """
    n, samples = 6, 200
    game, v, _ = any_game(n, seed=9)
    credit = ap.attribute(game, ap.LinearSurrogate(samples=samples, l1=penalty), seed=1)
    rows = (torch.rand(samples, n, generator=generator(1)) < 0.5).double().numpy()
    y = np.array([v(frozenset(np.flatnonzero(row).tolist())) for row in rows])
    w = credit.scores.numpy()
    residual = y - rows @ w
    residual -= residual.mean()  # the intercept is not penalised
    slope = -rows.T @ residual / samples
    active = w != 0
    # scikit-learn stops at a duality gap of 1e-4 of the variance, which bounds these slopes
    slack = 1e-2 * penalty
    np.testing.assert_allclose(slope[active], -penalty * np.sign(w[active]), atol=slack)
    assert (np.abs(slope[~active]) <= penalty + slack).all()
    assert credit.error is None


def test_lasso_leaves_numpys_global_random_state_where_it_was() -> None:
    before = np.random.get_state()
    ap.attribute(toy.additive(torch.ones(3)), ap.LinearSurrogate(samples=20, l1=0.1))
    after = np.random.get_state()
    assert before[2:] == after[2:]  # the place in the stream; the array alone changes seldom
    assert (before[1] == after[1]).all()


def test_no_empty_request_reaches_the_game() -> None:
    """Many functions of a table, scikit-learn's among them, refuse a table without rows."""
    sizes = []

    def f(gates: torch.Tensor) -> torch.Tensor:
        sizes.append(len(gates))
        return gates.double().sum(-1)

    for until in (None, ap.StandardError(0.1)):
        ap.attribute(ap.FunctionGame(f, 4), ap.LinearSurrogate(samples=30, until=until))
    assert min(sizes) > 0


def test_a_large_penalty_leaves_nothing_and_a_small_one_is_least_squares() -> None:
    game = toy.additive(torch.tensor([1.0, -2.0, 0.0, 0.5]))
    nothing = ap.attribute(game, ap.LinearSurrogate(samples=100, l1=10.0))
    close(nothing.scores, torch.zeros(4), atol=0)
    little = ap.attribute(game, ap.LinearSurrogate(samples=100, l1=1e-6))
    close(little.scores, torch.tensor([1.0, -2.0, 0.0, 0.5]), atol=1e-4)


def test_asking_until_precise_goes_on_where_the_first_coalitions_do_not_determine_the_fit() -> None:
    """With rare absences the first look often has a player who is always present."""
    game = toy.moebius(10, 2, generator(0))
    estimator = ap.LinearSurrogate(samples=20_000, keep=0.95, until=ap.StandardError(0.1))
    for seed in range(5):
        credit = ap.attribute(game, estimator, seed=seed)
        assert float(credit.error.max()) <= 0.1
