"""Scores of sets of players: how they are found, ordered, laid out and told."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import apportion as ap
from apportion.players import plain


def made(*scores: float, **more) -> ap.Interactions:
    sets = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    players = plain(["a", "b", "c"])
    return ap.Interactions(torch.tensor(scores), sets[: len(scores)].bool(), players, **more)


def test_sets_are_found_by_name_and_number_in_any_order() -> None:
    found = made(1.0, 2.0, 3.0, 4.0, -5.0, 6.0)
    assert found["a", "c"] == found["c", "a"] == found[0, 2] == found[0, -1]
    assert found["a", "c"].score == -5 and found["a", "c"].name == "a × c"
    assert found["b"].score == found[1].score == found[("b",)].score == 2
    for wrong in (("a", "z"), ("a", "a"), ("a", "b", "c"), 7):
        with pytest.raises(ap.BadRequest, match=r"no player|no score is kept"):
            found[wrong]


def test_the_matrix_is_symmetric_with_singles_on_the_diagonal() -> None:
    found = made(1.0, 2.0, 3.0, 4.0, -5.0, 6.0)
    assert found.matrix().tolist() == [[1, 4, -5], [4, 2, 6], [-5, 6, 3]]
    assert found.of(2).matrix().diagonal().tolist() == [0, 0, 0]
    several = dataclasses.replace(found, scores=torch.stack([found.scores, 2 * found.scores]))
    assert torch.equal(several.matrix()[1], 2 * found.matrix())


def test_top_sets_orders_and_outputs() -> None:
    found = made(1.0, 2.0, 3.0, 4.0, -5.0, 6.0)
    assert [c.score for c in found.top(2)] == [6, -5]
    assert [c.score for c in found.top(2, signed=True)] == [6, 4]
    assert found.of(1).scores.tolist() == [1, 2, 3]
    assert found.of(1).gap is None
    with pytest.raises(ap.BadRequest, match="order=3"):
        found.of(3)
    several = dataclasses.replace(found, scores=torch.stack([found.scores, 2 * found.scores]))
    assert several.pick(1).top(1)[0].score == 12
    for ask in (several.top, several.to_frame, lambda: several["a"], several.plot):
        with pytest.raises(ap.BadRequest, match="pick"):
            ask()
    with pytest.raises(ap.BadRequest, match="there is no"):
        several.pick(2)
    with pytest.raises(ap.BadRequest, match="sets must be bool"):
        ap.Interactions(torch.zeros(2), torch.zeros(2, 3), plain(3))


def test_a_frame_has_one_row_per_set() -> None:
    frame = made(1.0, 2.0, 3.0, 4.0, -5.0, 6.0).to_frame()
    assert frame["score"].tolist() == [1, 2, 3, 4, -5, 6]
    assert frame["set"].tolist()[3:] == ["a × b", "a × c", "b × c"]
    assert frame["order"].tolist() == [1, 1, 1, 2, 2, 2]


def test_the_text_names_the_largest_sets_and_says_noise() -> None:
    said = str(made(1.0, 2.0, 3.0, 4.0, -5.0, 6.0, error=torch.full((6,), 9.0)))
    assert said.index("b × c") < said.index("a × c") < said.index("a × b")
    assert "noise" in said and "6 sets of 3 players" in said
