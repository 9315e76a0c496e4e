"""Second differences by hand, at both places, and the requests they make."""

from __future__ import annotations

import pytest

import apportion as ap
from tests.oracles import sets
from tests.oracles.slow import any_game
from tests.small import close


@pytest.mark.parametrize("among", list(ap.Among))
def test_the_four_values_of_a_pair(among) -> None:
    game, v, asked = any_game(sets.N)
    found = ap.attribute(game, ap.SecondDifference(among=among))
    everybody = frozenset(range(sets.N))

    def four(s: frozenset[int]) -> float:
        return sets.gain(v, s, everybody - s if among is ap.Among.ALL else frozenset())

    close(found.scores, sets.by_definition(found, four))
    assert len(asked) == len(set(asked)) == found.cost.evaluations == 1 + 5 + 10
    end = found.full if among is ap.Among.ALL else found.none
    assert float(end) == v(everybody if among is ap.Among.ALL else frozenset())
    assert (found.none is None) == (among is ap.Among.ALL)
    assert (found.full is None) == (among is ap.Among.NONE)


def test_two_stand_ins_show_and_three_hide() -> None:
    two = ap.FunctionGame(lambda g: (g[:, 0] | g[:, 1]).double(), 3)
    three = ap.FunctionGame(lambda g: g[:, :3].any(-1).double(), 4)
    assert ap.attribute(two, ap.SecondDifference())[0, 1].score == -1
    assert ap.attribute(three, ap.SecondDifference())[0, 1].score == 0
    alone = ap.SecondDifference(among=ap.Among.NONE)
    assert ap.attribute(three, alone)[0, 1].score == -1
