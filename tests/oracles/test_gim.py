"""GIM by its three modifications: the tempered softmax in closed form, and what is left of it when
each is taken away.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import ATTN_LRP, GIM, Rules, gim
from apportion.backward.linear import plain
from apportion.backward.tempered import attention, softmax
from tests.contracts.ruled import columns_game, function, slopes, token_game
from tests.small import close, decoder, normal, seeded


def tempered(s: torch.Tensor, g: torch.Tensor, temperature: float) -> torch.Tensor:
    """Back through the rule alone."""
    s = s.clone().requires_grad_()
    out = softmax(temperature)(F.softmax, s, -1)
    assert torch.equal(out, F.softmax(s, -1))
    return torch.autograd.grad(out, s, g)[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_the_softmax_by_its_formula(temperature) -> None:
    s, g = normal(4, 5, seed=1), normal(4, 5, seed=2)
    p = (s / temperature).softmax(-1)
    close(tempered(s, g, temperature), p * (g - (g * p).sum(-1, keepdim=True)), atol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("s", [0.3, 2.0, 9.0])
def test_two_scores_in_closed_form(s, temperature) -> None:
    """Of (s, -s): p (1 - p) times the difference of what arrives, with p = sigmoid(2 s / T)."""
    p = 1 / (1 + math.exp(-2 * s / temperature))
    expected = p * (1 - p) * (1.5 - 0.25)
    arriving = torch.tensor([1.5, 0.25]).double()
    scores = arriving.new_tensor([s, -s])
    close(tempered(scores, arriving, temperature), arriving.new_tensor([expected, -expected]))


def test_at_a_high_temperature_it_only_centres() -> None:
    """The limit is (g - mean g) / n, whatever the scores, with an error proportional to 1 / T."""
    s, g = normal(6, seed=1), normal(6, seed=2)
    limit = (g - g.mean()) / 6
    off = [float((tempered(s, g, t) - limit).abs().max()) for t in (1e3, 1e5)]
    close(torch.tensor([off[0] / off[1]]), torch.tensor([100.0]), atol=0.5)


@pytest.mark.parametrize("eager", [True, False])
def test_at_temperature_1_without_the_rest_it_is_the_gradient(eager) -> None:
    """The softmax alone; and fused attention alone, up to its halves, is spelled out correctly."""
    game = token_game(decoder(eager=eager))
    close(slopes(game, Rules("alone", {F.softmax: softmax(1.0)})), slopes(game), atol=1e-12)
    whole = {F.scaled_dot_product_attention: attention(1.0)}
    halves = {F.scaled_dot_product_attention: ATTN_LRP.functions[F.scaled_dot_product_attention]}
    close(slopes(game, Rules("a", whole)), slopes(game, Rules("b", halves)), atol=1e-12)


@pytest.mark.parametrize("eager", [True, False])
def test_at_temperature_1_it_is_attn_lrp_with_real_activations(eager) -> None:
    game = token_game(decoder(eager=eager))
    real = ATTN_LRP | Rules("real", {F.silu: plain})
    close(slopes(game, gim(1.0)), slopes(game, real), atol=1e-12)
    for other in (GIM, ATTN_LRP):  # sharp: each of the two differences shows
        assert float((slopes(game, gim(1.0)) - slopes(game, other)).abs().max()) > 1e-4


def test_gated_blocks_get_half_a_gradient() -> None:
    """With the activation's own derivative: not the secant, so not half of relevance each."""
    fixed = normal(6, 6, seed=3)
    model = function(lambda h: F.silu(h @ fixed) * (h @ fixed.T))
    game = columns_game(model)
    close(slopes(game, GIM), slopes(game) / 2, atol=1e-12)
    assert float((slopes(game, ATTN_LRP) - slopes(game) / 2).abs().max()) > 1e-3


def test_norms_are_frozen() -> None:
    for norm in (nn.LayerNorm(6), nn.RMSNorm(6)):
        game = columns_game(function(norm.double()))
        close(slopes(game, GIM), slopes(game, ATTN_LRP), atol=1e-12)
        assert float((slopes(game, GIM) - slopes(game)).abs().max()) > 1e-4


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_fused_and_eager_decoders_agree(temperature) -> None:
    one, other = (slopes(token_game(decoder(eager=e)), gim(temperature)) for e in (True, False))
    close(one, other, atol=1e-12)


def attended(q, k, v, mask=None, causal=False, scale=None) -> torch.Tensor:
    """Attention in small steps; heads of keys are repeated where queries have more."""
    times = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(times, -3), v.repeat_interleave(times, -3)
    s = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        rows, columns = torch.arange(s.shape[-2])[:, None], torch.arange(s.shape[-1])
        s = s.masked_fill(columns > rows, float("-inf"))
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask
    return s.softmax(-1) @ v


SEEN = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
CASES = {
    "plain": ({}, {}),
    "scale": ({"scale": 0.7}, {"scale": 0.7}),
    "causal": ({"is_causal": True}, {"causal": True}),
    "bool mask": ({"attn_mask": SEEN}, {"mask": SEEN}),
    "added mask": ({"attn_mask": normal(3, 4, seed=9)}, {"mask": normal(3, 4, seed=9)}),
    "grouped": ({"enable_gqa": True}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_option_of_fused_attention(case) -> None:
    """Against the same steps under the eager rules: softmax and both products."""
    fused, steps = CASES[case]
    heads = 1 if case == "grouped" else 2
    k, v = normal(1, heads, 4, 2, seed=5), normal(1, heads, 4, 2, seed=6)

    def queries(h: torch.Tensor) -> torch.Tensor:
        return torch.stack([h.unflatten(1, (3, 2))] * 2, 1)

    def both(h: torch.Tensor, attend, options) -> torch.Tensor:
        moved = h.sum(-1)[:, None, None, None]
        return attend(queries(h), k + moved, v - moved, **options).sum(1).flatten(1)

    one = function(lambda h: both(h, F.scaled_dot_product_attention, fused))
    other = function(lambda h: both(h, attended, steps))
    close(
        columns_game(one).grad(torch.ones(1, 6))[0], columns_game(other).grad(torch.ones(1, 6))[0]
    )
    close(slopes(columns_game(one), GIM), slopes(columns_game(other), GIM), atol=1e-12)


def test_positions_that_see_nothing_are_zero_and_get_nothing() -> None:
    q, k, v = (normal(1, 1, 3, 2, seed=s) for s in (1, 2, 3))
    seen = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1]]).bool()
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = attention(2.0)(F.scaled_dot_product_attention, *leaves, attn_mask=seen)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert all(g.isfinite().all() for g in grads)
    close(grads[0][0, 0, 1], torch.zeros(2))


def test_multi_head_modules_are_spelled_out() -> None:
    """nn.MultiheadAttention equals the same heads written with fused attention."""
    inner = seeded(lambda: nn.MultiheadAttention(2, 2, batch_first=True))

    def module(h: torch.Tensor) -> torch.Tensor:
        x = h.unflatten(1, (3, 2))
        return inner(x, x, x, need_weights=False)[0].flatten(1)

    def written(h: torch.Tensor) -> torch.Tensor:
        x = F.linear(h.unflatten(1, (3, 2)), inner.in_proj_weight, inner.in_proj_bias)
        q, k, v = (part.unflatten(-1, (2, 1)).transpose(1, 2) for part in x.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return inner.out_proj(mixed).flatten(1)

    inner.requires_grad_(False)
    one, other = (slopes(columns_game(function(f)), GIM) for f in (module, written))
    close(one, other, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_dropped_attention_weights_are_refused() -> None:
    drop = partial(F.scaled_dot_product_attention, dropout_p=0.5)
    q = normal(1, 1, 3, 2).requires_grad_()
    with torch.random.fork_rng(), pytest.raises(ap.BadRequest, match=r"drops 0\.5 of its weights"):
        attention(2.0)(drop.func, q, q, q, dropout_p=0.5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_above_zero(temperature) -> None:
    with pytest.raises(ap.BadRequest, match="a temperature is above 0; the paper uses 2"):
        gim(temperature)


def test_conservation_is_not_claimed_and_does_not_hold() -> None:
    assert not GIM.conserves
    model = decoder()
    for target in (0, 7, 16):
        game = token_game(model, ap.values.Logit(target)).under(GIM, strict=True)
        credit = ap.attribute(game, ap.Gradient())
        assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-3
