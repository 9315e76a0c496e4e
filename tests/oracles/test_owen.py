"""Owen values: the definition by enumeration, and the game among the groups."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.slow import SetFunction, any_game, generator, shapley, subsets, within_noise
from tests.small import close, mlp, normal

GROUPS = ((0, 3), (1,), (2, 4, 5))


def owen(v: SetFunction, groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Mean gain over every order of the groups and every order within each. [owen1977]"""
    total, count = np.zeros(sum(map(len, groups))), 0
    for outer in permutations(groups):
        for inner in product(*(permutations(group) for group in outer)):
            before: frozenset[int] = frozenset()
            for player in (i for group in inner for i in group):
                total[player] += v(before | {player}) - v(before)
                before = before | {player}
            count += 1
    return total / count


def owen_by_formula(v: SetFunction, groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Owen's double sum: over the sets H of other groups and the subsets S of one's own,
    h! (m - h - 1)! / m! * s! (b - s - 1)! / b!  times the gain on the union of H and S.
    """
    from math import factorial as f

    m, scores = len(groups), np.zeros(sum(map(len, groups)))
    for k, own in enumerate(groups):
        others, b = [g for j, g in enumerate(groups) if j != k], len(own)
        for i in own:
            mates = [j for j in own if j != i]
            for h, s in product(subsets(m - 1), subsets(b - 1)):
                base = frozenset(j for g in h for j in others[g]) | {mates[j] for j in s}
                weight = f(len(h)) * f(m - len(h) - 1) / f(m) * f(len(s)) * f(b - len(s) - 1) / f(b)
                scores[i] += weight * (v(base | {i}) - v(base))
    return scores


def test_both_definitions_agree() -> None:
    _, v, _ = any_game(6, seed=1)
    np.testing.assert_allclose(owen(v, GROUPS), owen_by_formula(v, GROUPS), atol=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_unbiased_for_the_definition_with_errors_that_cover(paired) -> None:
    game, v, _ = any_game(6, seed=1)
    truth = torch.as_tensor(owen_by_formula(v, GROUPS))
    estimator = ap.Owen(groups=GROUPS, orders=60, paired=paired)
    credits = [ap.attribute(game, estimator, seed=s) for s in range(60)]
    off = torch.stack([c.scores - truth for c in credits])
    within_noise(off)
    covered = (off.abs() <= 2.05 * torch.stack([c.error for c in credits])).double().mean()
    assert 0.90 <= float(covered) <= 0.99


def test_groups_sum_to_the_shapley_value_of_the_game_among_them() -> None:
    game, v, asked = any_game(6, seed=2)
    between = shapley(lambda s: v(frozenset(i for k in s for i in GROUPS[k])), 3)
    estimator = ap.Owen(groups=GROUPS, orders=80)
    sums = torch.stack(
        [
            torch.stack(
                [ap.attribute(game, estimator, seed=s).scores[list(g)].sum() for g in GROUPS]
            )
            for s in range(40)
        ]
    )
    within_noise(sums - torch.as_tensor(between))
    for s in asked:  # at most one group is split at a time
        assert sum(0 < len(s & set(g)) < len(g) for g in GROUPS) <= 1


@pytest.mark.parametrize("groups", [((0, 1, 2, 3, 4),), tuple((i,) for i in range(5))])
def test_one_group_or_everybody_alone_is_the_shapley_value(groups) -> None:
    game, v, _ = any_game(5, seed=3)
    credits = [ap.attribute(game, ap.Owen(groups=groups, orders=60), seed=s) for s in range(60)]
    within_noise(torch.stack([c.scores for c in credits]) - torch.as_tensor(shapley(v, 5)))
    assert "Shapley values" in credits[0].provenance.notes[0]


def test_two_orders_are_exact_for_pairs_within_a_game_of_pairs() -> None:
    game = toy.moebius(6, 2, generator(4))
    v = lambda s: float(game.value(torch.tensor([[i in s for i in range(6)]]))[0])
    credit = ap.attribute(game, ap.Owen(groups=GROUPS, orders=2))
    close(credit.scores, torch.as_tensor(owen_by_formula(v, GROUPS)))


def test_players_of_one_kind_are_a_group_unless_said_otherwise() -> None:
    model, x = mlp(), normal(1, 6, seed=1)
    both = ap.players.columns(x) | ap.players.neurons(model, "1", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(0), both, ap.Blend(ap.removals.zeros()))
    said = tuple(tuple(i for i in range(14) if both.kinds[i] == k) for k in ("column", "neuron"))
    unsaid = ap.attribute(game, ap.Owen(orders=10), seed=5)
    assert torch.equal(
        unsaid.scores, ap.attribute(game, ap.Owen(groups=said, orders=10), seed=5).scores
    )
    assert not unsaid.provenance.notes
    close(unsaid.gap, torch.zeros(()))


def test_stops_at_a_precision() -> None:
    game, _, _ = any_game(6, seed=1)
    credit = ap.attribute(game, ap.Owen(groups=GROUPS, orders=4000, until=ap.StandardError(0.1)))
    assert float(credit.error.max()) <= 0.1 and credit.cost.evaluations < 4000 * 5
    short = ap.attribute(game, ap.Owen(groups=GROUPS, orders=20, until=ap.StandardError(1e-9)))
    assert "ceiling" in short.provenance.notes[-1]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (((0, 1), (2, 3)), r"1 in none \[4\]"),
        (((0, 1), (1, 2, 3, 4)), r"1 are in two groups \[1\]"),
        (((0, 1, 2, 3, 4, 5),), r"1 do not exist \[5\]"),
        (((0, 1, 2, 3, 4), ()), "no group may be empty"),
    ],
)
def test_groups_that_are_no_partition_are_refused(groups, said) -> None:
    with pytest.raises(ap.BadRequest, match=said):
        ap.attribute(any_game(5)[0], ap.Owen(groups=groups))


def test_odd_orders_are_refused_where_they_come_in_pairs() -> None:
    with pytest.raises(ap.BadRequest, match=r"orders=4.*paired=False"):
        ap.Owen(orders=3)
    with pytest.raises(ap.BadRequest, match="whole number"):
        ap.Owen(groups=((True, 1),))
    assert ap.attribute(any_game(3)[0], ap.Owen(orders=1, paired=False)).error is None
