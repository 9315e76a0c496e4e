"""RISE: the formula on its own masks, the masks from their coins, and the expectation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.estimators import rise
from apportion.estimators._designs import grid_masks
from tests.oracles.slow import generator, within_noise
from tests.small import close, cnn, normal


def tent(at: float, cells: int) -> np.ndarray:
    """How much each cell weighs at a place of the enlarged grid, in units of cells: linear between
    the middles of neighbouring cells, the outermost cell beyond them.
    """
    weight = np.zeros(cells)
    place = min(max(at - 0.5, 0.0), cells - 1.0)
    low = math.floor(place)
    weight[low] += 1 - (place - low)
    if low + 1 < cells:
        weight[low + 1] += place - low
    return weight


def mask_by_hand(coins: np.ndarray, shift: tuple[int, ...], grid: tuple[int, ...]) -> np.ndarray:
    """One mask: every player reads the coins around its place, moved by the shift."""
    side = [-(-g // (c - 1)) for g, c in zip(grid, coins.shape, strict=True)]
    mask = np.zeros(grid)
    for place in product(*(range(g) for g in grid)):
        weights = [
            tent((p + s + 0.5) / b, c)
            for p, s, b, c in zip(place, shift, side, coins.shape, strict=True)
        ]
        for cell in product(*(range(c) for c in coins.shape)):
            share = math.prod(w[c] for w, c in zip(weights, cell, strict=True))
            mask[place] += share * coins[cell]
    return mask


@pytest.mark.parametrize(
    ("grid", "cells"), [((9,), 3), ((10,), 4), ((8, 6), 2), ((7, 7), 7), ((4, 3, 5), 2)]
)
def test_masks_are_enlarged_coins_moved_by_a_shift(grid, cells) -> None:
    rows, keep = 6, 0.4
    masks = grid_masks(rows, grid, cells, keep, generator(3)).reshape(rows, *grid)
    rng = generator(3)
    coarse = [min(cells, g) for g in grid]
    coins = torch.rand(rows, 1, *(c + 1 for c in coarse), generator=rng) < keep
    blocks = [-(-g // c) for g, c in zip(grid, coarse, strict=True)]
    shifts = torch.stack([torch.randint(b, (rows,), generator=rng) for b in blocks], 1)
    for row in range(rows):
        slow = mask_by_hand(coins[row, 0].double().numpy(), tuple(shifts[row].tolist()), grid)
        close(masks[row], torch.as_tensor(slow), atol=1e-9)


def test_scores_are_the_formula_on_those_masks() -> None:
    """sum_k v(M_k) M_k / (N keep) [petsiuk2018], masked picture by masked picture."""
    model, x = cnn(), normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(
        model, x, ap.values.Logit(1), ap.players.pixels(x), ap.Blend(ap.removals.zeros())
    )
    samples, keep = 40, 0.6
    credit = ap.attribute(game, ap.Rise(samples=samples, cells=3, keep=keep), seed=8)
    masks = grid_masks(samples, (8, 8), 3, keep, generator(8)).reshape(samples, 8, 8)
    total, squares = torch.zeros(8, 8).double(), torch.zeros(8, 8).double()
    with torch.no_grad():
        for mask in masks:
            term = model(x * mask)[0, 1] * mask / keep
            total, squares = total + term, squares + term**2
    mean = total / samples
    close(credit.scores, mean.flatten())
    variance = (squares - samples * mean**2) / (samples - 1)
    close(credit.error, (variance / samples).sqrt().flatten())


@pytest.mark.parametrize(("grid", "cells"), [((9,), 3), ((6, 5), 2)])
def test_expected_visibility_is_keep_everywhere(grid, cells) -> None:
    masks = grid_masks(4000, grid, cells, 0.3, generator(1))
    assert float(masks.min()) >= 0 and float(masks.max()) <= 1
    within_noise(masks - 0.3)


def test_expectation_on_an_additive_game() -> None:
    """E[v(M) M_i] / keep = sum_j w_j E[M_i M_j] / keep, and E[M_i M_j] = keep^2 + keep (1 - keep)
    times how much the two places share their coins, averaged over the shifts.
    """
    n, cells, keep = 9, 3, 0.4
    block = -(-n // cells)
    weights, base = normal(n, seed=2), 0.5
    shared = np.zeros((n, n))
    for shift in range(block):
        share = np.array([tent((i + shift + 0.5) / block, cells + 1) for i in range(n)])
        shared += share @ share.T / block
    moments = torch.as_tensor(keep**2 + keep * (1 - keep) * shared)
    expected = moments @ weights / keep + base
    picture = normal(1, 1, 1, n, seed=0)  # players that fill a grid, worth a weighted sum
    players = ap.players.pixels(picture)

    class Weighted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x / picture).flatten(1) @ weights + base)[:, None]

    game = ap.ModelGame(
        Weighted(), picture, ap.values.Logit(0), players, ap.Blend(ap.removals.zeros())
    )
    assert players.grid == (1, n)
    estimator = ap.Rise(samples=1000, cells=cells, keep=keep)
    credits = [ap.attribute(game, estimator, seed=s) for s in range(40)]
    # the axis of length 1 has two coins of its own, at one place: only the first is seen
    off = torch.stack([c.scores - expected for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.90 <= float(covered) <= 0.99


def test_without_a_grid_every_player_has_its_own_coin() -> None:
    """Then E[v(M) M_i] / keep is the mean value of the coalitions that hold i."""
    n, keep = 5, 0.3
    worth = normal(2**n, seed=1)
    powers = 2 ** torch.arange(n)
    game = ap.FunctionGame(lambda g: worth[((g > 0.5).long() * powers).sum(-1)], n, domain="unit")
    expected = torch.zeros(n, dtype=torch.float64)
    for bits in product((0, 1), repeat=n):
        chance = math.prod(keep if b else 1 - keep for b in bits)
        value = float(worth[sum(b * int(p) for b, p in zip(bits, powers, strict=True))])
        expected += torch.tensor(bits) * chance * value / keep
    estimator = ap.Rise(samples=500, keep=keep)
    within_noise(
        torch.stack([ap.attribute(game, estimator, seed=s).scores for s in range(60)]) - expected
    )


def exact_means(
    worth: torch.Tensor, n: int, keep: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """E[v M_i], E[v (1 - M_i)] and E v over all masks of independent coins."""
    seen, hidden, mean = torch.zeros(n).double(), torch.zeros(n).double(), torch.zeros(()).double()
    for k, bits in enumerate(product((0, 1), repeat=n)):
        chance = math.prod(keep if b else 1 - keep for b in bits)
        seen += chance * worth[k] * torch.tensor(bits)
        hidden += chance * worth[k] * (1 - torch.tensor(bits))
        mean += chance * worth[k]
    return seen, hidden, mean


def coin_game(n: int, offset: float = 0.0) -> tuple[ap.FunctionGame, torch.Tensor]:
    """Any value of hard masks: all players but the last matter."""
    worth = normal(2 ** (n - 1), seed=1).repeat_interleave(2) + offset
    powers = 2 ** torch.arange(n - 1, -1, -1)
    f = lambda g: worth[((g > 0.5).long() * powers).sum(-1)]
    return ap.FunctionGame(f, n, domain="unit"), worth


@pytest.mark.parametrize("keep", [0.5, 0.3])
@pytest.mark.parametrize("score", list(ap.RiseScore))
def test_each_score_tends_to_its_expectation_with_errors_that_cover(score, keep) -> None:
    n = 5
    game, worth = coin_game(n, offset=2.0)
    seen, hidden, _ = exact_means(worth, n, keep)
    truth = seen / keep
    if score is ap.RiseScore.CENTRED:
        truth = truth - hidden / (1 - keep)
        close(truth[-1], torch.zeros(()))  # a dummy
    estimator = ap.Rise(samples=900, keep=keep, score=score)
    credits = [ap.attribute(game, estimator, seed=s) for s in range(80)]
    off = torch.stack([c.scores - truth for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.91 <= float(covered) <= 0.985


def test_normalised_and_centred_scores_are_their_formulas() -> None:
    """sum v M / sum M, and the same with 1 - M taken off, on the masks that were drawn."""
    model, x = cnn(), normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(
        model, x, ap.values.Logit((0, 1)), ap.players.pixels(x), ap.Blend(ap.removals.zeros())
    )
    masks = grid_masks(40, (8, 8), 3, 0.6, generator(8))
    with torch.no_grad():
        values = torch.stack([model(x * m.reshape(8, 8))[0, :2] for m in masks])
    inside = torch.stack([(v[:, None] * masks).sum(0) / masks.sum(0) for v in values.T])
    outside = torch.stack(
        [(v[:, None] * (1 - masks)).sum(0) / (1 - masks).sum(0) for v in values.T]
    )
    for score, expected in (
        (ap.RiseScore.NORMALISED, inside),
        (ap.RiseScore.CENTRED, inside - outside),
    ):
        estimator = ap.Rise(samples=40, cells=3, keep=0.6, score=score)
        close(ap.attribute(game, estimator, seed=8).scores, expected)


def test_an_offset_of_the_value_moves_what_it_should() -> None:
    """Added to the normalised score exactly, nothing to the centred one; the paper's score also
    moves by how visible the player happened to be.
    """
    n = 5
    for score, shift in ((ap.RiseScore.NORMALISED, 100.0), (ap.RiseScore.CENTRED, 0.0)):
        one, two = (
            ap.attribute(coin_game(n, offset)[0], ap.Rise(samples=200, score=score), seed=3)
            for offset in (0.0, 100.0)
        )
        close(two.scores - one.scores, torch.full((n,), shift), atol=1e-9)
        close(two.error, one.error, atol=1e-9)
    one, two = (
        ap.attribute(coin_game(n, offset)[0], ap.Rise(samples=200), seed=3)
        for offset in (0.0, 100.0)
    )
    assert float((two.scores - one.scores - 100).abs().max()) > 1


def test_a_player_never_seen_or_never_hidden_is_named() -> None:
    game, _ = coin_game(5)
    with pytest.raises(ap.BadRequest, match=r"never visible in 2 masks"):
        ap.attribute(game, ap.Rise(samples=2, keep=0.1, score=ap.RiseScore.NORMALISED))
    with pytest.raises(ap.BadRequest, match=r"always visible in 2 masks"):
        ap.attribute(game, ap.Rise(samples=2, keep=0.99, score=ap.RiseScore.CENTRED))


def test_errors_do_not_depend_on_the_pieces(monkeypatch) -> None:
    game, _ = coin_game(5, offset=3.0)
    estimator = ap.Rise(samples=100, score=ap.RiseScore.CENTRED)
    whole = ap.attribute(game, estimator)
    monkeypatch.setattr(rise, "PIECE", 24 * 5 * 7)  # seven masks at a time
    parts = ap.attribute(game, estimator)
    close(parts.scores, whole.scores, atol=1e-12)
    close(parts.error, whole.error, atol=1e-12)
