"""Kernel SHAP: the weighted least squares of the paper, solved in another way."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.estimators._designs import KernelDesign
from apportion.games import toy
from apportion.spec import parse
from tests.oracles.slow import SetFunction, any_game, gates_of, generator, shapley, subsets
from tests.small import close


def constrained(
    sets: list[frozenset[int]], weights: list[float], v: SetFunction, n: int
) -> np.ndarray:
    """Argmin of sum_S w_S (v(S) - v(none) - sum_{i in S} phi_i)^2 with sum phi = v(all) - v(none).

    By Lagrange's conditions, all n + 1 of them at once.
    """
    z, w = gates_of(sets, n), np.array(weights)
    y = np.array([v(s) for s in sets]) - v(frozenset())
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = 2 * (z.T * w) @ z
    system[:n, n] = system[n, :n] = 1
    right = np.append(2 * (z.T * w) @ y, v(frozenset(range(n))) - v(frozenset()))
    return np.linalg.solve(system, right)[:n]


def kernel(size: int, n: int) -> float:
    return (n - 1) / (math.comb(n, size) * size * (n - size))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_the_enumerated_fit_is_the_shapley_value_and_the_estimator_finds_it(n) -> None:
    game, v, _ = any_game(n, seed=n)
    inner = [s for s in subsets(n) if 0 < len(s) < n]
    fitted = constrained(inner, [kernel(len(s), n) for s in inner], v, n)
    np.testing.assert_allclose(fitted, shapley(v, n), atol=1e-9)
    credit = ap.attribute(game, ap.KernelShap(samples=2**n))
    close(credit.scores, torch.as_tensor(fitted))
    close(credit.error, torch.zeros(n), atol=0)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_exact_from_all_coalitions_on_and_not_before(n) -> None:
    game, v, _ = any_game(n, seed=n + 20)
    truth = torch.as_tensor(shapley(v, n))
    for samples in (2**n, 2**n + 1, 5 * 2**n):
        credit = ap.attribute(game, ap.KernelShap(samples=samples))
        close(credit.scores, truth)
        assert credit.cost.evaluations == 2**n
    if 2**n - 2 >= 2 * n:
        short = ap.attribute(game, ap.KernelShap(samples=2**n - 2))
        assert float((short.scores - truth).abs().max()) > 1e-3


@pytest.mark.parametrize("sizes", list(ap.Sizes))
@pytest.mark.parametrize(("n", "samples"), [(6, 30), (7, 41), (8, 100), (9, 301)])
def test_a_sampled_fit_is_least_squares_on_the_coalitions_it_asked(n, samples, sizes) -> None:
    """Every coalition asked counts, both ends too. A size stands for its whole class."""
    game, v, asked = any_game(n, seed=n)
    credit = ap.attribute(game, ap.KernelShap(samples=samples, sizes=sizes), seed=3)
    assert len(asked) == credit.cost.evaluations == 2 * (samples // 2)
    inner = [s for s in asked if 0 < len(s) < n]
    assert len(asked) == len(inner) + 2
    assert len(set(inner)) == len(inner)  # without replacement
    assert all(frozenset(range(n)) - s in set(inner) for s in inner)  # complements paired
    of_size = {k: sum(len(s) == k for s in inner) for k in range(1, n)}
    weights = [1 / (len(s) * (n - len(s))) / of_size[len(s)] for s in inner]
    close(credit.scores, torch.as_tensor(constrained(inner, weights, v, n)))


def test_small_sizes_are_exhausted_first() -> None:
    """A size is complete or the sizes further in have at most as large a share of theirs."""
    n = 10
    for samples in (20, 30, 60, 130, 400, 700, 1022, 1024):
        game, _, asked = any_game(n, seed=1)
        ap.attribute(game, ap.KernelShap(samples=samples))
        share = [sum(len(s) == k for s in asked) / math.comb(n, k) for k in range(1, n // 2 + 1)]
        complete = [x == 1 for x in share]
        assert complete == sorted(complete, reverse=True), (samples, share)
    assert all(complete)


@pytest.mark.parametrize("n", [10, 11])
def test_leverage_asks_every_size_as_often_as_the_others(n) -> None:
    """Leverage scores of the fit are 1 / C(n, size), so sizes share a budget evenly; a size that is
    used up leaves its part to the others.
    """
    for samples in (60, 100, 200, 400):
        game, _, asked = any_game(n, seed=1)
        ap.attribute(game, ap.KernelShap(samples=samples, sizes=ap.Sizes.LEVERAGE))
        count = [sum(len(s) == k for s in asked) for k in range(1, n)]
        open_sizes = [c for k, c in enumerate(count, 1) if c < math.comb(n, k)]
        assert max(open_sizes) - min(open_sizes) <= 2
        used_up = [c for k, c in enumerate(count, 1) if c == math.comb(n, k)]
        assert not used_up or max(used_up) <= max(open_sizes)


def test_leverage_is_exact_from_all_coalitions_on_and_its_intervals_cover() -> None:
    game, v, _ = any_game(5, seed=3)
    every = ap.KernelShap(samples=32, sizes=ap.Sizes.LEVERAGE)
    close(ap.attribute(game, every).scores, torch.as_tensor(shapley(v, 5)))
    game = toy.moebius(10, 4, generator(1))
    sampled = ap.KernelShap(samples=240, sizes=ap.Sizes.LEVERAGE)
    credits = [ap.attribute(game, sampled, seed=s) for s in range(120)]
    off = torch.stack([c.scores - game.shapley() for c in credits])
    covered = off.abs() <= 1.96 * torch.stack([c.error for c in credits])
    assert 0.92 <= float(covered.double().mean()) <= 0.98
    assert float((off.mean(0) / (off.std(0) / 120**0.5)).abs().max()) < 4


def test_a_way_to_choose_sizes_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="sizes=kernel"):
        parse("kernel-shap:samples=64,sizes=leverages")
    assert parse("kernel-shap:sizes=leverage").sizes is ap.Sizes.LEVERAGE


@pytest.mark.parametrize("n", [4, 7, 12])
def test_exact_when_players_interact_in_pairs_whatever_is_drawn(n) -> None:
    """v(S) - v(complement) is additive then, so any design that determines n numbers finds them."""
    for seed in range(4):
        game = toy.moebius(n, 2, generator(seed))
        credit = ap.attribute(game, ap.KernelShap(samples=4 * n), seed=seed)
        close(credit.scores, game.shapley(), atol=1e-8)


def test_the_error_is_the_jackknife_over_pairs() -> None:
    """Each pair is left out in turn and the fit repeated; exhausted sizes are not random and add
    nothing, the others are shortened by the share of their class that was drawn.
    """
    n, samples = 7, 60
    game, v, asked = any_game(n, seed=2)
    credit = ap.attribute(game, ap.KernelShap(samples=samples), seed=1)
    inner = [s for s in asked if 0 < len(s) < n]
    pairs = [s for s in inner if len(s) < n / 2]
    drawn = {k: sum(len(s) == k for s in pairs) for k in (1, 2, 3)}
    assert drawn[1] == 7 and drawn[2] < 21 and drawn[3] < 35

    def fit(kept: list[frozenset[int]]) -> np.ndarray:
        both = [x for s in kept for x in (s, frozenset(range(n)) - s)]
        sizes = [min(len(x), n - len(x)) for x in both]
        return constrained(both, [1 / (k * (n - k)) / drawn[k] for k in sizes], v, n)

    whole, variance = fit(pairs), np.zeros(n)
    close(credit.scores, torch.as_tensor(whole))
    for k in (2, 3):
        own = [s for s in pairs if len(s) == k]
        moved = np.array([fit([s for s in pairs if s != left]) - whole for left in own])
        spread = ((moved - moved.mean(0)) ** 2).sum(0) * drawn[k] / (drawn[k] - 1)
        variance += (1 - drawn[k] / math.comb(n, k)) * spread
    close(credit.error, torch.as_tensor(np.sqrt(variance)))


def test_every_subset_of_a_size_is_equally_likely() -> None:
    """Chi-square over the 56 triples of 8 players, drawn 8 at a time: 99.9 % point of 55 is 93.2;
    drawing without replacement only makes it smaller.
    """
    count = dict.fromkeys(combinations(range(8), 3), 0)
    for seed in range(400):
        design = KernelDesign(8, generator(seed))
        design.grow(8 + 14)
        sides = design.grow(design.pairs // 2)
        for row in sides:
            members = tuple(row.nonzero().flatten().tolist())
            if len(members) == 3:
                count[members] += 1
    expected = sum(count.values()) / 56
    assert expected > 10
    assert sum((c - expected) ** 2 / expected for c in count.values()) < 93.2


@pytest.mark.parametrize("n", [7, 8, 12, 13])
def test_growing_to_the_end_gives_out_every_pair_once(n) -> None:
    """However it grows: drawn one by one at first, from a list of those left later on."""
    design = KernelDesign(n, generator(n))
    rows = [design.grow(pairs) for pairs in (3, n, 3 * n, 2 ** (n - 2), design.pairs)]
    sides = torch.cat(rows)
    low = torch.minimum(sides.sum(1), n - sides.sum(1))
    keys = {tuple(s.tolist()) for s in torch.cat([sides, ~sides])}
    assert len(sides) == design.pairs == 2 ** (n - 1) - 1
    assert len(keys) == 2 * design.pairs  # no pair twice, none as its complement
    assert low.tolist() == design.size_class


@pytest.mark.parametrize("n", [4, 5, 9, 14, 30])
def test_the_stated_minimum_suffices(n) -> None:
    """The smallest budget that is not refused determines the scores whatever is drawn, and tells
    that it knows no error; one less is refused with that number.
    """
    least = min(2 * n, 2**n)
    game = toy.moebius(n, 2, generator(n))
    for seed in range(10):
        credit = ap.attribute(game, ap.KernelShap(samples=least), seed=seed)
        close(credit.scores, game.shapley(), atol=1e-8)  # players interact in pairs at most
        assert credit.error is None
        assert f"{4 * n + 2} samples" in credit.provenance.error_note
    assert ap.attribute(game, ap.KernelShap(samples=4 * n + 2)).error is not None
    with pytest.raises(ap.BadRequest, match=f"minimum is {least}"):
        ap.attribute(game, ap.KernelShap(samples=least - 1))


@pytest.mark.parametrize("samples", [30, 77, 300, 1000, 5000])
def test_growing_in_steps_never_asks_more_than_promised(samples) -> None:
    for n in range(2, 15):
        if samples < min(2 * n, 2**n):
            continue
        impossible = ap.KernelShap(samples=samples, until=ap.StandardError(1e-9))
        credit = ap.attribute(toy.moebius(n, 3, generator(n)), impossible)
        assert credit.cost == impossible.cost(n)
