"""Drawings of sets: what they show is read back from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.games import toy
from tests.report import made

pytest.importorskip("matplotlib")

FOUND = ap.attribute(toy.moebius(6, 3, Generator().manual_seed(0)), ap.NShapley(samples=50))


def test_bars_are_the_largest_sets() -> None:
    ax = FOUND.plot(top=4).axes[-1]
    drawn = {
        label.get_text(): bar.get_width()
        for label, bar in zip(ax.get_yticklabels(), ax.patches, strict=True)
    }
    assert drawn == pytest.approx({c.name: c.score for c in FOUND.top(4)})
    spans = sorted(float(s[1][0] - s[0][0]) for c in ax.collections for s in c.get_segments())
    assert spans == pytest.approx(sorted(2 * FOUND.reach * c.error for c in FOUND.top(4)))


def test_the_map_is_the_matrix_in_colour() -> None:
    image = np.asarray(FOUND.plot().axes[0].images[0].get_array())
    matrix = FOUND.matrix().numpy()
    fade = 1 - np.abs(matrix) / np.abs(matrix).max()
    blue = image[..., 2] > image[..., 0]
    assert (blue == (matrix > 0))[np.abs(matrix) > 1e-9].all()
    darkest = image.min(-1)
    order = np.argsort(fade[matrix > 0])
    assert (np.diff(darkest[matrix > 0][order]) >= -1e-12).all()


def test_without_pairs_there_are_bars_alone_and_an_axis_is_drawn_on() -> None:
    from matplotlib.figure import Figure

    assert len(FOUND.of(1).plot().axes) == 1
    figure = Figure()
    ax = figure.subplots()
    assert FOUND.of(1).plot(ax=ax) is figure and len(ax.patches) == 6
    with pytest.raises(ap.BadRequest, match="at least one"):
        FOUND.plot(top=0)


def test_a_block_holds_every_pair_its_number_and_the_cost() -> None:
    html = FOUND._repr_html_()
    read = made.Page(html)
    titles = [a["title"] for a in read.all("td")]
    assert len(titles) == 36
    name, other = FOUND.players.names[:2]
    assert sum(t.startswith(f"{name}, {other}: ") for t in titles) == 1
    assert FOUND.top(1)[0].name in read.text and "50 evaluations" in read.text
    assert not read.all("script")


def test_names_are_escaped_and_large_maps_say_what_they_leave_out() -> None:
    names = ["<b>x</b>", *[f"p{i}" for i in range(59)]]
    weights = torch.arange(60).double()
    players = ap.FunctionGame(lambda g: g.double() @ weights, names).players
    pairs = torch.triu_indices(60, 60, 1).T
    sets = torch.zeros(len(pairs), 60, dtype=torch.bool).scatter_(1, pairs, True)
    scores = torch.zeros(len(pairs))
    scores[0] = 5.0
    html = ap.Interactions(scores, sets, players)._repr_html_()
    assert "<b>x" not in html and "&lt;b&gt;x" in html
    assert "40 of 60 rows" in html


def test_several_outputs_ask_for_a_choice() -> None:
    two = dataclasses.replace(FOUND, scores=FOUND.scores.repeat(2, 1), error=None, none=None)
    assert "pick" in two._repr_html_()
