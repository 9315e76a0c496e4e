"""Variances and squares of gradients where the distribution is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.estimators import Moment
from apportion.estimators._moments import Running
from apportion.estimators._spread import Spread
from tests.oracles.slow import generator, within_noise
from tests.oracles.test_averaged_gradient import N, Wavy, background_game, smooth_game
from tests.small import close, mlp, normal, seeded

X = normal(1, N, seed=1)[0]


def runs_of(game: ap.ModelGame, estimator: ap.GradientMoment, seeds: int) -> list:
    return [ap.attribute(game, estimator, seed=s, chunk=1000) for s in range(seeds)]


def covers(credits: list, truth: torch.Tensor) -> float:
    off = torch.stack([c.scores - truth for c in credits])
    reach = torch.stack([c.reach * c.error for c in credits])
    return float((off.abs() <= reach).double().mean())


@pytest.mark.parametrize("times_input", [False, True])
def test_moments_of_a_quadratic_under_gaussian_noise(times_input) -> None:
    """grad f(x + e) = A x + A e is normal with variance sigma^2 |A_i|^2: unbiased, and intervals
    cover. [adebayo2018b]
    """
    sigma, model = 0.5, Wavy(0.0)
    game = smooth_game(model, sigma, times_input=times_input)
    scale = (X if times_input else torch.ones(N)) ** 2
    variance = sigma**2 * model.a.square().sum(1)
    # noise is added behind the gate, so the gate's factor is x itself
    truth = {
        Moment.VARIANCE: variance * scale,
        Moment.SQUARE: (variance + (model.a @ X) ** 2) * scale,
    }
    for moment, expected in truth.items():
        credits = runs_of(game, ap.GradientMoment(moment=moment, samples=128), 60)
        within_noise(torch.stack([c.scores - expected for c in credits]))
        assert 0.90 <= covers(credits, expected) <= 0.98


def test_the_error_of_a_normal_variance_is_its_chi_square_s() -> None:
    """Var s^2 = 2 sigma^4 / (n - 1), which the estimate tends to."""
    sigma, model = 0.5, Wavy(0.0)
    game = smooth_game(model, sigma, times_input=False)
    credit = ap.attribute(game, ap.GradientMoment(samples=8000), chunk=8000)
    variance = sigma**2 * model.a.square().sum(1)
    ratio = credit.error / (variance * (2 / 7999) ** 0.5)
    assert float((ratio - 1).abs().max()) < 0.1


def test_variance_over_backgrounds_and_levels_of_a_linear_model_is_that_of_the_background() -> None:
    """The gate gradient is w_i (x_i - b_i): variance w_i^2 var(b_i), whatever the level."""
    model, rows = seeded(lambda: nn.Linear(N, 1)), normal(7, N, seed=6)
    credits = runs_of(background_game(model, rows), ap.GradientMoment(samples=100, start=0.0), 60)
    expected = model.weight[0].detach() ** 2 * rows.var(0, correction=0)
    within_noise(torch.stack([c.scores - expected for c in credits]))


def test_equals_the_moments_of_its_own_draws_and_levels() -> None:
    model, rows, x = mlp(N, 6, 1), normal(4, N, seed=6), normal(1, N, seed=1)
    rng = generator(9)
    which = torch.randint(4, (12,), generator=rng)
    level = 0.25 + 0.75 * torch.rand(12, 1, generator=rng, dtype=torch.float64)
    terms = []
    for k, a in zip(which.tolist(), level[:, 0].tolist(), strict=True):
        leaf = (rows[k] + a * (x - rows[k])).requires_grad_()
        terms.append((torch.autograd.grad(model(leaf)[0, 0], leaf)[0] * (x - rows[k]))[0])
    samples, game = torch.stack(terms), background_game(model, rows)
    ask = lambda m: ap.attribute(game, ap.GradientMoment(moment=m, samples=12, start=0.25), seed=9)
    close(ask(Moment.VARIANCE).scores, samples.var(0), atol=1e-12)
    square = ask(Moment.SQUARE)
    close(square.scores, (samples**2).mean(0), atol=1e-12)
    close(square.error, (samples**2).std(0) / 12**0.5, atol=1e-12)
    # square = variance + mean^2, with the biased variance
    mean = ap.attribute(game, ap.AveragedGradient(samples=12, start=0.25), seed=9).scores
    close(square.scores, ask(Moment.VARIANCE).scores * 11 / 12 + mean**2, atol=1e-12)


def test_power_sums_in_pieces_are_the_moments_of_all_samples_also_far_from_zero() -> None:
    samples = normal(200, 3, seed=2) ** 2 + 1e6
    pile = Spread()
    for part in samples.split(17):
        pile.add(part)
    variance, error = pile.result()
    close(variance, samples.var(0), rtol=1e-9, atol=0)
    off = samples - samples.mean(0)
    plug = ((off**4).mean(0) - samples.var(0) ** 2 * 197 / 199) / 200
    close(error, plug.sqrt(), rtol=1e-6, atol=0)
    plain = Running()
    plain.add(samples)
    close(variance / 200, plain.result()[1] ** 2, rtol=1e-9, atol=0)


def test_few_samples_say_that_they_cannot_tell_an_error() -> None:
    game = smooth_game(Wavy(1.0), 0.5, times_input=False)
    few = ap.attribute(game, ap.GradientMoment(samples=3))
    assert few.error is None and "ask for 4" in few.provenance.error_note


def test_bad_requests() -> None:
    plain = background_game(mlp(N, 6, 1), normal(1, N, seed=6))
    with pytest.raises(ap.BadRequest, match=r"Jitter\(removal, sigma\) for VarGrad"):
        ap.attribute(plain, ap.GradientMoment())
    with pytest.raises(ap.BadRequest, match="at least two samples"):
        ap.GradientMoment(samples=1)
    with pytest.raises(ap.BadRequest, match="between 0 and 1"):
        ap.GradientMoment(start=1.5)
