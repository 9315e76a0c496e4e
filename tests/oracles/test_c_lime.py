"""C-LIME: least squares on Gaussian noise is SmoothGrad (Stein), and the box it draws in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import apportion as ap
from apportion.estimators.c_lime import cut_normal
from tests.oracles.slow import generator, within_noise
from tests.small import close, mlp, normal


class Wavy(nn.Module):
    """x'Ax / 2 + sum sin x."""

    def __init__(self, a: torch.Tensor) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x @ self.a * x).sum(-1) / 2 + x.sin().sum(-1))[:, None]


def around(model: nn.Module, x: torch.Tensor, width: float) -> ap.ModelGame:
    return ap.ModelGame(model, x, ap.values.Logit(0), ap.players.columns(x), ap.Around(width))


def symmetric(n: int) -> torch.Tensor:
    a = normal(n, n, seed=3)
    return (a + a.T) / 2


@pytest.mark.parametrize(("width", "sigma"), [(4.0, 0.125), (10.0, 0.05)])
def test_quadratic_and_sine_have_a_closed_form(width, sigma) -> None:
    """E grad f(x + xi) = A x + cos(x) exp(-s^2 / 2) at s = sigma * width."""
    a, x = symmetric(4), normal(1, 4, seed=1)
    expected = width * (x[0] @ a + x[0].cos() * math.exp(-((sigma * width) ** 2) / 2))
    estimator = ap.CLime(samples=800, sigma=sigma)
    credits = [ap.attribute(around(Wavy(a), x, width), estimator, seed=s) for s in range(60)]
    off = torch.stack([c.scores - expected for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.90 <= float(covered) <= 0.99


def test_is_smoothgrad_on_a_network() -> None:
    """The averaged gradient of the same game with noise added, from gradients instead of values."""
    model, x, spread = mlp(), normal(1, 6, seed=1), 0.5
    width = spread / 0.1
    ours = ap.attribute(around(model, x, width), ap.CLime(samples=20_000))
    smooth = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.columns(x),
        ap.Jitter(ap.Blend(ap.removals.step(width)), spread),
    )  # fmt: skip
    theirs = ap.attribute(smooth, ap.AveragedGradient(samples=20_000))
    error = (ours.error.square() + theirs.error.square()).sqrt()
    assert float(((ours.scores - theirs.scores).abs() / error).max()) < 4


def test_quadratic_functions_need_no_luck() -> None:
    a, x = symmetric(5), normal(1, 5, seed=1)
    model = Wavy(a)
    model.forward = lambda z: ((z @ a * z).sum(-1) / 2)[:, None]
    credit = ap.attribute(around(model, x, 2.0), ap.CLime(samples=20))
    close(credit.scores, 2.0 * (x[0] @ a))


def test_equals_least_squares_with_intercept_on_its_gates() -> None:
    model, x = mlp(), normal(1, 6, seed=1)
    game = around(model, x, 3.0)
    credit = ap.attribute(game, ap.CLime(samples=60, sigma=0.1), seed=4)
    away = cut_normal(torch.rand(30, 6, generator=generator(4), dtype=torch.float64), 0.1)
    both = torch.cat([away, -away])
    with torch.no_grad():
        y = model(x + 3.0 * both)[:, 0].numpy()
    design = np.column_stack([np.ones(60), both.numpy()])
    close(credit.scores, torch.as_tensor(np.linalg.lstsq(design, y, rcond=None)[0][1:]))


def test_where_gates_are_products_it_is_the_banzhaf_value() -> None:
    """The slope of a multilinear function over independent noise is its gradient at 1/2."""
    game = ap.toy.moebius(6, 4, generator(1))
    credits = [ap.attribute(game, ap.CLime(samples=300), seed=s) for s in range(40)]
    within_noise(torch.stack([c.scores - game.banzhaf() for c in credits]))


def test_noise_is_normal_and_cut_at_the_ends_of_the_gates() -> None:
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    for sigma in (0.05, 0.125):
        x = cut_normal(u, sigma)
        assert float(x.abs().max()) <= 0.5 and float(x[5000]) == 0
        inner = u[1:-1]
        edge = math.erf(0.5 / sigma / math.sqrt(2))
        reached = 0.5 + torch.erf(x[1:-1] / sigma / math.sqrt(2)) / edge / 2
        close(reached, inner, atol=1e-9)


def test_the_box_has_the_input_in_its_middle() -> None:
    model, x = mlp(), normal(2, 6, seed=1)
    game = around(model, x, 3.0)
    gates = torch.rand(5, 6, generator=generator(2), dtype=torch.float64)
    with torch.no_grad():
        close(game.value(torch.full((1, 6), 0.5).double())[0], model(x)[:, 0], atol=1e-12)
        moved = torch.stack([model(x + 3.0 * (g - 0.5))[:, 0] for g in gates])
        corner = model(x + 1.5)[:, 0]
    close(game.value(gates), moved, atol=1e-12)
    close(game.value(torch.ones(1, 6, dtype=torch.bool))[0], corner, atol=1e-12)
    _, slopes = game.grad(torch.full((1, 6), 0.5).double())
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
    close(slopes[0], 3.0 * plain)
    with pytest.raises(ap.BadRequest, match="undefined"):
        game.value(torch.zeros(1, 6, dtype=torch.bool))
    single = around(model.float(), x.float(), 3.0)
    assert single.value(gates).dtype == torch.float32
    for width in (0.0, -1.0, float("inf")):
        with pytest.raises(ap.BadRequest, match="width"):
            ap.Around(width)


def test_stops_at_a_precision() -> None:
    game = around(mlp(), normal(1, 6, seed=1), 8.0)
    credit = ap.attribute(game, ap.CLime(samples=50_000, until=ap.StandardError(0.05)))
    assert float(credit.error.max()) <= 0.05 and credit.cost.evaluations < 50_000
    short = ap.attribute(game, ap.CLime(samples=60, until=ap.StandardError(1e-12)))
    assert "ceiling" in short.provenance.notes[0]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match=r"up to 0\.125.*Around\(width\)"):
        ap.CLime(sigma=0.2)
    with pytest.raises(ap.BadRequest, match="minimum is 16"):
        ap.attribute(ap.toy.additive(torch.ones(6)), ap.CLime(samples=15))
    with pytest.raises(ap.NotSoft, match="soft gates"):
        ap.attribute(ap.toy.additive(torch.ones(6), domain="binary"), ap.CLime())
    with pytest.raises(ap.BadRequest, match=r"5,000 players.*Jitter"):
        ap.CLime(samples=20_000).cost(5000)
