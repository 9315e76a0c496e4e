"""The gate as a level of blur: linear between levels, and a path that adds up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import apportion as ap
from apportion.removals import Removal
from tests.contracts.made import Plainly, asking, hard, soft, some
from tests.small import central_difference, close, cnn, normal, seeded

X = normal(2, 2, 8, 8, seed=1)
SIGMA, LEVELS = 3.0, 5


def blurred(x: Tensor, sigma: float) -> Tensor:
    axes = (0,) * (x.ndim - 2) + (sigma, sigma)
    return torch.from_numpy(gaussian_filter(x.numpy(), axes, mode="nearest"))


def level(x: Tensor, number: int, levels: int = LEVELS) -> Tensor:
    """Level l of the pyramid, by scipy: sigma_l = sigma (1 - l / (L - 1))."""
    sigma = SIGMA * (1 - number / (levels - 1))
    return blurred(x, sigma) if sigma > 0 else x


def at(x: Tensor, gate: Tensor) -> Tensor:
    """The picture at a map of gates, pixel by pixel."""
    out = torch.empty_like(x)
    for r, c in np.ndindex(8, 8):
        height = float(gate[r, c]) * (LEVELS - 1)
        low = min(int(height), LEVELS - 2)
        mixed = (1 - height + low) * level(x, low) + (height - low) * level(x, low + 1)
        out[..., r, c] = mixed[..., r, c]
    return out


def look(removal: Removal | None = None, x: Tensor = X) -> ap.ModelGame:
    value = ap.values.Logit(tuple(range(128)))
    removal = ap.removals.Pyramid(SIGMA, LEVELS) if removal is None else removal
    return asking(Plainly(lambda x: x.flatten(1)), x, removal, players=ap.players.pixels(x),
                  value=value)  # fmt: skip


def test_soft_gates_are_levels_of_blur_and_linear_between_them() -> None:
    gates = torch.cat([soft(64), torch.linspace(0, 1, 64, dtype=torch.float64)[None]])
    values = look().value(gates).unflatten(-1, (2, 8, 8))
    for row, got in zip(gates, values, strict=True):
        close(got, at(X, row.reshape(8, 8)), atol=1e-12)


def test_hard_gates_are_the_sharp_and_the_most_blurred_picture() -> None:
    gates = some(64)
    values = look().value(gates).unflatten(-1, (2, 8, 8))
    both = torch.where(gates.reshape(-1, 1, 1, 8, 8), X, blurred(X, SIGMA))
    close(values, both, atol=1e-12)
    for one in (hard("1" * 64), torch.ones(1, 64, dtype=torch.float64)):
        assert torch.equal(look().value(one).unflatten(-1, (2, 8, 8))[0], X)


def test_two_levels_are_the_blend_with_the_blurred_picture() -> None:
    game, blend = look(ap.removals.Pyramid(2.0, 2)), look(ap.Blend(ap.removals.blur(2.0)))
    gates = soft(64)
    close(game.value(gates), blend.value(gates), atol=1e-12)
    close(game.grad(gates)[1], blend.grad(gates)[1], atol=1e-12)


def smooth() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(),
                              nn.Linear(256, 3))
    )  # fmt: skip


def test_slopes_are_differences_of_values() -> None:
    game = asking(
        smooth(), X[:1], ap.removals.Pyramid(SIGMA, LEVELS), players=ap.players.patches(X[:1], 4)
    )
    gates = soft(4)
    close(game.grad(gates)[1], central_difference(game, gates, 1e-6), atol=1e-7)


def test_a_path_through_the_levels_is_blur_integrated_gradients() -> None:
    """Equal to a slow loop over the polygon of levels, and complete."""
    model, x, nodes = smooth(), X[:1], 4
    game = asking(model, x, ap.removals.Pyramid(SIGMA, LEVELS), players=ap.players.pixels(x))
    steps = nodes * (LEVELS - 1)
    rule = ap.Quadrature.MIDPOINT
    credit = ap.attribute(game, ap.PathIntegral(steps=steps, nodes=rule, tolerance=None))
    slow = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    for low in range(LEVELS - 1):
        start, end = level(x, low), level(x, low + 1)
        for k in range(nodes):
            here = (start + (end - start) * (k + 0.5) / nodes).requires_grad_()
            slope = torch.autograd.grad(model(here)[0, 0], here)[0]
            slow += slope * (end - start) / nodes
    close(credit.scores, slow.sum((0, 1)).flatten(), atol=1e-10)
    change = float((credit.full - credit.none).abs())
    gaps = []
    for times in (4, 16, 64):
        fine = ap.PathIntegral(steps=times * (LEVELS - 1), nodes=rule, tolerance=None)
        gaps.append(abs(float(ap.attribute(game, fine).gap)))
    assert gaps[2] < 1e-4 * change
    # the midpoint rule on smooth pieces: 1 / steps^2
    assert gaps[0] / gaps[1] > 12 and gaps[1] / gaps[2] > 12


def test_inside_a_model_the_levels_are_what_blurred_pictures_cause() -> None:
    model, x = cnn(), X[:1]
    players = ap.players.channels(model, "2", input=x)
    game = asking(model, x, ap.removals.Pyramid(SIGMA, LEVELS), players=players)
    assert game.setup.forwards == LEVELS  # the clean run, and every level but the sharp one
    gate = torch.full((1, players.n), 0.6, dtype=torch.float64)
    height = 0.6 * (LEVELS - 1)
    low = int(height)
    with torch.no_grad():
        a, b = (model[:3](level(x, n)) for n in (low, low + 1))
        close(game.value(gate), model[3:]((1 - height + low) * a + (height - low) * b)[0, :1])
        close(game.value(torch.ones(1, players.n)), model(x)[0, :1], atol=1e-6)


def test_it_says_what_it_is_and_where_it_comes_from() -> None:
    game = look()
    assert (game.domain, game.draws) == ("unit", 1)
    said = game.describe()
    assert said.removal == "Pyramid(sigma=3.0, levels=5)" and "xu2020" in said.cites
    half = ap.removals.Pyramid(SIGMA, 3)
    out = half(X[None].half(), torch.full((1, 1, 1, 8, 8), 0.5), X[None].expand(2, -1, -1, -1, -1),
               torch.zeros(1).long())  # fmt: skip
    assert out.dtype == torch.float16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.removals.Pyramid(0.0), "positive and finite"),
        (lambda: ap.removals.Pyramid(float("inf")), "positive and finite"),
        (lambda: ap.removals.Pyramid(2.0, 1), "at least 2 levels"),
        (lambda: ap.removals.Pyramid(2.0, True), "at least 2 levels"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_what_is_no_picture_is_refused() -> None:
    x = normal(1, 6)
    with pytest.raises(ap.BadRequest, match="float picture"):
        asking(Plainly(lambda x: x), x, ap.removals.Pyramid(2.0))
