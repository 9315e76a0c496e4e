"""Leave-one-out: the drop when one player leaves, by hand in every setting it is known from."""

from __future__ import annotations

import torch
from torch import nn

import apportion as ap
from tests.oracles.slow import any_game
from tests.small import close, cnn, mlp, normal

ZEROS = ap.Blend(ap.removals.zeros())


def test_equals_the_definition_on_a_game_without_structure() -> None:
    game, v, asked = any_game(6, seed=3)
    credit = ap.attribute(game, ap.LeaveOneOut())
    everyone = frozenset(range(6))
    drops = [v(everyone) - v(everyone - {i}) for i in range(6)]
    close(credit.scores, torch.tensor(drops, dtype=torch.float64))
    close(credit.full, torch.tensor(v(everyone), dtype=torch.float64))
    assert sorted(map(sorted, asked)) == sorted(
        map(sorted, [everyone] + [everyone - {i} for i in range(6)])
    )


def test_players_that_stand_in_for_each_other_score_zero() -> None:
    """What it is known to miss: of two players of whom one suffices, neither is missed."""
    either = ap.FunctionGame(lambda g: (g[:, 0] | g[:, 1]).double() + 2.0 * g[:, 2], 3)
    close(ap.attribute(either, ap.LeaveOneOut()).scores, torch.tensor([0.0, 0.0, 2.0]))


def test_patches_are_occlusion() -> None:
    """Cover one square with the reference, run the network, look at the drop."""
    model, x, other = cnn(), normal(1, 2, 8, 8, seed=4), normal(1, 2, 8, 8, seed=5)
    for removal, stand_in in (
        (ZEROS, torch.zeros_like(x)),
        (ap.Blend(ap.removals.counterfactual(other)), other),
    ):
        game = ap.ModelGame(model, x, ap.values.Logit(2), ap.players.patches(x, 3), removal)
        drops = []
        for top in range(0, 8, 3):  # the last row and column are narrower
            for left in range(0, 8, 3):
                covered = x.clone()
                covered[..., top : top + 3, left : left + 3] = stand_in[
                    ..., top : top + 3, left : left + 3
                ]
                drops.append(float((model(x) - model(covered))[0, 2].detach()))
        close(ap.attribute(game, ap.LeaveOneOut()).scores, torch.tensor(drops, dtype=torch.float64))


def test_neurons_and_channels_are_single_ablation() -> None:
    model, x = mlp(), normal(1, 6, seed=1)
    units = ap.players.neurons(model, "1", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(0), units, ZEROS)
    hidden = model[1](model[0](x)).detach()
    with torch.no_grad():
        rest = nn.Sequential(*model[2:])
        drops = [rest(hidden) - rest(hidden * (torch.arange(8) != i)) for i in range(8)]
    close(ap.attribute(game, ap.LeaveOneOut()).scores, torch.cat(drops)[:, 0])

    net, picture = cnn(), normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(net, picture, ap.values.Logit(0), ap.players.channels(net, "0"), ZEROS)
    with torch.no_grad():
        maps, rest = net[0](picture), nn.Sequential(*net[1:])
        keep = [(torch.arange(4) != i)[:, None, None] for i in range(4)]
        drops = [rest(maps) - rest(maps * k) for k in keep]
    close(ap.attribute(game, ap.LeaveOneOut()).scores, torch.cat(drops)[:, 0])


def test_background_rows_average_the_drop() -> None:
    """Absence = a row of the background: the drop is the mean over the rows."""
    model, x, rows = mlp(), normal(1, 6, seed=1), normal(5, 6, seed=9)
    game = ap.ModelGame(
        model, x, ap.values.Logit(1), ap.players.columns(x), ap.Blend(ap.removals.rows(rows))
    )
    expected = torch.zeros(6, dtype=torch.float64)
    with torch.no_grad():
        for i in range(6):
            for row in rows:
                changed = x.clone()
                changed[0, i] = row[i]
                expected[i] += (model(x) - model(changed))[0, 1] / len(rows)
    close(ap.attribute(game, ap.LeaveOneOut()).scores, expected)
