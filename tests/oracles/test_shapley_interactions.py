"""Shapley interactions against their definition, and against Shapley values of merged players."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.estimators._indices import bernoulli_number, shapley_interaction, weights
from apportion.games import toy
from tests.oracles import sets
from tests.oracles.slow import any_game, shapley
from tests.small import close


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_definition_on_a_game_without_structure(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.ShapleyInteractions(order=order))
    close(found.scores, sets.by_definition(found, lambda s: sets.shapley_interaction(v, s)))


def test_single_players_get_their_shapley_value() -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.ShapleyInteractions(order=2))
    close(found.of(1).scores, torch.tensor(shapley(v, sets.N)))


def test_a_pair_is_what_merging_it_brings() -> None:
    """Grabisch and Roubens: I_ij = Shapley of the pair as one player in the game where it is one,
    minus the Shapley value of either in the game without the other.
    """
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.ShapleyInteractions(order=2))
    n = sets.N
    for i, j in ((0, 1), (1, 4)):
        rest = [k for k in range(n) if k not in (i, j)]

        def reduced(heads, rest=rest):
            players = [*heads, *[frozenset({k}) for k in rest]]
            return lambda s: v(frozenset().union(*[players[k] for k in s]))

        merged = shapley(reduced([frozenset({i, j})]), n - 1)[0]
        alone = [shapley(reduced([frozenset({k})]), n - 1)[0] for k in (i, j)]
        assert found[i, j].score == pytest.approx(merged - sum(alone), abs=1e-12)


def test_players_who_must_meet_score_up_and_stand_ins_score_down() -> None:
    both = toy.unanimity(4, (0, 1))
    assert ap.attribute(both, ap.ShapleyInteractions())[0, 1].score == pytest.approx(1)
    either = ap.FunctionGame(lambda g: (g[:, 0] | g[:, 1]).double(), 4)
    assert ap.attribute(either, ap.ShapleyInteractions())[0, 1].score == pytest.approx(-1)


def test_a_sample_is_corrected_by_what_the_fit_leaves() -> None:
    """The mean over seeds is the index, where the fit alone is another one."""
    game = toy.moebius(9, 5, torch.Generator().manual_seed(3))
    truth = ap.attribute(game, ap.ShapleyInteractions()).scores
    faithful = ap.attribute(game, ap.FaithfulShapley()).scores
    asked = ap.ShapleyInteractions(samples=200)
    runs = [ap.attribute(game, asked, seed=s) for s in range(60)]
    mean = torch.stack([r.scores for r in runs]).mean(0)
    assert float((mean - truth).abs().max()) < 0.2 * float((faithful - truth).abs().max())


def test_weights_are_exact_where_sums_alternate() -> None:
    """Of a set of two in 60 players, against the closed form with factorials."""
    n, table = 60, weights(shapley_interaction, 60, 2)
    for a in range(n - 1):
        chance = 1 / (n - 1)  # of a size, spread over C(n - 2, a) coalitions
        for k in range(a):
            chance *= (k + 1) / (n - 2 - k)
        assert float(table[2, 0, a]) == pytest.approx(chance, rel=1e-12)
        assert float(table[2, 1, a + 1]) == pytest.approx(-chance, rel=1e-12)


def test_bernoulli_numbers() -> None:
    assert [str(bernoulli_number(j)) for j in range(7)] == [
        "1", "-1/2", "1/6", "0", "-1/30", "0", "1/42",
    ]  # fmt: skip
