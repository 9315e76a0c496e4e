"""Frequencies as players: cross-domain integrated gradients, in closed form and the slow way."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.estimators import Quadrature
from apportion.views import Basis
from tests.contracts.made import Plainly, asking, tiny
from tests.small import close, normal

INPUT = ap.Site("", "in")
EXACT = ap.PathIntegral(steps=64, tolerance=None)
BOTH = pytest.mark.parametrize("length", [16, 15])


class Smooth(nn.Module):
    """tanh of a linear form, and a quadratic one."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * length, 3), nn.Linear(2 * length, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.first(x).tanh() + self.second(x) ** 2


def mirrored(full: Tensor, bins: int) -> Tensor:
    """Bins k and n - k of a whole transform in one."""
    n = full.shape[-1]
    return torch.stack([full[..., sorted({k, (n - k) % n})].sum(-1) for k in range(bins)], -1)


def slow(model: nn.Module, x: Tensor, x0: Tensor, steps: int) -> Tensor:
    """The paper's algorithm: whole complex transform, nodes i / steps, Re(difference x conjugate of
    the gradient), summed over channels.
    """
    coefficients, baseline = torch.fft.fft(x), torch.fft.fft(x0)
    total = torch.zeros_like(coefficients)
    for i in range(1, steps + 1):
        point = (baseline + i / steps * (coefficients - baseline)).requires_grad_()
        model(torch.fft.ifft(point).real)[0, 0].backward()
        total += point.grad.conj() / steps
    return ((coefficients - baseline) * total).real.sum((0, 1))


@BOTH
@pytest.mark.parametrize("axis", [-1, 1])
def test_path_integral_on_frequencies_is_cross_domain_integrated_gradients(length, axis) -> None:
    model = tiny(lambda: Smooth(length))
    x, x0 = normal(1, 2, length, seed=1), normal(1, 2, length, seed=2)
    seen, given, reference = model, x, x0
    if axis == 1:
        seen = nn.Sequential(Plainly(lambda t: t.movedim(1, -1)), model)
        given, reference = x.movedim(-1, 1), x0.movedim(-1, 1)
    players = ap.players.frequencies(given, axis=axis)
    game = asking(seen, given, ap.Blend(ap.removals.counterfactual(reference)), players=players)
    right = ap.PathIntegral(steps=20, nodes=Quadrature.RIGHT, tolerance=None)
    expected = mirrored(slow(model, x, x0, 20), length // 2 + 1)
    close(ap.attribute(game, right).scores, expected, atol=1e-12)
    credit = ap.attribute(game, EXACT)
    close(credit.sum(), model(x)[0, 0] - model(x0)[0, 0], atol=1e-10)
    assert abs(float(credit.gap)) < 1e-10


@BOTH
def test_linear_models_have_a_closed_form(length) -> None:
    """Re(conj(W_k) X_k) / n, twice where a bin has a mirrored one; by any estimator."""
    w, x = normal(length, seed=3), normal(1, 1, length, seed=4)
    model = Plainly(lambda t: (t.flatten(1) @ w)[:, None])
    each = (torch.fft.fft(w).conj() * torch.fft.fft(x[0, 0])).real / length
    game = asking(model, x, players=ap.players.frequencies(x))
    for estimator in (EXACT, ap.Gradient(), ap.LeaveOneOut(), ap.PermutationShapley(orders=2)):
        close(ap.attribute(game, estimator).scores, mirrored(each, length // 2 + 1), atol=1e-12)


def test_real_orthogonal_transforms_of_a_linear_model_multiply_coefficients() -> None:
    w, x, turn = normal(12, seed=3), normal(1, 12, seed=4), torch.linalg.qr(normal(12, 12))[0]
    players = replace(ap.players.columns(x), views={INPUT: Basis(turn)})
    game = asking(Plainly(lambda t: (t @ w)[:, None]), x, players=players)
    close(ap.attribute(game, EXACT).scores, (turn @ w) * (turn @ x[0]), atol=1e-12)


def test_the_identity_is_integrated_gradients() -> None:
    model, x = tiny(lambda: Smooth(6)), normal(1, 12, seed=4)
    columns = ap.players.columns(x)
    seen = replace(columns, views={INPUT: Basis(torch.eye(12).double())})
    ours, plain = (ap.attribute(asking(model, x, players=p), EXACT) for p in (seen, columns))
    close(ours.scores, plain.scores, atol=1e-12)


def test_several_signals_at_once_are_each_alone() -> None:
    model, x = tiny(lambda: Smooth(8)), normal(3, 2, 8, seed=4)
    together = ap.attribute(asking(model, x, players=ap.players.frequencies(x)), EXACT).scores
    for one, scores in zip(x, together, strict=True):
        alone = asking(model, one[None], players=ap.players.frequencies(one[None]))
        close(scores, ap.attribute(alone, EXACT).scores, atol=1e-12)


def test_a_band_is_the_sum_of_its_bins_on_the_path() -> None:
    """Gates of a path rise together, so groups of an integral are sums whatever the model."""
    model, x = tiny(lambda: Smooth(16)), normal(1, 2, 16, seed=4)
    bins, bands = ap.players.frequencies(x), ap.players.frequencies(x, [1, 3, 8])
    fine = ap.attribute(asking(model, x, players=bins), EXACT).scores
    groups = [[0], [1, 2], list(range(3, 9))]
    grouped = ap.attribute(asking(model, x, players=bins.merge(groups)), EXACT).scores
    close(grouped, torch.stack([fine[group].sum() for group in groups]))
    assert bands.names == ("bins 1 to 3", "bins 3 to 8")
    credit = ap.attribute(asking(model, x, players=bands), EXACT)
    ends = torch.tensor([[False, False], [True, True]])
    close(credit.sum(), asking(model, x, players=bands).value(ends).diff()[0], atol=1e-10)


# -- a network that listens for one tone

LENGTH, TONE = 64, 9


def tones(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sums of three sinusoids of random frequency and phase; half of them hold the tone."""
    rng = Generator().manual_seed(seed)
    others = torch.tensor([k for k in range(2, 30) if k != TONE])
    bins = others[torch.randint(len(others), (count, 3), generator=rng)]
    label = torch.arange(count) % 2
    bins[label == 1, 0] = TONE
    phase = 2 * torch.pi * torch.rand(count, 3, 1, generator=rng)
    time = torch.arange(LENGTH) / LENGTH
    return torch.cos(2 * torch.pi * bins[..., None] * time + phase).sum(1, keepdim=True), label


@cache
def listening() -> nn.Module:
    """A small convolutional network trained to tell whether the tone is there."""
    model = tiny(
        lambda: nn.Sequential(
            nn.Conv1d(1, 8, 17, padding=8), nn.ReLU(), nn.Conv1d(8, 16, 9, padding=4), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2),
        ),
        torch.float32,
    )  # fmt: skip
    x, label = tones(2048, 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    order = Generator().manual_seed(1)
    for _ in range(25):
        for rows in torch.randperm(len(x), generator=order).split(64):
            loss = nn.functional.cross_entropy(model(x[rows]), label[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.requires_grad_(False)


def test_credit_peaks_at_the_tone_a_network_listens_for_and_spreads_over_time() -> None:
    model = listening()
    x, label = tones(200, 5)
    assert float((model(x).argmax(1) == label).double().mean()) > 0.95
    heard = x[label == 1][:20]
    value = ap.values.Contrast(1, 0)
    estimator = ap.PathIntegral(steps=32, tolerance=None)
    shares = {}
    for name, build in (("bin", ap.players.frequencies), ("time", ap.players.time_steps)):
        game = asking(model, heard, players=build(heard), value=value)
        size = ap.attribute(game, estimator).scores.abs()
        shares[name] = (size / size.sum(-1, keepdim=True)).amax(-1)
        if name == "bin":
            assert float((size.argmax(-1) == TONE).double().mean()) >= 0.9
    assert float(shares["bin"].median()) > 0.4  # most of the credit in one of 33 bins
    assert float(shares["time"].median()) < 0.15  # and no step of 64 holds much of it
