"""Sobol indices: closed forms, the estimators written out, and designs that fill the cube."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import qmc

import apportion as ap
from apportion.estimators import sobol
from apportion.estimators._points import unit_points
from apportion.games import toy
from tests.oracles.slow import generator, within_noise
from tests.small import close, cnn, normal

INDICES, POINTS = list(ap.Sensitivity), list(ap.Points)


def game_of(f: object, n: int) -> ap.FunctionGame:
    return ap.FunctionGame(f, n, domain="unit")


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("index", INDICES)
def test_a_weighted_sum_has_squared_weights_as_shares(index, points) -> None:
    """Total and first order are both w_i^2 / sum w_j^2."""
    weights = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0]).double()
    estimator = ap.Sobol(samples=1024, designs=32, index=index, points=points)
    credit = ap.attribute(toy.additive(weights, base=0.3), estimator)
    off = credit.scores - weights.square() / weights.square().sum()
    assert bool((off.abs() <= 4.5 * credit.error + 1e-9).all())
    if points is ap.Points.SOBOL:
        assert float(off.abs().max()) < 2e-4
    assert float(credit.scores[4].abs()) < 1e-12  # a dummy, whatever the estimator


def test_interactions_count_for_each_of_their_players() -> None:
    """v = g_1 g_2 g_3: Var = 3^-3 - 4^-3; fixing two others leaves (1/12) (1/3)^2, fixing one's
    own gate leaves (1/12) (1/4)^2.
    """
    game = toy.unanimity(3, (0, 1, 2))
    variance = 3.0**-3 - 4.0**-3
    total = ap.attribute(game, ap.Sobol(samples=2**13, designs=2))
    close(total.scores, torch.full((3,), 1 / 12 / 9 / variance), atol=5e-3)
    first = ap.attribute(game, ap.Sobol(samples=2**13, designs=2, index=ap.Sensitivity.FIRST_ORDER))
    close(first.scores, torch.full((3,), 1 / 12 / 16 / variance), atol=5e-3)
    assert float(total.scores.sum()) > 1 > float(first.scores.sum())


@pytest.mark.parametrize("index", INDICES)
def test_ishigami(index) -> None:
    """sin x_1 + a sin^2 x_2 + b x_3^4 sin x_1 on [-pi, pi]^3, whose variances are known."""
    a, b, pi = 7.0, 0.1, math.pi

    def f(gates: torch.Tensor) -> torch.Tensor:
        x = (2 * gates - 1) * pi
        return x[:, 0].sin() * (1 + b * x[:, 2] ** 4) + a * x[:, 1].sin() ** 2

    alone = [(1 + b * pi**4 / 5) ** 2 / 2, a**2 / 8, 0.0]
    both = 8 * b**2 * pi**8 / 225
    whole = sum(alone) + both
    total = [(alone[0] + both) / whole, alone[1] / whole, both / whole]
    truth = total if index is not ap.Sensitivity.FIRST_ORDER else [v / whole for v in alone]
    credit = ap.attribute(game_of(f, 3), ap.Sobol(samples=2048, designs=8, index=index))
    close(credit.scores, torch.tensor(truth), atol=2e-2)


def by_hand(index: ap.Sensitivity, f: object, a: np.ndarray, b: np.ndarray) -> list[float]:
    """Each estimator in numpy, one player after the other."""
    out, count = [], len(a)
    at_a, at_b = f(a), f(b)
    for i in range(a.shape[1]):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        at_c = f(mixed)
        mean, var = at_a.mean(), at_a.var()
        match index.value:
            case "jansen":
                share = ((at_a - at_c) ** 2).sum() / (2 * count * var)
            case "homma":
                share = 1 - ((at_a * at_c).mean() - mean**2) / var
            case "janon":
                middle = ((at_a + at_c) / 2).mean()
                spread = (at_a**2 + at_c**2).sum() / (2 * count) - middle**2
                share = 1 - ((at_a * at_c).mean() - middle**2) / spread
            case "glen":
                share = 1 - np.corrcoef(at_a, at_c)[0, 1]
            case _:
                share = ((at_b - mean) * (at_c - at_a)).mean() / var
        out.append(float(share))
    return out


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("index", INDICES)
def test_one_design_is_the_formula_on_its_points(index, points) -> None:
    n, samples = 4, 32
    game = toy.moebius(n, 3, generator(2))
    estimator = ap.Sobol(samples=samples, designs=1, index=index, points=points)
    credit = ap.attribute(game, estimator, seed=6)
    both = unit_points(points, samples, 2 * n, generator(6)).numpy()
    f = lambda g: game.value(torch.as_tensor(g)).numpy()
    close(
        credit.scores, torch.tensor(by_hand(index, f, both[:, :n], both[:, n:])).double(), atol=1e-6
    )
    assert credit.error is None and "designs=4" in credit.provenance.error_note


def test_several_designs_are_pooled_and_the_error_is_their_jackknife() -> None:
    n, samples, designs = 3, 16, 5
    game = toy.moebius(n, 3, generator(2))
    credit = ap.attribute(game, ap.Sobol(samples=samples, designs=designs), seed=6)
    rng, tops, bottoms = generator(6), [], []
    for _ in range(designs):
        both = unit_points(ap.Points.SOBOL, samples, 2 * n, rng)
        a, b = both[:, :n], both[:, n:]
        f = game.value(a)
        bottoms.append(float(f.var(correction=0)))
        rows = []
        for i in range(n):
            c = a.clone()
            c[:, i] = b[:, i]
            rows.append(float((f - game.value(c)).square().mean() / 2))
        tops.append(rows)
    top, bottom = np.array(tops), np.array(bottoms)
    close(credit.scores, torch.as_tensor(top.sum(0) / bottom.sum()))
    left = np.array(
        [np.delete(top, r, 0).sum(0) / np.delete(bottom, r).sum() for r in range(designs)]
    )
    squares = (designs - 1) / designs * ((left - left.mean(0)) ** 2).sum(0)
    close(credit.error, torch.as_tensor(np.sqrt(squares)))
    assert credit.freedom == designs - 1


def test_errors_cover() -> None:
    game = toy.moebius(5, 3, generator(9))
    truth = ap.attribute(game, ap.Sobol(samples=2**13, designs=16)).scores
    estimator = ap.Sobol(samples=64, designs=16)
    credits = [ap.attribute(game, estimator, seed=s + 1) for s in range(60)]
    off = torch.stack([c.scores - truth for c in credits])
    covered = (off.abs() <= 2.13 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.88 <= float(covered) <= 0.99  # Student's t with 15 degrees: 95 %


def test_scale_and_offset_of_the_value_change_nothing() -> None:
    game = toy.moebius(4, 3, generator(3))
    moved = game_of(lambda g: 100 - 7 * game.value(g), 4)
    for index in (ap.Sensitivity.JANSEN, ap.Sensitivity.GLEN, ap.Sensitivity.FIRST_ORDER):
        one, two = (ap.attribute(g, ap.Sobol(index=index), seed=1) for g in (game, moved))
        close(one.scores, two.scores, atol=1e-8)
        close(one.error, two.error, atol=1e-8)


@pytest.mark.parametrize("index", INDICES)
def test_a_value_that_never_changes_gives_nothing_and_says_so(index) -> None:
    for dtype in (torch.float32, torch.float64):
        flat = game_of(lambda g, d=dtype: torch.full((len(g), 2), 0.1, dtype=d), 3)
        credit = ap.attribute(flat, ap.Sobol(index=index))
        close(credit.scores, torch.zeros(2, 3), atol=0)
        assert "every share of its variance is 0" in credit.provenance.notes[0]


def test_a_picture_seen_through_a_linear_model() -> None:
    """Zeros for absent: the game is a weighted sum, with the weights of the patches."""
    x = normal(1, 2, 8, 8, seed=4)
    weights = normal(128, seed=5)

    class Line(torch.nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return (picture.flatten(1) @ weights)[:, None]

    players = ap.players.patches(x, 4)
    game = ap.ModelGame(Line(), x, ap.values.Logit(0), players, ap.Blend(ap.removals.zeros()))
    own = ap.attribute(game, ap.LeaveOneOut()).scores
    credit = ap.attribute(game, ap.Sobol(samples=1024))
    close(credit.scores, own.square() / own.square().sum(), atol=5e-3)


def test_players_are_asked_in_pieces(monkeypatch) -> None:
    x = normal(1, 2, 8, 8, seed=4)
    players = ap.players.patches(x, 4)
    game = ap.ModelGame(cnn(), x, ap.values.Logit(0), players, ap.Blend(ap.removals.zeros()))
    whole = ap.attribute(game, ap.Sobol()).scores
    monkeypatch.setattr(sobol, "PIECE", 1)
    close(ap.attribute(game, ap.Sobol()).scores, whole, atol=1e-12)


def test_stops_at_a_precision() -> None:
    game = toy.moebius(4, 3, generator(3))
    credit = ap.attribute(game, ap.Sobol(designs=2000, until=ap.StandardError(0.02)))
    assert float(credit.error.max()) <= 0.02 and credit.cost.evaluations < 2000 * 32 * 5
    short = ap.attribute(game, ap.Sobol(designs=9, until=ap.StandardError(1e-9)))
    assert "ceiling" in short.provenance.notes[0]


@pytest.mark.parametrize("points", POINTS)
def test_points_fill_the_cube(points) -> None:
    """Uniform on every axis; sequences and hypercubes more evenly than random numbers."""
    rows, axes = 64, 6
    runs = torch.stack([unit_points(points, rows, axes, generator(s)) for s in range(200)])
    assert float(runs.min()) >= 0 and float(runs.max()) <= 1
    within_noise(runs.mean(1) - 0.5)
    within_noise(runs.square().mean(1) - 1 / 3)
    gap = np.mean([qmc.discrepancy(run.clamp(0, 1).numpy()) for run in runs[:20]])
    plain = np.mean(
        [qmc.discrepancy(np.random.default_rng(s).random((rows, axes))) for s in range(20)]
    )
    assert (gap < 0.8 * plain) == (points is not ap.Points.RANDOM)


def test_latin_hypercubes_have_one_point_in_every_slice() -> None:
    cells = (unit_points(ap.Points.LATIN, 10, 3, generator(1)) * 10).long()
    assert torch.equal(cells.sort(0).values, torch.arange(10)[:, None].expand(10, 3))


def test_halton_fills_every_digit_of_every_base() -> None:
    points = unit_points(ap.Points.HALTON, 30, 3, generator(1))
    for axis, base in enumerate((2, 3, 5)):
        counts = torch.bincount((points[:, axis] * base).long(), minlength=base)
        assert torch.equal(counts, torch.full((base,), 30 // base))


def test_wrong_numbers_of_points_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match=r"powers of two.*samples=128.*LATIN"):
        ap.Sobol(samples=100)
    assert ap.Sobol(samples=100, points=ap.Points.LATIN).cost(3).evaluations == 4 * 100 * 4
    with pytest.raises(ap.BadRequest, match="at least 2"):
        ap.Sobol(samples=1)
    with pytest.raises(ap.BadRequest, match="designs=0"):
        ap.Sobol(designs=0)
    with pytest.raises(ap.BadRequest, match=r"at most 21,201 axes.*merge"):
        unit_points(ap.Points.SOBOL, 2, 30_000, generator(0))
