"""Joint Shapley values: the paper's weights, its three-player majority, and random arrivals."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.estimators._indices import joint_shapley
from apportion.estimators.joint_shapley import number_of, random_arrivals
from apportion.games import toy
from tests.oracles import sets
from tests.oracles.slow import any_game, shapley
from tests.small import close


def arrive(v, n: int, order: int) -> dict[frozenset[int], float]:
    """Expected gain of each block, by walking the whole tree of arrivals."""
    total: dict[frozenset[int], float] = {}

    def walk(there: frozenset[int], chance: float) -> None:
        missing = sorted(frozenset(range(n)) - there)
        blocks = [frozenset(c) for k in range(1, order + 1) for c in combinations(missing, k)]
        for block in blocks:
            share = chance / len(blocks)
            total[block] = total.get(block, 0.0) + share * (v(there | block) - v(there))
            walk(there | block, share)

    walk(frozenset(), 1.0)
    return total


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_blocks_that_arrive_at_random(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.JointShapley(order=order))
    truth = arrive(v, sets.N, order)
    close(found.scores, sets.by_definition(found, truth.__getitem__))
    close(found.gap, torch.tensor(0.0))


def test_order_one_is_the_shapley_value() -> None:
    game, v, _ = any_game(sets.N)
    close(ap.attribute(game, ap.JointShapley(order=1)).scores, torch.tensor(shapley(v, sets.N)))


def test_majority_of_three() -> None:
    majority = ap.FunctionGame(lambda g: (g.sum(-1) >= 2).double(), 3)
    found = ap.attribute(majority, ap.JointShapley())
    close(found.of(1).scores, torch.full((3,), 1 / 9, dtype=torch.float64))
    close(found.of(2).scores, torch.full((3,), 2 / 9, dtype=torch.float64))


def test_weights_of_pairs_among_three() -> None:
    assert [str(q) for q in joint_shapley(3, 2)] == ["1/6", "1/18", "5/18"]


def test_every_block_is_as_likely_and_none_is_too_large() -> None:
    """First blocks of 5 players in sets of up to 3: 25 of them, each as often, by chi squared."""
    when, last = random_arrivals(25_000, 5, 3, Generator().manual_seed(0))
    first = (when == 0).long() @ (2 ** torch.arange(5))
    counts = torch.bincount(first, minlength=32)
    seen = counts[counts > 0].double()
    assert len(seen) == 25
    assert float(((seen - 1000) ** 2 / 1000).sum()) < 51.2  # the 99.9 % point for 24
    for run in range(50):
        sizes = torch.bincount(when[run])
        assert len(sizes) == int(last[run]) + 1
        assert int(sizes.min()) >= 1 and int(sizes.max()) <= 3


def test_blocks_find_their_place_among_the_sets() -> None:
    """Also with more players than an integer has bits."""
    n, order = 70, 3
    found = [c for k in range(1, order + 1) for c in combinations(range(n), k)]
    when, last = random_arrivals(6, n, order, Generator().manual_seed(2))
    numbers = number_of(when, order)
    for run in range(6):
        for block in range(int(last[run]) + 1):
            players = tuple((when[run] == block).nonzero().flatten().tolist())
            assert found[int(numbers[run, block])] == players


def test_sampled_arrivals_come_out_at_the_exact_values() -> None:
    game = toy.moebius(11, 3, Generator().manual_seed(4))
    exact = ap.attribute(game, ap.JointShapley())
    runs = [ap.attribute(game, ap.JointShapley(samples=2000), seed=s) for s in range(40)]
    off = torch.stack([r.scores for r in runs]) - exact.scores
    standard = off.mean(0) / (off.std(0) / 40**0.5)
    assert float(standard.abs().max()) < 4.5
    assert float(standard.square().mean()) == pytest.approx(1, abs=0.5)


def test_a_set_that_hardly_arrived_is_not_certain() -> None:
    """Its variance is the mean over sets of its size, which is right on average."""
    game = toy.moebius(9, 2, Generator().manual_seed(4))
    exact = ap.attribute(game, ap.JointShapley(order=3, samples=512))
    found = [ap.attribute(game, ap.JointShapley(order=3, samples=200), seed=s) for s in range(60)]
    of_three = exact.sets.sum(-1) == 3
    assert any("never arrived" in note for note in found[0].provenance.notes)
    assert all(float(one.error[of_three].min()) > 0 for one in found)
    missed = torch.stack([(one.scores - exact.scores)[of_three].square() for one in found]).mean()
    told = torch.stack([one.error[of_three].square() for one in found]).mean()
    assert 0.5 < float(missed / told) < 1.1  # rare sets that did arrive are told more than they err
