"""Every way to name players is a partition: lifted by one index, merged by sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.games import toy
from apportion.players import TABLE, Players, plain, same
from apportion.players.base import spread
from tests.contracts.made import ZEROS, X, asking, hard, soft, some, tiny
from tests.contracts.words import WordPiece
from tests.small import IDS, close, cnn, decoder, mlp, normal

PICTURE, SIGNAL = normal(1, 2, 8, 8), normal(1, 3, 10)
TEXT = WordPiece(["the", "un", "##believ", "##able", "cat", ",", "it", "sat"])
STOPS = WordPiece(["a", "cat", "b", "the", ".", "sat", "c", "d", "e", "."])
REGIONS = torch.arange(64).reshape(8, 8) // 13
STROKES = normal(1, 3, 2, 8, 8, seed=8)


def on_decoder(make) -> tuple[Players, nn.Module, Tensor]:
    model = decoder()
    return make(model), model, IDS


class Sum(nn.Module):
    """A model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = mlp(), mlp(4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) * self.right(b)


def on_picture(make) -> tuple[Players, nn.Module, Tensor]:
    return make(PICTURE), cnn(), PICTURE


def on_signal(make) -> tuple[Players, nn.Module, Tensor]:
    return make(SIGNAL), tiny(lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 3))), SIGNAL


# one game per row: players, the model they play in, and its input
ROWS = {
    "pixels": lambda: on_picture(ap.players.pixels),
    "patches": lambda: on_picture(lambda x: ap.players.patches(x, 3)),
    "superpixels": lambda: on_picture(lambda x: ap.players.superpixels(x, 4, compactness=1e3)),
    "tokens": lambda: on_decoder(lambda m: ap.players.tokens(m, IDS, positions=[1, 2, 5])),
    "words": lambda: on_decoder(lambda m: ap.players.words(m, IDS, TEXT)),
    "segments": lambda: on_picture(lambda x: ap.players.segments(x, REGIONS)),
    "strokes": lambda: (ap.players.strokes(STROKES), ap.players.Canvas(cnn()), STROKES),
    "sentences": lambda: on_decoder(lambda m: ap.players.sentences(m, IDS, STOPS)),
    "spans": lambda: on_decoder(lambda m: ap.players.spans(m, IDS, TEXT, [(0, 6), (10, 16)])),
    "column-groups": lambda: (ap.players.column_groups(X, {"pair": [0, 4]}), mlp(), X),
    "modalities": lambda: (
        ap.players.modalities({"first": 0, "second": 1}),
        tiny(Sum),
        (X, normal(1, 4)),
    ),
    "layers": lambda: on_decoder(ap.players.layers),
    "time-steps": lambda: on_signal(ap.players.time_steps),
    "frequencies": lambda: on_signal(ap.players.frequencies),
    "wavelets": lambda: on_picture(lambda x: ap.players.wavelets(x, levels=2, grid=4)),
    "columns": lambda: (ap.players.columns(X), mlp(), X),
    "neurons": lambda: (ap.players.neurons(model := mlp(), "2"), model, X),
    "directions": lambda: (ap.players.directions(m := mlp(), "0", normal(8, 8, seed=7)), m, X),
    "channels": lambda: (ap.players.channels(model := cnn(), "4"), model, PICTURE),
    "cells": lambda: (ap.players.cells(m := cnn(), "4", input=PICTURE), m, PICTURE),
    "heads": lambda: on_decoder(lambda m: ap.players.heads(m, count=2, positions=[0, 3], length=6)),
    "mlps": lambda: on_decoder(ap.players.mlps),
}
KINDS = {
    "patches": "patch", "frequencies": "frequency", "wavelets": "wavelet cell",
}  # fmt: skip
EACH = pytest.mark.parametrize("name", list(ROWS))


def test_every_row_has_a_game() -> None:
    """Training rows play in games of their own: tests/contracts/test_example_games.py."""
    assert ROWS.keys() | {"training-rows"} == TABLE.keys()


@EACH
def test_every_element_has_one_owner_or_none_and_every_player_an_element(name) -> None:
    players, model, x = ROWS[name]()
    game = asking(model, x, players=players)
    owners = []
    for site, owner in players.owner.items():
        # broadcasts to the tensor there, or to its coefficients
        owners.append(owner.expand(game.clean.supports[site]).flatten())
    everything = torch.cat(owners)
    assert set(everything.tolist()) - {-1} == set(range(players.n))
    partial = name in ("tokens", "heads", "spans")  # rows that were built for some positions only
    assert (-1 in everything) == partial
    assert len(set(players.names)) == players.n == len(players.kinds)
    named = KINDS.get(name, name.removesuffix("s").replace("-", " "))
    assert set(players.kinds) == (set(players.names) if name == "modalities" else {named})


@EACH
def test_lifting_gives_each_element_the_gate_of_its_owner(name) -> None:
    players = ROWS[name]()[0]
    for gates in (some(players.n), soft(players.n)):
        for site, lifted in players.lift(gates).items():
            owner = players.owner[site].flatten().tolist()
            assert lifted.dtype == gates.dtype
            assert lifted.shape == (len(gates), *players.owner[site].shape)
            slow = [[True if o < 0 else row[o].item() for o in owner] for row in gates]
            assert lifted.flatten(1).tolist() == slow


@EACH
def test_absence_of_a_player_changes_its_elements_and_no_others(name) -> None:
    players, model, x = ROWS[name]()
    game = asking(model, x, players=players)
    for site, owner in players.owner.items():
        clean = game.clean.activations[site]
        lifted = players.lift(~torch.eye(players.n, dtype=torch.bool))[site]
        for player in range(0, players.n, 7):
            changed = game._removals[site](
                clean[None], lifted[player, None], torch.zeros_like(clean)[None], torch.tensor([0])
            )[0]
            gone = (owner == player).expand(game.clean.supports[site])
            if site not in players.views:
                assert torch.equal(changed[0], torch.where(gone, 0.0, clean[0]))
                continue
            before, after = (players.views[site].analysis(t)[0] for t in (clean, changed))
            assert torch.allclose(after, torch.where(gone, 0.0, before), atol=1e-12)


# -- coarser players


def halves(n: int) -> list[list[int]]:
    return [list(range(0, n, 2)), list(range(1, n, 2))]


@EACH
def test_merging_lets_each_group_act_as_one(name) -> None:
    players, model, x = ROWS[name]()
    groups = halves(players.n)
    coarse = players.merge(groups)
    assert coarse.n == 2
    gates = hard("10", "01", "11", "00")
    fine = torch.stack([gates[:, i % 2] for i in range(players.n)], 1)
    close(
        asking(model, x, players=coarse).value(gates),
        asking(model, x, players=players).value(fine),
        atol=1e-12,
    )
    again = coarse.merge([[0], [1]])
    assert same(again, coarse)
    alone = players.merge([[i] for i in range(players.n)])
    assert same(alone, players)


def test_merging_in_two_steps_is_merging_at_once() -> None:
    players = plain(6)
    twice = players.merge([[0, 1], [2, 3], [4], [5]]).merge([[0, 2], [1], [3]], ["a", "b", "c"])
    assert same(twice, players.merge([[0, 1, 4], [2, 3], [5]], ["a", "b", "c"]))


def test_credit_of_an_additive_game_merges_to_sums() -> None:
    model = tiny(lambda: nn.Linear(6, 1, bias=False))
    groups = [[0, 3], [1], [2, 4, 5]]
    fine = ap.players.columns(X)
    credit = ap.attribute(asking(model, players=fine), ap.LeaveOneOut())
    merged = ap.attribute(asking(model, players=fine.merge(groups)), ap.LeaveOneOut())
    close(merged.scores, torch.stack([credit.scores[g].sum() for g in groups]))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 1], [1, 2, 3]], r"1 are in two groups \[1\]"),
        ([[0, 1], [2]], r"1 in none \[3\]"),
        ([[0, 1], [2, 3, 4]], r"1 do not exist \[4\]"),
        ([[0, 1, 2], [3, -1]], r"1 do not exist \[-1\]"),
        ([[0, 1], [], [2, 3]], "none may be empty"),
        ([], "4 in none"),
        ([[0, 0], [1, 2, 3]], r"in two groups \[0\]"),
    ],
)
def test_groups_that_are_no_partition_are_refused(groups, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        plain(4).merge(groups)


def test_groups_have_names_of_their_own_or_those_of_their_members() -> None:
    merged = plain(["a", "b", "c", "d", "e"]).merge([[0, 1, 2, 3], [4]])
    assert merged.names == ("a + 3 more", "e")
    assert plain(["a", "b", "c"]).merge([[0, 1], [2]]).names == ("a + b", "c")
    assert plain(3).merge([[0, 1], [2]], ["left", "right"]).names == ("left", "right")
    with pytest.raises(ap.BadRequest, match="2 groups but 1 names"):
        plain(3).merge([[0, 1], [2]], ["left"])


def test_a_group_of_several_kinds_is_a_group() -> None:
    both = ap.players.columns(X) | ap.players.neurons(mlp(), "0")
    merged = both.merge([[0, 6], [1, 2, 3, 4, 5], list(range(7, 14))])
    assert merged.kinds == ("group", "column", "neuron")


# -- several sets in one game


def test_mixing_keeps_each_set_at_its_own_sites() -> None:
    columns, units = ap.players.columns(X), ap.players.neurons(mlp(), "0")
    both = columns | units
    assert both.n == columns.n + units.n
    assert both.names == columns.names + units.names
    assert both.kinds == columns.kinds + units.kinds
    gates = some(14)
    lifted = both.lift(gates)
    assert torch.equal(lifted[ap.Site("", "in")], gates[:, :6])
    assert torch.equal(lifted[ap.Site("0")], gates[:, 6:])
    assert same(both.only("column"), columns) and same(both.only("neuron"), units)
    assert both.home() == [ap.Site("", "in")] * 6 + [ap.Site("0")] * 8
    assert (both.grid, str(both)) == (None, "6 columns and 8 neurons")


def test_elements_of_nobody_stay_nobodys_when_sets_mix() -> None:
    model = decoder()
    some_tokens = ap.players.tokens(model, IDS, positions=[1, 4])
    both = ap.players.mlps(model) | some_tokens
    owner = both.owner[ap.Site("embed")].flatten().tolist()
    assert owner == [-1, 2, -1, -1, 3, -1]


def test_a_site_has_one_set_of_players() -> None:
    with pytest.raises(ap.BadRequest, match="both sets of players own the input of the model"):
        ap.players.patches(PICTURE, 4) | ap.players.pixels(PICTURE)
    with pytest.raises(ap.BadRequest, match="another kind"):
        ap.players.columns(X, part="a") | ap.players.columns(X, part="b")


def test_names_that_meet_are_told_apart() -> None:
    both = plain(["a", "b"]) | ap.players.Players(
        ("a", "a #2"), ("p", "p"), {ap.Site("other"): torch.tensor([0, 1])}
    )
    assert len(set(both.names)) == 4 and both.names[:2] == ("a", "b")
    named = ap.players.columns(X, ["age", "age", "age #2", "age", "x", "y"])
    assert len(set(named.names)) == 6 and named.names[:1] == ("age",)


# -- players that are none


@pytest.mark.parametrize(
    ("names", "kinds", "owner", "message"),
    [
        ((), (), [0], "no players"),
        (("a", "a"), ("k", "k"), [0, 1], "two players are called 'a'"),
        (("a", "b"), ("k",), [0, 1], "one kind per player"),
        (("a", "b"), ("k", "k"), [0, 2], "from 0 to 2, but players from 0 to 1"),
        (("a", "b"), ("k", "k"), [-2, 1], "from -2 to 1"),
        (("a", "b"), ("k", "k"), [0, 0], "own nothing, the first is 'b'"),
    ],
)
def test_players_that_do_not_fit_their_elements_are_refused(names, kinds, owner, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        Players(names, kinds, {ap.Site("", "in"): torch.tensor(owner)})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.players.patches(PICTURE, 9), "choose 1 to 8"),
        (lambda: ap.players.patches(PICTURE, 0), "choose 1 to 8"),
        (lambda: ap.players.pixels(PICTURE[0, 0]), r"x\[None\]"),
        (lambda: ap.players.pixels(PICTURE[..., :0]), "no players"),
        (lambda: ap.players.superpixels(PICTURE, 0), "at least 1"),
        (lambda: ap.players.patches(PICTURE, 4, torch.zeros(8, 8, 3)), "uint8"),
        (lambda: ap.players.columns(X[0]), r"x\[None\]"),
        (lambda: ap.players.columns(X[:, :0]), "no players"),
        (lambda: ap.players.columns(X, ["a"]), "1 names for 6 columns"),
        (lambda: ap.players.columns(X, values=[1.0]), "1 values for 6 columns"),
        (lambda: ap.players.tokens(decoder(), IDS[0]), "ids must be integers"),
        (lambda: ap.players.tokens(decoder(), IDS.double()), "ids must be integers"),
        (lambda: ap.players.tokens(decoder(), IDS[:, :0]), "no players"),
        (lambda: ap.players.tokens(decoder(), IDS, positions=[]), "no players"),
        (lambda: ap.players.tokens(decoder(), IDS, positions=[6]), "from 0 to 5"),
        (lambda: ap.players.tokens(decoder(), IDS, positions=[1, 1]), "different"),
        (lambda: ap.players.tokens(mlp(), IDS), "embedding="),
        (lambda: ap.players.heads(mlp()), "no attention output projection"),
        (lambda: ap.players.heads(decoder()), "count="),
        (lambda: ap.players.heads(decoder(), count=3), "do not divide"),
        (lambda: ap.players.heads(decoder(), count=2, positions=[3]), "length="),
        (lambda: ap.players.heads(decoder(), count=2, positions=[1, 1], length=4), "different"),
        (lambda: ap.players.heads(decoder(), count=2, positions=[]), "no players"),
        (lambda: ap.players.mlps(mlp()), "no MLP blocks"),
        (lambda: ap.players.neurons(mlp(), "1"), "input="),
        (lambda: ap.players.channels(mlp(), "0", input=X), "use neurons"),
        (lambda: ap.players.cells(mlp(), "0", input=X), "no positions; use neurons"),
        (lambda: ap.players.cells(cnn(), "4", input=PICTURE, axis=0), "axis=1 to 3"),
        (lambda: ap.players.cells(cnn(), "4", input=PICTURE, axis=4), "no axis of channels"),
        (lambda: ap.players.cells(cnn(), "4", input=PICTURE, axis=-4), "no axis of channels"),
    ],
)
def test_requests_that_make_no_players_are_refused_with_a_remedy(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_spreading_reads_a_one_where_nobody_owns() -> None:
    owner = torch.tensor([[0, -1], [1, 0]])
    assert spread(hard("01"), owner).tolist() == [[[False, True], [True, False]]]
    assert spread(torch.tensor([[0.25, 0.5]]), owner).tolist() == [[[0.25, 1.0], [0.5, 0.25]]]


def test_equality_reads_names_kinds_and_owners() -> None:
    a, b = ap.players.columns(X), ap.players.columns(2 * X)
    assert same(a, b)
    assert not same(a, ap.players.columns(X, list("abcdef")))
    assert not same(a, ap.players.columns(X, part="x"))
    assert not same(plain(4), plain(4, kind="other"))
    assert not same(plain(3).merge([[0, 1], [2]], "ab"), plain(3).merge([[0], [1, 2]], "ab"))
    assert same(toy.additive(normal(3)).players, plain(3))
    assert ZEROS.draws == 1
