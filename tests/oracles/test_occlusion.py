"""Occlusion: windows slid by hand over pictures, rows and blocks."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import apportion as ap
from apportion.estimators import occlusion
from apportion.players import Players
from apportion.players.base import Geometry
from tests.small import close, cnn, mlp, normal

ZEROS = ap.Blend(ap.removals.zeros())


def on_grid(grid: tuple[int, ...], seed: int = 0) -> ap.FunctionGame:
    """A smooth function of players that fill a grid."""
    n = torch.Size(grid).numel()
    game = ap.FunctionGame(lambda g: mlp(n)(g.double())[:, 0] + normal(1, seed=seed), n)
    placed = Players(
        game.players.names, game.players.kinds, game.players.owner,
        {"player": Geometry("parts", None, grid)},
    )  # fmt: skip
    object.__setattr__(game, "players", placed)
    return game


def by_hand(
    game: ap.FunctionGame, window: tuple[int, ...], stride: tuple[int, ...]
) -> torch.Tensor:
    """Every window from the first corner on until one reaches the far border, player by player."""
    grid = game.players.grid
    drops: dict[tuple[int, ...], list[float]] = {p: [] for p in product(*map(range, grid))}
    axes = []
    for side, w, s in zip(grid, window, stride, strict=True):
        begins = [0]
        while begins[-1] + w < side:
            begins.append(begins[-1] + s)
        axes.append(begins)
    whole = game.value(torch.ones(1, game.players.n, dtype=torch.bool))
    for corner in product(*axes):
        keep, under = torch.ones(grid, dtype=torch.bool), []
        for place in drops:
            if all(c <= p < c + w for p, c, w in zip(place, corner, window, strict=True)):
                keep[place], under = False, [*under, place]
        drop = float(whole - game.value(keep.flatten()[None]))
        for place in under:
            drops[place].append(drop)
    return torch.tensor([sum(d) / len(d) for d in drops.values()], dtype=torch.float64)


@pytest.mark.parametrize(
    ("grid", "window", "stride"),
    [
        ((9,), (3,), (1,)),
        ((10,), (4,), (3,)),  # the stride does not divide the way
        ((5, 6), (2, 3), (1, 2)),
        ((5, 6), (3, 3), (2, 2)),
        ((3, 4, 2), (2, 3, 1), (2, 2, 1)),
        ((1, 7), (3, 3), (2, 2)),  # a side shorter than the window
    ],
)
def test_windows_by_hand(grid, window, stride) -> None:
    game = on_grid(grid)
    credit = ap.attribute(game, ap.Occlusion(window=window, stride=stride))
    close(credit.scores, by_hand(game, window, stride))
    if len(set(window)) == len(set(stride)) == 1:
        one = ap.attribute(game, ap.Occlusion(window=window[0], stride=stride[0]))
        assert torch.equal(one.scores, credit.scores)
    ends = ap.attribute(game, ap.Occlusion(window=max(grid)))
    nobody = game.value(torch.zeros(1, game.players.n, dtype=torch.bool))[0]
    close(ends.scores, (ends.full - nobody).expand(game.players.n))


def test_a_window_of_one_is_leave_one_out() -> None:
    model, x = cnn(), normal(2, 2, 8, 8, seed=4)
    game = ap.ModelGame(model, x, ap.values.Logit(2), ap.players.patches(x, 2), ZEROS)
    close(
        ap.attribute(game, ap.Occlusion(window=1)).scores,
        ap.attribute(game, ap.LeaveOneOut()).scores,
    )


def test_many_windows_are_asked_in_pieces(monkeypatch) -> None:
    game = on_grid((5, 6))
    whole = ap.attribute(game, ap.Occlusion(window=2)).scores
    monkeypatch.setattr(occlusion, "PIECE", 7 * 30)
    close(ap.attribute(game, ap.Occlusion(window=2)).scores, whole, atol=1e-13)


def test_players_without_a_grid_are_sent_to_leave_one_out() -> None:
    x = normal(1, 6)
    game = ap.ModelGame(mlp(), x, ap.values.Logit(0), ap.players.columns(x), ZEROS)
    with pytest.raises(ap.BadRequest, match=r"6 columns.*LeaveOneOut.*patches"):
        ap.attribute(game, ap.Occlusion())


def test_windows_that_miss_players_or_do_not_fit_the_grid_are_refused() -> None:
    game = on_grid((5, 6))
    with pytest.raises(ap.BadRequest, match=r"stride longer than the window.*stride=2"):
        ap.attribute(game, ap.Occlusion(window=2, stride=3))
    with pytest.raises(ap.BadRequest, match=r"2 axes \(5, 6\), window has 3"):
        ap.attribute(game, ap.Occlusion(window=(2, 2, 2)))
    with pytest.raises(ap.BadRequest, match=r"2 axes \(5, 6\), stride has 1"):
        ap.attribute(game, ap.Occlusion(stride=(1,)))
    for wrong in (0, (), (2, 0)):
        with pytest.raises(ap.BadRequest, match=r"Occlusion\(window=.*at least 1"):
            ap.Occlusion(window=wrong)
    with pytest.raises(ap.BadRequest, match="whole number"):
        ap.Occlusion(stride=(True, 1))
