"""Grad-CAM and HiResCAM: positions of a feature map, by the formulas of their papers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.backward import GRAD_CAM, GUIDED, grad_cam
from tests.oracles.maps import CLASS, LAYERS, ZEROS, cells, halves, maps_game, picture
from tests.small import close, cnn, normal, seeded


def by_hand(activation: Tensor, slope: Tensor) -> Tensor:
    """L = sum_k a_k A_k with a_k = 1/Z sum_ij dy / dA_k(i, j), in loops."""
    channels, height, width = activation.shape
    total = torch.zeros(height, width, dtype=activation.dtype)
    for k in range(channels):
        weight = sum(slope[k, i, j] for i in range(height) for j in range(width))
        total += weight / (height * width) * activation[k]
    return total.flatten()


@pytest.mark.parametrize("layer", LAYERS)
def test_is_the_formula_of_the_paper_with_its_sign(layer) -> None:
    x = picture()
    credit = ap.attribute(maps_game(layer, x).under(GRAD_CAM), ap.Gradient())
    activation, slope = halves(cnn(), layer, x)
    close(credit.scores, by_hand(activation[0], slope[0]), atol=1e-12)
    assert float(credit.scores.min()) < 0 < float(credit.scores.max())
    assert credit.gap is None and "selvaraju2017" in credit.provenance.cites


@pytest.mark.parametrize("layer", LAYERS)
def test_hires_cam_is_the_gate_gradient_itself(layer) -> None:
    """sum_k dy / dA_k(i, j) A_k(i, j). [draelos2020]"""
    x = picture()
    activation, slope = halves(cnn(), layer, x)
    credit = ap.attribute(maps_game(layer, x), ap.Gradient())
    close(credit.scores, (activation * slope).sum(1).flatten(), atol=1e-12)


def test_several_instances_and_outputs_are_maps_of_their_own() -> None:
    x = picture(instances=2)
    game = maps_game("2", x, target=(0, 2)).under(GRAD_CAM)
    together = ap.attribute(game, ap.Gradient()).scores
    assert together.shape == (2, 2, 64)
    for instance in range(2):
        for k, target in enumerate((0, 2)):
            one = x[instance : instance + 1]
            activation, slope = halves(cnn(), "2", one, target)
            close(together[instance, k], by_hand(activation[0], slope[0]), atol=1e-12)


class Pooled(nn.Module):
    """Convolution, mean over positions, linear head: the network of the first activation maps."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def test_behind_mean_pooling_both_are_the_class_activation_map_and_add_up() -> None:
    """w_k A_k(i, j) / Z, whose sum is the logit without its bias."""
    model, x = seeded(Pooled), picture()
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), cells("features", 6, 6), ZEROS)
    with torch.no_grad():
        activation = model.features(x)[0]
        expected = torch.einsum("k,kij->ij", model.head.weight[CLASS], activation) / 36
        logit = model(x)[0, CLASS] - model.head.bias[CLASS]
    for ruled in (game, game.under(GRAD_CAM)):
        credit = ap.attribute(ruled, ap.Gradient())
        close(credit.scores, expected.flatten(), atol=1e-12)
        close(credit.sum(), logit, atol=1e-12)


def test_along_the_path_the_weights_are_those_of_the_blended_map() -> None:
    x, at = picture(), 0.3
    activation, _ = halves(cnn(), "2", x)
    model = cnn()
    leaf = (at * activation).requires_grad_()
    (slope,) = torch.autograd.grad(model[3:](leaf)[:, CLASS].sum(), leaf)
    credit = ap.attribute(maps_game("2", x).under(GRAD_CAM), ap.Gradient(at=at))
    close(credit.scores, by_hand(activation[0], slope[0]), atol=1e-12)


def test_a_layer_that_writes_into_the_map_changes_nothing() -> None:
    x = picture()
    build = lambda inplace: seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(inplace=inplace), nn.Conv2d(4, 2, 3), nn.Flatten(),
            nn.Linear(32, 3),
        )
    )  # fmt: skip
    scores = []
    for inplace in (True, False):
        game = ap.ModelGame(build(inplace), x, ap.values.Logit(CLASS), cells("0", 6, 6), ZEROS)
        scores.append(ap.attribute(game.under(GRAD_CAM), ap.Gradient()).scores)
    close(*scores, atol=1e-14)


class Tokens(nn.Module):
    """Features last, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(3, 5), nn.Linear(30, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embed(x)).flatten(1))


def test_features_on_the_last_axis() -> None:
    model, x = seeded(Tokens), normal(1, 6, 3, seed=2)
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), cells("embed", 6, axis=-1), ZEROS)
    activation = model.embed(x).detach().requires_grad_()
    value = model.head(torch.tanh(activation).flatten(1))[0, CLASS]
    (slope,) = torch.autograd.grad(value, activation)
    credit = ap.attribute(game.under(grad_cam(axis=-1)), ap.Gradient())
    expected = torch.einsum("td,d->t", activation[0].detach(), slope[0].mean(0))
    close(credit.scores, expected, atol=1e-12)


def test_joined_with_a_table_the_site_weighs_its_bent_gradient() -> None:
    x = picture()
    guided = maps_game("0", x).under(GUIDED)
    joined = maps_game("0", x).under(GUIDED | GRAD_CAM)
    assert joined.question.rules.at_site is (GRAD_CAM | GUIDED).at_site
    # one player per element shows the bent gradient itself, on a linear first layer's output
    owner = torch.arange(4 * 64).reshape(4, 8, 8)
    names = tuple(map(str, range(owner.numel())))
    each = ap.players.Players(names, ("element",) * len(names), {ap.Site("0"): owner})
    step = ap.Blend(ap.removals.step(1.0))
    bent = ap.ModelGame(cnn(), x, ap.values.Logit(CLASS), each, step).under(GUIDED)
    slope = ap.attribute(bent, ap.Gradient()).scores.reshape(4, 8, 8)
    activation, _ = halves(cnn(), "0", x)
    scores = ap.attribute(joined, ap.Gradient()).scores
    close(scores, by_hand(activation[0], slope), atol=1e-12)
    assert not torch.allclose(scores, ap.attribute(guided, ap.Gradient()).scores)


def test_where_there_are_no_positions_it_is_the_plain_gradient() -> None:
    x = picture()
    players = ap.players.neurons(cnn(), "7")
    game = ap.ModelGame(cnn(), x, ap.values.Logit(CLASS), players, ZEROS)
    plain = ap.attribute(game, ap.Gradient()).scores
    close(ap.attribute(game.under(GRAD_CAM), ap.Gradient()).scores, plain, atol=0)


@pytest.mark.parametrize("axis", [0, True])
def test_an_axis_that_holds_no_channels_is_refused(axis) -> None:
    with pytest.raises(ap.BadRequest, match="is no axis of channels: 1 is the first"):
        grad_cam(axis)
