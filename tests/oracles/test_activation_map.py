"""Maps from credit of channels: Ablation-CAM, Score-CAM, and where both are the plain map."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import apportion as ap
from apportion.backward import GRAD_CAM
from apportion.maps import activation_map, masks, seen_through
from tests.oracles.maps import CLASS, ZEROS, halves, maps_game, picture
from tests.oracles.test_grad_cam import Pooled
from tests.small import close, cnn, normal, seeded

LAYER = "2"


def channel_game(x: Tensor, layer: str = LAYER, removal: object = ZEROS) -> ap.ModelGame:
    players = ap.players.channels(cnn(), layer, input=x)
    return ap.ModelGame(cnn(), x, ap.values.Logit(CLASS), players, removal)


def pixel_game(x: Tensor) -> ap.ModelGame:
    return ap.ModelGame(cnn(), x, ap.values.Logit(CLASS), ap.players.pixels(x), ZEROS)


def cell_players(x: Tensor, layer: str = LAYER) -> ap.players.Players:
    return ap.players.cells(cnn(), layer, input=x)


def test_ablation_cam_is_the_formula_of_the_paper_times_the_value() -> None:
    """w_k = (y - y_k) / y with channel k set to zero, L = sum_k w_k A_k, in loops."""
    x = picture()
    model, cut = cnn(), int(LAYER) + 1
    credit = ap.attribute(channel_game(x), ap.LeaveOneOut())
    ours = activation_map(credit, channel_game(x), cell_players(x))
    with torch.no_grad():
        maps = model[:cut](x)
        value = model[cut:](maps)[0, CLASS]
        total = torch.zeros(maps.shape[2:], dtype=torch.float64)
        for k in range(maps.shape[1]):
            without = maps.clone()
            without[:, k] = 0
            total += (value - model[cut:](without)[0, CLASS]) / value * maps[0, k]
    close(ours.scores / value, total.flatten(), atol=1e-12)
    assert ours.players.kinds == ("cell",) * 64 and ours.gap is None
    assert ours.cost == credit.cost and ours.error is None and ours.provenance.error_note


def test_score_cam_is_the_formula_of_the_paper() -> None:
    """C(A_k) = f(x . s(up A_k)) - f(baseline), L = sum_k C_k A_k, without the softmax."""
    x = picture()
    model = cnn()
    maps = halves(model, LAYER, x)[0]
    weights = []
    with torch.no_grad():
        for k in range(maps.shape[1]):
            up = F.interpolate(maps[:, k : k + 1], (8, 8), mode="bilinear", align_corners=False)
            shown = (up - up.min()) / (up.max() - up.min())
            weights.append((model(x * shown) - model(torch.zeros_like(x)))[0, CLASS])
    credit = ap.attribute(pixel_game(x), seen_through(channel_game(x)))
    close(credit.scores, torch.stack(weights), atol=1e-12)
    assert credit.players.kinds == ("channel",) * 4 and credit.cost == ap.Cost(evaluations=5)
    assert "wang2020" in credit.provenance.cites
    ours = activation_map(credit, channel_game(x), cell_players(x))
    expected = torch.einsum("k,kij->ij", torch.stack(weights), maps[0])
    close(ours.scores, expected.flatten(), atol=1e-12)


def test_a_smaller_map_is_stretched_over_the_picture_and_averaged_over_patches() -> None:
    x = picture()
    maps = halves(cnn(), "5", x)[0][0]
    up = F.interpolate(maps[None], (8, 8), mode="bilinear", align_corners=False)[0]
    low, high = up.amin((1, 2), keepdim=True), up.amax((1, 2), keepdim=True)
    shown = torch.where(high > low, (up - low) / (high - low), torch.zeros(()).double())
    close(masks(maps, ap.players.pixels(x)), shown.flatten(1), atol=1e-12)
    coarse = F.avg_pool2d(shown, 4).flatten(1)
    close(masks(maps, ap.players.patches(x, 4)), coarse, atol=1e-12)


def test_a_channel_that_is_the_same_everywhere_shows_nothing() -> None:
    flat = torch.ones(1, 4, 4)
    close(masks(flat, ap.players.pixels(picture())), torch.zeros(1, 64))


def test_behind_mean_pooling_leave_one_out_is_the_class_activation_map_of_each_cell() -> None:
    """Channel k is worth w_k mean A_k, so the map is sum w_k mean(A_k) A_k(i, j)."""
    model, x = seeded(Pooled), picture()
    players = ap.players.channels(model, "features", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(CLASS), players, ZEROS)
    ours = activation_map(
        ap.attribute(game, ap.LeaveOneOut()), game, ap.players.cells(model, "features", input=x)
    )
    with torch.no_grad():
        maps = model.features(x)[0]
        worth = model.head.weight[CLASS] * maps.mean((1, 2))
    close(ours.scores, torch.einsum("k,kij->ij", worth, maps).flatten(), atol=1e-12)


def test_with_gradients_as_weights_it_is_grad_cam() -> None:
    """Under a unit step the gradient of a channel's gate is the sum of its positions' gradients:
    Grad-CAM's mean, times the number of positions.
    """
    x = picture()
    step = ap.Blend(ap.removals.step(1.0))
    game = channel_game(x, removal=step)
    ours = activation_map(ap.attribute(game, ap.Gradient()), game, cell_players(x))
    direct = ap.attribute(maps_game(LAYER, x).under(GRAD_CAM), ap.Gradient())
    close(ours.scores / 64, direct.scores, atol=1e-12)


def test_errors_are_bounds_and_several_outputs_several_maps() -> None:
    x = picture()
    game = channel_game(x).explaining(ap.values.Logit((0, 2)))
    credit = ap.attribute(game, ap.PermutationShapley(orders=6))
    ours = activation_map(credit, game, cell_players(x))
    maps = halves(cnn(), LAYER, x)[0][0].flatten(1)
    close(ours.scores, credit.scores @ maps, atol=1e-12)
    close(ours.error, credit.error @ maps.abs(), atol=1e-12)
    assert "bound" in ours.provenance.error_note and ours.freedom == credit.freedom
    # weights that err independently err less
    assert bool((ours.error >= (credit.error**2 @ maps**2).sqrt() - 1e-12).all())


def test_bad_requests() -> None:
    x = picture()
    game = channel_game(x)
    credit = ap.attribute(game, ap.Gradient())
    with pytest.raises(ap.BadRequest, match=r"same layer: ap\.players\.cells\(model, '2'"):
        activation_map(credit, game, cell_players(x, "5"))
    with pytest.raises(ap.BadRequest, match="the game of the layer"):
        activation_map(credit, channel_game(x, "5"), cell_players(x))
    with pytest.raises(ap.BadRequest, match="show a map to pixels"):
        masks(torch.ones(2, 3, 3), ap.players.columns(normal(1, 6)))
    both = game.players | ap.players.neurons(cnn(), "7")
    mixed = ap.ModelGame(cnn(), x, ap.values.Logit(CLASS), both, ZEROS)
    with pytest.raises(ap.BadRequest, match="live at 2 places"):
        seen_through(mixed)
    with pytest.raises(ap.BadRequest, match="is of one input"):
        seen_through(channel_game(picture(instances=2)))
    flat = ap.ModelGame(cnn(), x, ap.values.Logit(0), ap.players.neurons(cnn(), "7"), ZEROS)
    with pytest.raises(ap.BadRequest, match="height, width"):
        seen_through(flat)


def test_the_page_s_compositions_are_the_maps_it_names() -> None:
    page = Path(__file__).parents[2] / "docs" / "class-maps.md"
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    x = picture()
    found = scope["class_maps"](cnn(), x, LAYER, CLASS)
    activation, slope = halves(cnn(), LAYER, x)
    close(found["HiResCAM"].scores, (activation * slope).sum(1).flatten(), atol=1e-12)
    weights = slope.mean((2, 3), keepdim=True)
    close(found["Grad-CAM"].scores, (activation * weights).sum(1).flatten(), atol=1e-12)
    for name, credit in (
        ("Ablation-CAM", ap.attribute(channel_game(x), ap.LeaveOneOut())),
        ("Score-CAM", ap.attribute(pixel_game(x), seen_through(channel_game(x)))),
    ):
        expected = credit.scores.double() @ activation[0].flatten(1)
        close(found[name].scores, expected, atol=1e-12)
