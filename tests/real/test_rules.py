"""Rule tables on a vision model that writes in place: same values, same model, another gradient."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.backward import TABLE, unruled
from apportion.taps import Call
from tests.conftest import missing
from tests.small import untouched

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def game() -> ap.ModelGame:
    try:
        subject = ap.zoo.load("efficientnet-lite0")
    except ap.BadRequest as failure:
        missing(str(failure))
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    value, players = ap.values.Logit(285), ap.players.patches(x, 56)
    return ap.ModelGame(subject.model, x, value, players, ap.Blend(ap.removals.zeros()))


@pytest.mark.parametrize("name", TABLE)
def test_values_stay_and_gradients_bend(game, name) -> None:
    model, gates = game.question.model, torch.ones(1, game.players.n)
    values, slopes = game.grad(gates)
    with untouched(model):
        same, bent = game.under(TABLE[name]).grad(gates)
    assert torch.equal(values, same)
    moved = float((bent - slopes).abs().max() / slopes.abs().max())
    assert (moved > 1e-3) == (name != "gim")  # no softmax, no norm with a scale of its own


@pytest.mark.parametrize("name", ["cp-lrp", "attn-lrp", "epsilon"])
def test_the_tables_know_every_operation(game, name) -> None:
    assert unruled(game.question.model, Call((game.question.call.args[0],)), TABLE[name]) == []
