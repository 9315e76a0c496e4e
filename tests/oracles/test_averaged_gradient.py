"""Averaged gradients: SmoothGrad and expected gradients where the expectation is a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import generator, within_noise
from tests.small import close, mlp, normal, seeded

N = 5


class Wavy(nn.Module):
    """f(x) = x' A x / 2 + strength * sum sin x, for rows x; one class."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        square = normal(N, N, seed=3)
        self.register_buffer("a", square + square.T)
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        quadratic = torch.einsum("ri,ij,rj->r", x, self.a, x) / 2
        return (quadratic + self.strength * torch.sin(x).sum(-1))[:, None]


def smooth_game(model: nn.Module, sigma: float, *, times_input: bool) -> ap.ModelGame:
    x = normal(1, N, seed=1)
    reference = ap.removals.zeros() if times_input else ap.removals.step(1.0)
    return ap.ModelGame(
        model,
        x,
        ap.values.Logit(0),
        ap.players.columns(x),
        ap.Jitter(ap.Blend(reference), sigma),
    )


@pytest.mark.parametrize("times_input", [False, True])
def test_smoothgrad_is_the_gradient_of_the_smoothed_function(times_input) -> None:
    """E grad f(x + noise) = A x + strength cos(x) exp(-sigma^2 / 2). [smilkov2017]"""
    sigma, model = 0.7, Wavy(1.5)
    game, x = smooth_game(model, sigma, times_input=times_input), normal(1, N, seed=1)[0]
    expected = model.a @ x + 1.5 * torch.cos(x) * torch.exp(torch.tensor(-(sigma**2) / 2))
    expected = expected * x if times_input else expected
    credits = [
        ap.attribute(game, ap.AveragedGradient(samples=64), seed=s, chunk=500) for s in range(60)
    ]
    off = torch.stack([c.scores - expected for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.91 <= float(covered) <= 0.98


def test_smoothgrad_of_a_linear_model_needs_one_sample() -> None:
    model = seeded(lambda: nn.Linear(N, 1))
    credit = ap.attribute(
        smooth_game(model, 2.0, times_input=False), ap.AveragedGradient(samples=3)
    )
    close(credit.scores, model.weight[0].detach())
    close(credit.error, torch.zeros(N))


def test_variance_on_a_quadratic_is_known_and_falls_as_one_over_samples() -> None:
    """grad f(x + e) = A x + A e: the variance of coordinate i is sigma^2 |A_i|^2 / samples."""
    sigma, model = 0.5, Wavy(0.0)
    game = smooth_game(model, sigma, times_input=False)
    truth = model.a @ normal(1, N, seed=1)[0]
    for samples in (8, 64):
        estimator = ap.AveragedGradient(samples=samples)
        runs = torch.stack(
            [ap.attribute(game, estimator, seed=s, chunk=500).scores for s in range(100)]
        )
        within_noise(runs - truth)
        ratio = (runs - truth).square().mean(0) * samples / (sigma**2 * model.a.square().sum(1))
        # a mean of 100 squared normals: standard deviation sqrt(2 / 100)
        assert float((ratio - 1).abs().max()) < 4 * (2 / 100) ** 0.5


def background_game(model: nn.Module, rows: Tensor) -> ap.ModelGame:
    x = normal(1, N, seed=1)
    return ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ap.removals.rows(rows))
    )


def test_expected_gradients_of_a_quadratic() -> None:
    """E over rows b and a ~ U(0, 1) of (x - b)_i [A (b + a (x - b))]_i is the mean over rows of
    (x - b)_i [A (x + b) / 2]_i. [erion2021]
    """
    model, rows, x = Wavy(0.0), normal(7, N, seed=6), normal(1, N, seed=1)[0]
    expected = torch.stack([(x - b) * (model.a @ (x + b)) / 2 for b in rows]).mean(0)
    game = background_game(model, rows)
    estimator = ap.AveragedGradient(samples=200, start=0.0)
    credits = [ap.attribute(game, estimator, seed=s, chunk=500) for s in range(80)]
    off = torch.stack([c.scores - expected for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.91 <= float(covered) <= 0.98
    ends = model(x[None])[0, 0] - model(rows)[:, 0].mean()
    within_noise(torch.stack([c.sum() - ends for c in credits])[:, None])


def test_expected_gradients_of_a_linear_model() -> None:
    """w (x - b) with b the rows drawn: unbiased for w (x - mean b), exact for one row."""
    model, rows, x = mlp(N, 4, 1), normal(6, N, seed=6), normal(1, N, seed=1)[0]
    linear = seeded(lambda: nn.Linear(N, 1))
    single = ap.attribute(
        background_game(linear, rows[:1]), ap.AveragedGradient(samples=2, start=0.0)
    )
    close(single.scores, linear.weight[0].detach() * (x - rows[0]))
    estimator = ap.AveragedGradient(samples=50, start=0.0)
    game = background_game(linear, rows)
    runs = torch.stack([ap.attribute(game, estimator, seed=s, chunk=500).scores for s in range(60)])
    within_noise(runs - linear.weight[0].detach() * (x - rows.mean(0)))
    # one background row: integrated gradients from that row
    game = background_game(model, rows[:1])
    path = ap.attribute(game, ap.PathIntegral(steps=40)).scores
    runs = torch.stack([ap.attribute(game, estimator, seed=s, chunk=500).scores for s in range(60)])
    within_noise(runs - path)


def test_equals_the_mean_over_its_own_draws_and_levels() -> None:
    """The same random rows and levels, one autograd gradient at a time."""
    model, rows, x = mlp(N, 6, 1), normal(4, N, seed=6), normal(1, N, seed=1)
    credit = ap.attribute(
        background_game(model, rows), ap.AveragedGradient(samples=12, start=0.25), seed=9
    )
    rng = generator(9)
    which = torch.randint(4, (12,), generator=rng)
    level = 0.25 + 0.75 * torch.rand(12, 1, generator=rng, dtype=torch.float64)
    terms = []
    for k, a in zip(which.tolist(), level[:, 0].tolist(), strict=True):
        leaf = (rows[k] + a * (x - rows[k])).requires_grad_()
        terms.append((torch.autograd.grad(model(leaf)[0, 0], leaf)[0] * (x - rows[k]))[0])
    samples = torch.stack(terms)
    close(credit.scores, samples.mean(0), atol=1e-12)
    close(credit.error, samples.std(0) / 12**0.5, atol=1e-12)


def test_from_zero_on_a_multilinear_game_it_tends_to_shapley() -> None:
    game = toy.moebius(6, 3, generator(4))
    estimator = ap.AveragedGradient(samples=100, start=0.0)
    runs = torch.stack([ap.attribute(game, estimator, seed=s, chunk=500).scores for s in range(60)])
    within_noise(runs - game.shapley())
