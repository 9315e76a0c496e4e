"""References made of noise: Gaussian, of the size asked for, one per draw."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.removals import Reference
from apportion.taps import Call
from tests.contracts.made import HIDDEN, asking, some
from tests.small import IDS, close, decoder, mlp, normal, seeded

X = normal(2, 3, 10, 10, seed=1)
BUILD = {
    "noisy": (ap.removals.noisy(0.5), lambda x: (x - X) / 0.5),
    "noise": (ap.removals.noise(0.5, mean=-2.0), lambda x: (x + 2.0) / 0.5),
}
EACH = pytest.mark.parametrize("name", list(BUILD))


def made(reference: Reference, index: int) -> torch.Tensor:
    return reference.inputs(Call.of(X), index).args[0]


@EACH
def test_the_noise_is_gaussian_of_the_given_size_and_shared_by_instances(name) -> None:
    reference, standard = BUILD[name]
    noise = torch.stack([standard(made(reference, d)) for d in range(60)])
    close(noise[:, 0], noise[:, 1], atol=1e-9)
    flat = noise[:, 0].flatten()
    assert abs(float(flat.mean())) < 4 / flat.numel() ** 0.5
    assert abs(float(flat.std()) - 1) < 4 / (2 * flat.numel()) ** 0.5
    assert abs(float(flat.pow(4).mean()) - 3) < 4 * (96 / flat.numel()) ** 0.5
    draws = noise[:, 0].flatten(1)
    off = torch.corrcoef(draws).fill_diagonal_(0)
    assert float(off.abs().max()) < 5.5 / draws.shape[1] ** 0.5


@EACH
def test_inside_a_model_it_is_what_noise_at_the_input_causes(name) -> None:
    model, x = mlp(), normal(1, 6)
    players = ap.players.neurons(model, HIDDEN)
    reference = BUILD[name][0]
    game = asking(model, x, ap.Blend(reference), players=players)
    gates, draws = some(8, rows=4), torch.tensor([0, 5, 5, 9])
    for row, d, got in zip(gates, draws, game.value(gates, draws), strict=True):
        other = model[0](reference.inputs(Call.of(x), int(d)).args[0])
        hidden = torch.where(row, model[0](x), other)
        close(got, model[1:](hidden)[0, 0].detach(), atol=1e-12)


@EACH
def test_averages_over_draws_settle(name) -> None:
    """The linear part of a linear model: noise averages out to the input, or to its mean."""
    model, x = seeded(lambda: torch.nn.Linear(6, 1, bias=False)), normal(1, 6)
    game = asking(model, x, ap.Blend(BUILD[name][0]))
    nobody = torch.zeros(1, 6, dtype=torch.bool)
    value = float(ap.averaged(game, 3000, seed=1).value(nobody))
    weights = model.weight.detach()[0]
    middle = float(weights @ x[0]) if name == "noisy" else -2.0 * float(weights.sum())
    assert abs(value - middle) < 4 * 0.5 * float(weights.norm()) / 3000**0.5


def test_a_dead_player_does_not_make_the_game_look_for_ever() -> None:
    """Noise never ends, so who is idle is told from a few draws."""
    model = seeded(
        lambda: torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    )
    with torch.no_grad():
        model[0].bias[1] = -1e6
    x = normal(1, 6)
    players = ap.players.neurons(model, "1", input=x)
    game = asking(model, x, ap.Blend(ap.removals.noise(1.0)), players=players)
    assert "leaving them out changes nothing" in game.describe().notes[0]


def test_numbers_per_channel_go_to_their_channels() -> None:
    reference = ap.removals.noise((1e-9, 1e-9, 1e-9), mean=(1.0, 2.0, 3.0))
    close(made(reference, 0).mean((0, 2, 3)), torch.tensor([1.0, 2.0, 3.0]), atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.removals.noisy(0), "positive and finite"),
        (lambda: ap.removals.noisy(float("nan")), "positive and finite"),
        (lambda: ap.removals.noise(-1.0), "positive and finite"),
        (lambda: ap.removals.noise((1.0, 0.0)), "positive and finite"),
        (lambda: ap.removals.noise(()), "no numbers"),
        (lambda: ap.removals.noise(1.0, mean=float("inf")), "mean must be finite"),
        (lambda: made(ap.removals.noise((1.0, 2.0)), 0), "one per channel"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


@EACH
def test_noise_on_token_numbers_is_refused(name) -> None:
    model = decoder()
    players = ap.players.tokens(model, IDS)
    with pytest.raises(ap.BadRequest, match="noise on token numbers"):
        asking(model, IDS, ap.Blend(BUILD[name][0]), players=players)
