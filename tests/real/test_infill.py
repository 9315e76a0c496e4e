"""A real language model fills its own gaps as it would have written on."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from tests.real.test_zoo import subject

pytestmark = pytest.mark.slow


def test_an_absent_end_is_what_the_model_generates() -> None:
    sub = subject("smollm2")
    model, tokenizer = sub.model, sub.tokenizer
    text = "The capital of France is Paris, and the capital of Italy is Rome."
    ids = tokenizer(text, return_tensors="pt").input_ids
    length = ids.shape[1]
    removal = ap.removals.causal_infill(model, temperature=0)
    players = ap.players.tokens(model, ids, tokenizer, positions=range(1, length))
    value = ap.values.LogProbability(tokenizer(" The").input_ids[0])
    game = ap.ModelGame(model, ids, value, players, removal)
    kept = (1, 4, 9)
    gates = torch.arange(1, length)[None] < torch.tensor(kept)[:, None]
    for k, got in zip(kept, game.value(gates), strict=True):
        with torch.no_grad():
            written = model.generate(
                ids[:, :k], max_new_tokens=length - k, min_new_tokens=length - k, do_sample=False,
                attention_mask=torch.ones(1, k).long(), pad_token_id=0,
            )  # fmt: skip
            expected = value(model(written))[0]
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)


def test_the_country_matters_also_where_words_are_made_up() -> None:
    sub = subject("smollm2")
    model, tokenizer = sub.model, sub.tokenizer
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    players = ap.players.tokens(model, ids, tokenizer, positions=range(1, ids.shape[1]))
    value = ap.values.LogProbability(tokenizer(" Paris").input_ids[0])
    game = ap.ModelGame(model, ids, value, players, ap.removals.causal_infill(model))
    credit = ap.attribute(ap.averaged(game, 8), ap.ExactShapley())
    assert credit.top(1)[0].name == "France"
    assert float(credit.gap) < 1e-4
