"""nn.MultiheadAttention is one opaque function to a table: it is written out from its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import ATTN_LRP, CP_LRP, Rules
from apportion.backward.attention import multi_head
from apportion.backward.linear import plain
from tests.contracts.ruled import ZEROS, some_gates
from tests.small import close, normal, seeded, untouched

PLAIN = Rules("plain", {F.multi_head_attention_forward: multi_head(plain)})
LENGTH, WIDTH, HEADS = 5, 4, 2
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
PADDING = torch.tensor([[False, False, True, False, True]])
SOFT = normal(LENGTH, LENGTH, seed=7)

# how the block is built, and how it is called; masks grow with the batch where they have to
CASES: dict[str, tuple[dict, dict]] = {
    "as it comes": ({}, {}),
    "without weights": ({}, {"need_weights": False}),
    "weights per head": ({}, {"average_attn_weights": False}),
    "without biases": ({"bias": False}, {"need_weights": False}),
    "position first": ({"batch_first": False}, {}),
    "bool mask": ({}, {"attn_mask": CAUSAL}),
    "bool mask, fused": ({}, {"attn_mask": CAUSAL, "need_weights": False}),
    "causal hint": ({}, {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
    "causal hint, weights": ({}, {"attn_mask": CAUSAL, "is_causal": True}),
    "float mask": ({}, {"attn_mask": SOFT}),
    "mask per head": ({}, {"attn_mask": normal(HEADS, LENGTH, LENGTH, seed=8)}),
    "padding": ({}, {"key_padding_mask": PADDING}),
    "float padding": ({}, {"key_padding_mask": normal(1, LENGTH, seed=9)}),
    "both masks": ({}, {"attn_mask": CAUSAL, "key_padding_mask": PADDING, "need_weights": False}),
    "other keys": ({"kdim": 3, "vdim": 2}, {}),
    "other keys, position first": ({"kdim": 3, "vdim": 2, "batch_first": False}, {}),
    "no batch": ({}, {"unbatched": True}),
    "no batch, masked": ({}, {"unbatched": True, "attn_mask": CAUSAL}),
}


class Encoder(nn.Module):
    """One attention block on (batch, position, feature), read at its first two positions."""

    def __init__(self, built: dict[str, Any], called: dict[str, Any]) -> None:
        super().__init__()
        self.block = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **built})
        self.head, self.called = nn.Linear(2 * WIDTH, 3), called

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (LENGTH, WIDTH))
        called = dict(self.called)
        if called.pop("unbatched", False):
            out = torch.stack([self.block(row, row, row, **called)[0] for row in x])
            return self.head(out[:, :2].flatten(1))
        for name in ("attn_mask", "key_padding_mask"):
            mask = called.get(name)
            if mask is not None and (name == "key_padding_mask" or mask.ndim == 3):
                called[name] = mask.repeat(len(x), *(1,) * (mask.ndim - 1))
        given = x, x, x  # the very same tensor: what torch asks of its fast path
        if self.block.kdim != WIDTH:
            given = x, x[..., : self.block.kdim], x[..., : self.block.vdim]
        if not self.block.batch_first:
            given = tuple(y.transpose(0, 1) for y in given)
        out = self.block(*given, **called)[0]
        out = out if self.block.batch_first else out.transpose(0, 1)
        return self.head(out[:, :2].flatten(1))


def encoder_game(built: dict, called: dict) -> ap.ModelGame:
    x = normal(1, LENGTH * WIDTH, seed=1)
    model = seeded(lambda: Encoder(built, called))
    return ap.ModelGame(model, x, ap.values.Logit(1), ap.players.columns(x), ZEROS)


EVERY_CASE = [pytest.param(*case, id=name) for name, case in CASES.items()]


@pytest.mark.parametrize(("built", "called"), EVERY_CASE)
def test_written_out_it_has_the_same_value_and_the_true_gradient(built, called) -> None:
    game = encoder_game(built, called)
    gates = some_gates(game)
    values, slopes = game.grad(gates)
    with untouched(game.question.model):
        same, written = game.under(PLAIN).grad(gates)
    assert torch.equal(values, same)
    close(written, slopes, atol=1e-12)
    close(game.value(gates), values, atol=1e-12)  # without gradients torch may take its fast path
    assert float(slopes.abs().max()) > 1e-3


class WrittenOut(nn.Module):
    """The same block with the same weights, from linear layers and one attention function."""

    def __init__(self, opaque: Encoder, *, eager: bool) -> None:
        super().__init__()
        self.block, self.head, self.eager = opaque.block, opaque.head, eager

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (LENGTH, WIDTH))
        w, b = self.block.in_proj_weight.chunk(3), self.block.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w[i], b[i]).unflatten(-1, (HEADS, -1)).transpose(1, 2) for i in range(3)
        )
        if self.eager:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            out = torch.softmax(scores.masked_fill(CAUSAL, float("-inf")), -1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, ~CAUSAL)
        out = self.block.out_proj(out.transpose(1, 2).flatten(2))
        return self.head(out[:, :2].flatten(1))


@pytest.mark.parametrize("rules", [CP_LRP, ATTN_LRP])
@pytest.mark.parametrize("weights", [True, False])
def test_a_table_bends_it_as_the_block_written_out(rules, weights) -> None:
    game = encoder_game({}, {"attn_mask": CAUSAL, "need_weights": weights})
    gates, q = some_gates(game), game.question
    bent = game.under(rules, strict=True).grad(gates)[1]
    for eager in (True, False):
        spelled = WrittenOut(q.model, eager=eager)
        other = ap.ModelGame(spelled, q.call, q.value, q.players, q.removal)
        close(other.under(rules, strict=True).grad(gates)[1], bent, atol=1e-12)
    assert float((bent - game.grad(gates)[1]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("rules", "built", "conserved"),
    [(CP_LRP, {"bias": False}, True), (ATTN_LRP, {"bias": False}, False), (CP_LRP, {}, False)],
)
def test_conserves_if_claimed(rules, built, conserved) -> None:
    """Without biases, the credit under CP-LRP sums to the logit; neither AttnLRP nor biases do."""
    start = encoder_game(built, {"attn_mask": CAUSAL})
    model, x = start.question.model, start.question.call.args[0]
    with torch.no_grad():
        model.head.bias.zero_()
        if built.get("bias", True):
            model.block.in_proj_bias.copy_(normal(3 * WIDTH, seed=3))  # torch starts them at zero
    game = start.at(x)
    credit = ap.attribute(game.under(rules), ap.Gradient())
    assert (abs(float(credit.scores.sum() - credit.full)) < 1e-9) == conserved


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_rare_options_are_refused_with_the_remedy(option) -> None:
    game = encoder_game({option: True}, {}).under(CP_LRP)
    with pytest.raises(ap.BadRequest, match=r"no rule; use true gradients, or replace the block"):
        game.grad(some_gates(game))


class Layers(nn.Module):
    """torch's own encoder layer, which has a fast path that hides every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 8, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.unflatten(1, (LENGTH, WIDTH))).mean(1))


@pytest.mark.parametrize("rules", [PLAIN, CP_LRP, ATTN_LRP])
def test_fast_paths_do_not_hide_the_operations(rules) -> None:
    x = normal(1, LENGTH * WIDTH, seed=1)
    game = ap.ModelGame(seeded(Layers), x, ap.values.Logit(1), ap.players.columns(x), ZEROS)
    gates = some_gates(game)
    values, slopes = game.grad(gates)
    same, bent = game.under(rules).grad(gates)
    assert torch.equal(values, same)
    close(game.value(gates), values, atol=1e-12)
    assert (float((bent - slopes).abs().max()) < 1e-12) == (rules is PLAIN)
