"""Banzhaf values: all coalitions by hand, the fit by numpy, and errors that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import any_game, generator, mean_gain, subsets, within_noise
from tests.small import close


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_from_all_coalitions_on_it_is_the_mean_gain(n) -> None:
    for samples in (2**n, 2**n + 1, 10 * 2**n):
        game, v, asked = any_game(n, seed=n)
        credit = ap.attribute(game, ap.Banzhaf(samples=samples))
        close(credit.scores, torch.as_tensor(mean_gain(v, n)))
        close(credit.error, torch.zeros(n), atol=0)
        assert sorted(map(sorted, asked)) == sorted(map(sorted, subsets(n)))  # each once


def test_one_coalition_short_it_is_a_sample() -> None:
    game, v, asked = any_game(6, seed=2)
    credit = ap.attribute(game, ap.Banzhaf(samples=62))
    assert len(asked) == len(set(asked)) == 62
    assert float((credit.scores - torch.as_tensor(mean_gain(v, 6))).abs().max()) > 1e-3
    assert float(credit.error.min()) > 0


def drawn(n: int, pairs: int, seed: int) -> list[frozenset[int]]:
    order = torch.randperm(2 ** (n - 1), generator=generator(seed))[:pairs].tolist()
    return [frozenset(i for i in range(n) if k >> i & 1) for k in order]


@pytest.mark.parametrize(("n", "samples"), [(6, 40), (7, 61)])
def test_a_sample_is_the_least_squares_fit_of_its_pairs(n, samples) -> None:
    """And its errors are those of leaving out one pair after the other (HC3), shrunk by the share
    of pairs that is left.
    """
    game, v, _ = any_game(n, seed=n)
    credit = ap.attribute(game, ap.Banzhaf(samples=samples), seed=4)
    sets, everyone = drawn(n, samples // 2, 4), frozenset(range(n))
    x = np.array([[1.0 if i in s else -1.0 for i in range(n)] for s in sets])
    y = np.array([v(s) - v(everyone - s) for s in sets])
    close(credit.scores, torch.as_tensor(np.linalg.lstsq(x, y, rcond=None)[0]))
    bread, middle = np.linalg.inv(x.T @ x), np.zeros((n, n))
    for j in range(len(sets)):
        others = np.arange(len(sets)) != j
        missed = y[j] - x[j] @ np.linalg.lstsq(x[others], y[others], rcond=None)[0]
        middle += missed**2 * np.outer(x[j], x[j])
    left = 1 - len(sets) / 2 ** (n - 1)
    close(credit.error, torch.as_tensor(np.sqrt(np.diag(bread @ middle @ bread) * left)))


def test_pairs_of_players_are_seen_exactly_by_any_sample() -> None:
    game = toy.moebius(9, 2, generator(3))
    for seed in range(5):
        credit = ap.attribute(game, ap.Banzhaf(samples=40), seed=seed)
        close(credit.scores, game.banzhaf(), atol=1e-9)


def test_many_players_are_drawn_by_coins() -> None:
    """Where the pairs cannot be listed; closed form, several outputs."""
    game = toy.moebius(24, 3, generator(5), out=(2,))
    credits = [ap.attribute(game, ap.Banzhaf(samples=1000), seed=s) for s in range(20)]
    off = torch.stack([c.scores - game.banzhaf() for c in credits])
    within_noise(off)
    covered = (off.abs() <= 1.96 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.91 <= float(covered) <= 0.99


def test_errs_less_than_maximum_sample_reuse_and_than_flips_at_equal_cost() -> None:
    """Why it is fitted: the difference of the means with and without the player carries the
    noise of everybody else's terms, and flipping single players reuses nothing.
    """
    n, samples = 12, 260
    game = toy.moebius(n, 4, generator(7))
    truth, squares = game.banzhaf(), torch.zeros(3)
    for seed in range(40):
        rng = generator(seed)
        present = torch.rand(samples, n, generator=rng) < 0.5
        v, s = game.value(present), present.double()
        reuse = v @ s / s.sum(0) - v @ (1 - s) / (1 - s).sum(0)
        base = torch.rand(samples // (n + 1), n, generator=rng) < 0.5
        flipped = base[:, None] ^ torch.eye(n, dtype=torch.bool)
        change = game.value(base)[:, None] - game.value(flipped.flatten(0, 1)).reshape(-1, n)
        flips = (change * (2 * base.double() - 1)).mean(0)
        ours = ap.attribute(game, ap.Banzhaf(samples=samples), seed=seed).scores
        squares += torch.stack([(x - truth).square().mean() for x in (ours, reuse, flips)])
    assert float(squares[0]) < 0.6 * float(squares[1:].min())


def test_too_few_samples_are_refused_and_the_minimum_suffices() -> None:
    game = toy.moebius(7, 2, generator(1))
    for seed in range(10):
        credit = ap.attribute(game, ap.Banzhaf(samples=2 * (7 + 2)), seed=seed)
        close(credit.scores, game.banzhaf(), atol=1e-8)
    with pytest.raises(ap.BadRequest, match="minimum is 18"):
        ap.attribute(game, ap.Banzhaf(samples=17))
    with pytest.raises(ap.BadRequest, match="whole number"):
        ap.Banzhaf(samples=True)
    with pytest.raises(ap.BadRequest, match=r"5,000 players.*merge"):
        ap.Banzhaf().cost(5000)
    assert math.isclose(ap.Banzhaf(samples=4).cost(2).evaluations, 4)
