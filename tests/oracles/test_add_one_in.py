"""Add-one-in: what one player brings alone, by hand where it is known from."""

from __future__ import annotations

import torch
from torch import nn

import apportion as ap
from apportion.estimators import add_one_in
from tests.oracles.slow import any_game
from tests.small import close, mlp, normal


def test_equals_the_definition_on_a_game_without_structure() -> None:
    game, v, asked = any_game(6, seed=3)
    credit = ap.attribute(game, ap.AddOneIn())
    nobody: frozenset[int] = frozenset()
    rises = [v(frozenset({i})) - v(nobody) for i in range(6)]
    close(credit.scores, torch.tensor(rises, dtype=torch.float64))
    close(credit.none, torch.tensor(v(nobody), dtype=torch.float64))
    assert sorted(map(sorted, asked)) == sorted(map(sorted, [nobody] + [{i} for i in range(6)]))


def test_is_leave_one_out_of_the_reversed_question() -> None:
    """Joining nobody is leaving everybody where presence and absence change places."""
    game, _, _ = any_game(5, seed=4)
    turned = ap.FunctionGame(lambda g: -game.value(~g), 5)
    close(ap.attribute(game, ap.AddOneIn()).scores, ap.attribute(turned, ap.LeaveOneOut()).scores)


def test_players_that_need_each_other_score_zero() -> None:
    """What it is known to miss: of two players who are worth something only together."""
    both = ap.FunctionGame(lambda g: (g[:, 0] & g[:, 1]).double() + 2.0 * g[:, 2], 3)
    close(ap.attribute(both, ap.AddOneIn()).scores, torch.tensor([0.0, 0.0, 2.0]))


def test_neurons_of_another_run_are_denoising_patching() -> None:
    """Run on the corrupt input, restore one clean activation at a time."""
    model, x, corrupt = mlp(), normal(1, 6, seed=1), normal(1, 6, seed=2)
    units = ap.players.neurons(model, "1", input=x)
    removal = ap.Blend(ap.removals.counterfactual(corrupt))
    game = ap.ModelGame(model, x, ap.values.Logit(0), units, removal)
    with torch.no_grad():
        clean, noisy = (model[1](model[0](z)) for z in (x, corrupt))
        rest = nn.Sequential(*model[2:])
        restored = torch.cat([torch.where(torch.arange(8) == i, clean, noisy) for i in range(8)])
        rises = (rest(restored) - rest(noisy))[:, 0]
    close(ap.attribute(game, ap.AddOneIn()).scores, rises)


def test_many_players_are_asked_in_pieces(monkeypatch) -> None:
    game, _, _ = any_game(6, seed=5)
    whole = ap.attribute(game, ap.AddOneIn()).scores
    monkeypatch.setattr(add_one_in, "PIECE", 12)
    assert torch.equal(ap.attribute(game, ap.AddOneIn()).scores, whole)
