"""Cells of a feature map: one player per position, wherever the channels stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.report.picture import overlay, owners, picture, shape_of
from tests.contracts.made import asking, tiny
from tests.report import made
from tests.small import IDS, close, cnn, decoder, normal

PICTURE = normal(1, 2, 8, 8)


def activation(model: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's output and the derivative of the first logit by it, without the library."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, out: Tensor) -> Tensor:
        kept.append(out.detach().clone().requires_grad_())
        return kept[0]

    handle = model.get_submodule(layer).register_forward_hook(keep)
    out = model(x)
    handle.remove()
    logits = out if isinstance(out, Tensor) else out["logits"][:, -1]
    return kept[0].detach(), torch.autograd.grad(logits[0, 0], kept[0])[0]


def test_the_gradient_on_cells_is_activation_times_slope_summed_over_channels() -> None:
    """HiResCAM without its ReLU."""
    model = cnn()
    players = ap.players.cells(model, "4", input=PICTURE)
    credit = ap.attribute(asking(model, PICTURE, players=players), ap.Gradient())
    a, slope = activation(model, "4", PICTURE)
    close(credit.scores, (a * slope).sum(1).flatten(), atol=1e-12)
    assert players.grid == (4, 4) and players.names[:5] == (
        "r1 c1",
        "r1 c2",
        "r1 c3",
        "r1 c4",
        "r2 c1",
    )


def test_tokens_of_a_transformer_are_cells_whose_channels_come_last() -> None:
    model = decoder()
    players = ap.players.cells(model, "layers.0", input=IDS, axis=-1)
    assert players.grid == (6,) and players.names[-1] == "place 6"
    credit = ap.attribute(asking(model, IDS, players=players), ap.Gradient())
    a, slope = activation(model, "layers.0", IDS)
    close(credit.scores, (a * slope).sum(-1).flatten(), atol=1e-12)


class Last(nn.Module):
    """A feature map (batch, row, column, channel)."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.head = nn.Conv2d(2, 3, 2, stride=2), nn.Linear(24, 2)
        self.turn = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.turn(self.map(x).permute(0, 2, 3, 1)).tanh().flatten(1))


@pytest.mark.parametrize("axis", [-1, 3])
def test_the_place_of_the_channels_does_not_change_the_credit_nor_the_drawing(axis) -> None:
    x, model = normal(1, 2, 4, 8), tiny(Last)
    first = ap.players.cells(model, "map", input=x)
    last = ap.players.cells(model, "turn", input=x, axis=axis)
    assert first.names == last.names and first.grid == last.grid == (2, 4)
    one, two = (ap.attribute(asking(model, x, players=p), ap.LeaveOneOut()) for p in (first, last))
    close(one.scores, two.scores, atol=1e-12)
    assert np.array_equal(owners(one, shape_of(one)), owners(two, shape_of(two)))


def test_cells_lie_over_the_picture_in_proportion() -> None:
    model = cnn()
    credit = made.credit(ap.players.cells(model, "4", input=PICTURE))
    view = overlay(credit, shape_of(credit), "cells", size=(80.0, 80.0))
    corners = [(20.0 * c, 20.0 * r) for r in range(4) for c in range(4)]
    assert [(r.x, r.y) for r in view.regions] == corners
    assert all((r.width, r.height) == (20.0, 20.0) for r in view.regions)
    told = [v.caption for v in picture(credit, list(range(16))).views]
    assert not any("model sees" in words for words in told)


def test_cells_of_a_volume_and_of_a_signal_are_numbered_along_their_axes() -> None:
    deep = tiny(lambda: nn.Sequential(nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(24, 1)))
    players = ap.players.cells(deep, "0", input=normal(1, 1, 2, 2, 3))
    assert players.grid == (2, 2, 3) and players.names[4] == "s1 r2 c2"
    assert players.geometry["cell"].view == "parts"
    line = tiny(lambda: nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten(), nn.Linear(10, 1)))
    assert ap.players.cells(line, "0", input=normal(1, 1, 5)).names[2] == "place 3"
