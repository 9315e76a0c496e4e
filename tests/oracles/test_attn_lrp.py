"""AttnLRP equals relevance carried by hand through a decoder, softmax included; it does not
conserve, and does not claim to.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import ATTN_LRP, CP_LRP
from tests.contracts.ruled import columns_game, function, slopes
from tests.oracles import relevance
from tests.small import IDS, Attention, close, decoder, normal, seeded

ZEROS, HEADS = ap.Blend(ap.removals.zeros()), 2


def credit_of(
    model: nn.Module, players: ap.players.Players, target: int, rules=ATTN_LRP
) -> ap.Attribution:
    game = ap.ModelGame(model, IDS, ap.values.Logit(target), players, ZEROS)
    return ap.attribute(game.under(rules, strict=True), ap.Gradient())


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("target", [0, 7, 16])
def test_tokens_and_heads_by_hand(eager, target) -> None:
    model = decoder(eager=eager)
    by_hand = relevance.decoder(model, IDS, target, relevance.both_factors)
    tokens = ap.players.tokens(model, IDS)
    close(credit_of(model, tokens, target).scores, by_hand.tokens, atol=1e-10)
    heads = torch.cat([layer.sum(0) for layer in by_hand.heads])
    players = ap.players.heads(model, count=HEADS)
    close(credit_of(model, players, target).scores, heads, atol=1e-10)


class OneBlock(nn.Module):
    """A single block of attention over (position, feature), and a layer at its last position."""

    def __init__(self, *, eager: bool) -> None:
        super().__init__()
        self.block, self.head = Attention(4, 1, eager=eager), nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x.unflatten(1, (3, 4)))[:, -1])


@pytest.mark.parametrize("eager", [True, False])
def test_one_block_by_sums_over_positions_and_features(eager) -> None:
    """One number at a time: epsilon for layers, half for each product, Taylor for the softmax."""
    model, x = seeded(lambda: OneBlock(eager=eager)), normal(1, 12, seed=1)
    a, n, d = x[0].unflatten(0, (3, 4)), 3, 4
    w = [p.weight.detach() for p in (model.block.q_proj, model.block.k_proj, model.block.v_proj)]
    o, top = model.block.o_proj.weight.detach(), model.head.weight.detach()[1]
    q, k, v = ([[float(m[j] @ a[t]) for j in range(d)] for t in range(n)] for m in w)
    last = n - 1  # sees every position, so no mask is met
    s = [sum(q[last][i] * k[u][i] for i in range(d)) / d**0.5 for u in range(n)]
    p = torch.tensor(s, dtype=torch.float64).softmax(0).tolist()
    out = [sum(p[u] * v[u][i] for u in range(n)) for i in range(d)]
    up = [sum(float(o[j, i]) * out[i] for i in range(d)) for j in range(d)]
    r_up = [up[j] * float(top[j]) for j in range(d)]
    r_out = [sum(float(o[j, i]) * out[i] * r_up[j] / up[j] for j in range(d)) for i in range(d)]
    half = [[p[u] * v[u][i] * r_out[i] / (2 * out[i]) for i in range(d)] for u in range(n)]
    r_p = [sum(half[u]) for u in range(n)]
    r_s = [s[u] * (r_p[u] - p[u] * sum(r_p)) for u in range(n)]
    r = torch.zeros(n, d, dtype=torch.float64)
    for u in range(n):
        each = [q[last][i] * k[u][i] / d**0.5 * r_s[u] / (2 * s[u]) for i in range(d)]
        parts = [(u, w[2], v[u], half[u]), (last, w[0], q[last], each), (u, w[1], k[u], each)]
        for place, layer, unit, share in parts:
            for i in range(d):
                r[place] += layer[i] * a[place] * share[i] / unit[i]
    game = ap.ModelGame(model, x, ap.values.Logit(1), ap.players.columns(x), ZEROS)
    credit = ap.attribute(game.under(ATTN_LRP, strict=True), ap.Gradient())
    close(credit.scores, r.flatten(), atol=1e-12)


def test_the_softmax_keeps_its_gradient() -> None:
    """Relevance s (R - p sum R) is s times the plain gradient of the softmax, for R = p g."""
    s, g = normal(5, seed=1).requires_grad_(), normal(5, seed=2)
    p = F.softmax(s, 0)
    r = p.detach() * g
    plain = torch.autograd.grad(p, s, g)[0]
    close(s.detach() * plain, s.detach() * (r - p.detach() * r.sum()), atol=1e-14)
    game = columns_game(function(lambda h: F.softmax(h, -1)))
    close(slopes(game, ATTN_LRP), slopes(game), atol=1e-14)


@pytest.mark.parametrize("eager", [True, False])
def test_conservation_is_not_claimed_and_does_not_hold(eager) -> None:
    model = decoder(eager=eager)
    tokens = ap.players.tokens(model, IDS)
    for target in (0, 7, 16):
        credit = credit_of(model, tokens, target)
        assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-3
        kept = credit_of(model, tokens, target, CP_LRP)
        close(kept.scores.sum(), kept.full)
    assert CP_LRP.conserves and not ATTN_LRP.conserves


def test_only_the_softmax_loses_relevance() -> None:
    """Without one, the same halved products conserve."""
    model = function(lambda h: (h[:, :, None] * h[:, None]) @ h.flip(1)[..., None], bias=False)
    model.last = nn.Sequential(nn.Flatten(), model.last)
    game = columns_game(model)
    credit = ap.attribute(game.under(ATTN_LRP, strict=True), ap.Gradient())
    close(credit.scores.sum(), credit.full)


def attention(keys: bool, values: bool, queries: bool, *, eager: bool) -> nn.Module:
    """Attention in which only some of the three depend on the input."""
    fixed = normal(1, 1, 3, 2, seed=5)

    def body(h: torch.Tensor) -> torch.Tensor:
        own = h.unflatten(-1, (1, 3, 2))
        q, k, v = (
            own + i if varies else fixed.expand(len(h), -1, -1, -1)
            for i, varies in enumerate((queries, keys, values))
        )
        if not eager:
            return F.scaled_dot_product_attention(q, k, v).flatten(1)
        return ((q @ k.transpose(-1, -2) / 2**0.5).softmax(-1) @ v).flatten(1)

    return function(body)


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("queries", [True, False])
def test_products_with_one_variable_do_not_halve_in_fused_attention_either(
    keys, values, queries
) -> None:
    if not (keys or values or queries):
        return
    fused, eager = (
        slopes(columns_game(attention(keys, values, queries, eager=e)), ATTN_LRP)
        for e in (False, True)
    )
    close(fused, eager, atol=1e-12)
    assert float(fused.abs().max()) > 1e-6


def test_a_computed_mask_gets_what_scores_get() -> None:
    """Relative positions that depend on the input: half of the weights' relevance, as added."""

    def body(h: torch.Tensor, eager: bool) -> torch.Tensor:
        q = h.unflatten(-1, (1, 3, 2))
        bias = torch.tanh(q.sum(-1, keepdim=True) + q.sum(-1)[..., None, :])
        if not eager:
            return F.scaled_dot_product_attention(q, q + 1, q + 2, attn_mask=bias).flatten(1)
        return ((q @ (q + 1).transpose(-1, -2) / 2**0.5 + bias).softmax(-1) @ (q + 2)).flatten(1)

    fused, eager = (
        slopes(columns_game(function(lambda h, e=e: body(h, e))), ATTN_LRP) for e in (False, True)
    )
    close(fused, eager, atol=1e-12)
