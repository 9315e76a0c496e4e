"""Wavelet coefficients as players: PyWavelets' own transforms, and WCAM in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.players import Grain
from apportion.views import Wavelets
from tests.contracts.made import Plainly, asking
from tests.small import close, normal

pywt = pytest.importorskip("pywt")

WAVELETS = ["haar", "db2", "db5", "sym4", "coif1"]
INPUT = ap.Site("", "in")
# periodic transforms are orthonormal at any level; PyWavelets speaks of padded ones
pytestmark = pytest.mark.filterwarnings("ignore:Level value of")


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("axis", [-1, -2])
def test_one_axis_is_wavedec(wavelet, axis) -> None:
    x = normal(2, 24, 16)
    levels = 3
    found = Wavelets(wavelet, levels, (axis,)).analysis(x)
    expected = pywt.wavedec(x.numpy(), wavelet, "periodization", levels, axis=axis)
    close(found, torch.cat([torch.as_tensor(c) for c in expected], axis), atol=1e-12)
    close((found**2).sum(), (x**2).sum(), atol=1e-9)


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("axes", [(-2, -1), (-3, -1)])
def test_two_axes_are_wavedec2_in_mallats_layout(wavelet, axes) -> None:
    x = normal(3, 16, 8, 24) if axes == (-3, -1) else normal(3, 16, 24)
    found = Wavelets(wavelet, 3, axes).analysis(x)
    seen, given = (t.movedim(axes, (-2, -1)).reshape(-1, 16, 24) for t in (found, x))
    for ours, picture in zip(seen, given, strict=True):
        coefficients = pywt.wavedec2(picture.numpy(), wavelet, "periodization", 3)
        close(ours, torch.as_tensor(pywt.coeffs_to_array(coefficients)[0]), atol=1e-12)


@pytest.mark.parametrize("grain", [Grain.LEVELS, Grain.ORIENTATIONS])
def test_bands_are_those_of_pywavelets(grain) -> None:
    """Each player alone puts back exactly one part of `wavedec2`."""
    x = normal(1, 1, 8, 16)
    players = ap.players.wavelets(x, grain, levels=2)
    see = ap.values.Logit(tuple(range(128)))
    game = asking(Plainly(lambda t: t.flatten(1)), x, players=players, value=see)
    alone = game.value(torch.eye(players.n, dtype=torch.bool)).unflatten(1, (8, 16))
    cA, *details = pywt.wavedec2(x[0, 0].numpy(), "haar", "periodization", 2)
    empty = [tuple(0 * band for band in level) for level in details]
    expected = {"approximation": [cA, *empty]}
    for i, level in enumerate(details):
        kept = list(empty)
        kept[i] = level
        expected[f"level {2 - i}"] = [0 * cA, *kept]
        for k, called in enumerate(("horizontal", "vertical", "diagonal")):
            kept = list(empty)
            kept[i] = tuple(band if j == k else 0 * band for j, band in enumerate(level))
            expected[f"{called} {2 - i}"] = [0 * cA, *kept]
    assert players.n == {Grain.LEVELS: 3, Grain.ORIENTATIONS: 7}[grain]
    for name, picture in zip(players.names, alone, strict=True):
        back = pywt.waverec2(expected[name], "haar", "periodization")
        close(picture, torch.as_tensor(back), atol=1e-12)


def test_a_place_holds_what_its_part_of_the_picture_has_at_one_scale() -> None:
    """Haar wavelets end where their block ends: without a place only its pixels change, and without
    all details of a place what is left there is the mean of each block.
    """
    x = normal(1, 1, 16, 8)
    players = ap.players.wavelets(x, Grain.PLACES, levels=2, grid=2)
    assert players.n == 4 + 4 + 16
    see = ap.values.Logit(tuple(range(128)))
    game = asking(Plainly(lambda t: t.flatten(1)), x, players=players, value=see)
    seen = game.value(~torch.eye(players.n, dtype=torch.bool)).unflatten(1, (16, 8))
    moved = (seen - x[0]).abs() > 1e-12
    for k, name in enumerate(players.names):
        label, place = name.split(", ")
        row, column = (int(word[1:]) - 1 for word in place.split())
        high, wide = (4, 2) if label == "level 1" else (8, 4)
        inside = torch.zeros(16, 8, dtype=torch.bool)
        inside[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = True
        assert bool(moved[k].any()) and not bool((moved[k] & ~inside).any())
    coarse = game.value(torch.arange(players.n)[None] < 4).reshape(4, 4, 2, 4)
    close(coarse, x.reshape(4, 4, 2, 4).mean((1, 3), keepdim=True).expand(4, 4, 2, 4), atol=1e-12)


def total_indices(game: ap.ModelGame, rows: int, seed: int) -> Tensor:
    """Jansen's total Sobol indices on a scrambled sequence, as in the paper's code."""
    n = game.players.n
    points = torch.quasirandom.SobolEngine(2 * n, scramble=True, seed=seed).draw(rows).double()
    a, b = points.split(n, 1)
    values = game.value(a)
    out = []
    for i in range(n):
        c = a.clone()
        c[:, i] = b[:, i]
        out.append(((values - game.value(c)) ** 2).mean() / (2 * values.var()))
    return torch.stack(out)


def test_wcam_of_a_linear_model_is_the_share_of_squared_cell_products() -> None:
    """Haar is orthonormal, so S_c = s_c^2 / sum s^2 with s_c the product of the cell's coefficients
    of model and picture.
    """
    x, g = normal(1, 2, 16, 16, seed=1), normal(2, 16, 16, seed=2)
    model = Plainly(lambda t: torch.einsum("bchw,chw->b", t, g)[:, None])
    players = ap.players.wavelets(x, levels=2, grid=4)
    game = asking(model, x, players=players)
    view = players.views[INPUT]
    products = view.analysis(g) * view.analysis(x[0])
    cells = products.sum(0).reshape(4, 4, 4, 4).sum((1, 3)).flatten()  # 4x4 blocks of 4x4
    close(ap.attribute(game, ap.Gradient()).scores, cells, atol=1e-12)
    close(total_indices(game, 1024, 0), cells**2 / (cells**2).sum(), atol=5e-3)


def test_a_picture_without_detail_has_all_its_credit_in_the_approximation() -> None:
    flat = normal(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    model = Plainly(lambda t: t.flatten(1).tanh().sum(1, keepdim=True))
    players = ap.players.wavelets(flat, Grain.LEVELS, levels=2)
    credit = ap.attribute(asking(model, flat, players=players), ap.PermutationShapley(orders=6))
    assert credit.players.names[0] == "approximation"
    close(credit.scores[1:], torch.zeros(2), atol=1e-12)
    close(credit.scores[0], model(flat)[0, 0] - model(0 * flat)[0, 0], atol=1e-12)
