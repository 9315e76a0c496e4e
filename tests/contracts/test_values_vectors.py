"""The value that is a whole vector: what it reads, and its slopes."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch

import apportion as ap
from apportion.values import Embedding, Value
from tests.small import central_difference, close, normal, table_game

STATES, ROWS = normal(2, 5, 4, seed=1), normal(3, 4, seed=2)


@pytest.mark.parametrize("wrap", [dict, OrderedDict, SimpleNamespace], ids=lambda w: w.__name__)
def test_states_are_averaged_over_positions_without_padding(wrap) -> None:
    output = wrap(last_hidden_state=STATES, pooler_output=None)
    close(Embedding()(output), STATES.mean(1))
    mask = torch.tensor([1, 1, 0, 1, 0])
    chosen = tuple(mask.nonzero().flatten().tolist())
    masked = (STATES * mask[None, :, None]).sum(1) / mask.sum()
    close(Embedding(positions=chosen)(output), masked)
    close(Embedding(positions=chosen)(STATES), masked)
    close(Embedding(positions=(-1,))(STATES), STATES[:, -1])


def test_a_row_is_its_own_embedding() -> None:
    close(Embedding()(ROWS), ROWS)
    close(Embedding()({"logits": ROWS}), ROWS)
    close(Embedding()((ROWS,)), ROWS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_is_computed_in_float32_or_wider(dtype) -> None:
    value = Embedding()(STATES.to(dtype))
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    close(value, STATES.to(dtype).double().mean(1), atol=1e-6)


def test_declares_what_it_is() -> None:
    value = Embedding(positions=(0, 2))
    assert isinstance(value, Value) and value.linear and value.last is None and value.unit
    assert value == Embedding(positions=(0, 2)) and hash(value) == hash(Embedding(positions=(0, 2)))
    assert "(0, 2)" in repr(value)


def test_every_coordinate_is_an_output_with_its_own_slopes() -> None:
    game = table_game(Embedding())
    gates = torch.full((2, 6), 0.6, dtype=torch.float64)
    values, slopes = game.grad(gates)
    assert values.shape == (2, 3) and slopes.shape == (2, 3, 6)
    close(slopes, central_difference(game, gates), atol=1e-7)
    assert game.grad_price.backwards == 3


def test_what_it_cannot_read_is_refused_with_a_way_out() -> None:
    for wrong in ((), (1, 1), (True,)):
        with pytest.raises(ap.BadRequest, match="different positions"):
            Embedding(positions=wrong)
    with pytest.raises(ap.BadRequest, match="has 5 positions"):
        Embedding(positions=(7,))(STATES)
    for value, output in (
        (Embedding(), STATES[None]),
        (Embedding(), ROWS[0]),
        (Embedding(positions=(0,)), ROWS),
        (Embedding(), {"scores": ROWS}),
        (Embedding(), None),
    ):
        with pytest.raises(ap.BadRequest, match=r"[Ww]rap the model in a module"):
            value(output)
