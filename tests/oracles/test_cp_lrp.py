"""CP-LRP equals relevance carried through a decoder by hand, and what it claims to conserve it
conserves: at every cut, for values linear in the logits, without biases.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import CP_LRP
from apportion.players import Players
from tests.contracts.ruled import columns_game, function, slopes
from tests.oracles import relevance
from tests.small import IDS, close, decoder, normal, seeded

ZEROS, LOGIT = ap.Blend(ap.removals.zeros()), ap.values.Logit(7)
HEADS = 2


def credit_of(
    model: nn.Module, players: Players, value: object = LOGIT, ids: Tensor = IDS
) -> ap.Attribution:
    game = ap.ModelGame(model, ids, value, players, ZEROS)
    return ap.attribute(game.under(CP_LRP, strict=True), ap.Gradient())


def every_token(model: nn.Module, ids: Tensor = IDS) -> Players:
    return ap.players.tokens(model, ids)


def whole(site: ap.Site, name: str) -> Players:
    """One player who owns everything at a site."""
    owner = {site: torch.zeros(1, 1, dtype=torch.long)}
    return Players((name,), ("cut",), owner, {})


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("target", [0, 7, 16])
def test_tokens_and_heads_by_hand(eager, target) -> None:
    model = decoder(eager=eager)
    by_hand = relevance.decoder(model, IDS, target, relevance.values_only)
    value = ap.values.Logit(target)
    close(credit_of(model, every_token(model), value).scores, by_hand.tokens, atol=1e-10)
    heads = torch.cat([layer.sum(0) for layer in by_hand.heads])
    players = ap.players.heads(model, count=HEADS)
    close(credit_of(model, players, value).scores, heads, atol=1e-10)


@pytest.mark.parametrize("eager", [True, False])
def test_heads_at_positions_by_hand(eager) -> None:
    model = decoder(eager=eager)
    by_hand = relevance.decoder(model, IDS, 7, relevance.values_only)
    for positions in ([0, 1, 2, 3, 4, 5], [5, 2]):
        players = ap.players.heads(model, count=HEADS, positions=positions, length=6)
        expected = torch.cat([layer[positions].flatten() for layer in by_hand.heads])
        close(credit_of(model, players).scores, expected, atol=1e-10)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_sum_to_the_logit(eager, seed) -> None:
    model = decoder(eager=eager)
    ids = torch.randint(0, 17, (1, 9), generator=torch.Generator().manual_seed(seed))
    credit = credit_of(model, every_token(model, ids), ids=ids)
    close(credit.scores.sum(), credit.full, atol=1e-9)


@pytest.mark.parametrize("eager", [True, False])
def test_every_cut_carries_the_logit(eager) -> None:
    """What leaves a block; and of one block, its attention and what went past it, as heads or as a
    whole.
    """
    model = decoder(eager=eager)
    full = credit_of(model, every_token(model)).full
    by_hand = relevance.decoder(model, IDS, 7, relevance.values_only)
    for layer in (0, 1):
        close(credit_of(model, whole(ap.Site(f"layers.{layer}"), "all")).scores[0], full)
        close(by_hand.streams[layer].sum(), full)
    attention = [
        credit_of(model, whole(ap.Site(f"layers.{i}.self_attn"), "all")).scores[0] for i in (0, 1)
    ]
    heads = credit_of(model, ap.players.heads(model, count=HEADS)).scores
    close(heads.unflatten(0, (2, HEADS)).sum(1), torch.stack(attention))


@pytest.mark.parametrize("eager", [True, False])
def test_each_kind_conserves_on_its_own_in_a_mixed_game(eager) -> None:
    model = decoder(eager=eager)
    tokens, heads = every_token(model), ap.players.heads(model, count=HEADS)
    blocks = whole(ap.Site("layers.0"), "after the first block")
    credit = credit_of(model, tokens | heads | blocks)
    close(credit.by("token").scores.sum(), credit.full)
    close(credit.by("cut").scores.sum(), credit.full)
    close(credit.by("head").scores, credit_of(model, heads).scores)


@pytest.mark.parametrize(
    ("value", "linear"),
    [
        (ap.values.Logit(3), True), (ap.values.Contrast(7, 3), True),
        (ap.values.Probability(7), False), (ap.values.LogProbability(7), False),
        (ap.values.Margin(7), False),
    ],
)  # fmt: skip
def test_values_linear_in_the_logits_are_conserved_and_others_not(value, linear) -> None:
    model = decoder()
    credit = credit_of(model, every_token(model), value)
    assert value.linear == linear
    assert (abs(float(credit.scores.sum() - credit.full)) < 1e-9) == linear


def test_several_targets_each_conserve() -> None:
    model = decoder()
    credit = credit_of(model, every_token(model), ap.values.Logit((0, 7, 9)))
    close(credit.scores.sum(-1), credit.full)


PARTS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "mish": nn.Mish,
    "hardswish": nn.Hardswish, "elu": nn.ELU, "leaky relu": nn.LeakyReLU, "relu6": nn.ReLU6,
    "softsign": nn.Softsign, "hardtanh": nn.Hardtanh,
    "layer norm": lambda: nn.LayerNorm(6, bias=False), "rms norm": lambda: nn.RMSNorm(6),
    "group norm": lambda: nn.GroupNorm(2, 6, affine=False),
    "lower layers": lambda: nn.Sequential(nn.Linear(6, 6, bias=False), nn.SiLU(inplace=True)),
}  # fmt: skip


class Stack(nn.Module):
    """A layer, a part and a layer with a path around them, a part, a layer."""

    def __init__(self, part: Callable[[], nn.Module], *, bias: bool) -> None:
        super().__init__()
        self.first, self.inner, self.last = (nn.Linear(6, n, bias) for n in (6, 6, 3))
        self.a, self.b = part(), part()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.b(x + self.inner(self.a(x))))


@pytest.mark.parametrize("part", PARTS)
def test_every_part_conserves_without_biases_and_not_with_them(part) -> None:
    x = normal(1, 6, seed=1)
    for bias in (False, True):
        model = seeded(lambda b=bias: Stack(PARTS[part], bias=b))
        value, players = ap.values.Logit(1), ap.players.columns(x)
        game = ap.ModelGame(model, x, value, players, ZEROS).under(CP_LRP, strict=True)
        credit = ap.attribute(game, ap.Gradient())
        assert (abs(float(credit.scores.sum() - credit.full)) > 1e-9) == bias


def test_convolutions_and_pools_conserve() -> None:
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.ConvTranspose2d(4, 3, 2, bias=False), nn.SiLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(12, 3, bias=False),
        )
    )  # fmt: skip
    x = normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(model, x, ap.values.Logit(2), ap.players.patches(x, 2), ZEROS)
    credit = ap.attribute(game.under(CP_LRP, strict=True), ap.Gradient())
    close(credit.scores.sum(), credit.full)


def test_units_at_zero_lose_nothing() -> None:
    """The slope of the line through 0 is not defined at 0, where there is nothing to pass on."""
    model = seeded(lambda: Stack(nn.SiLU, bias=False))
    with torch.no_grad():
        model.first.weight[2] = 0
    x = normal(1, 6, seed=1)
    game = ap.ModelGame(model, x, ap.values.Logit(1), ap.players.columns(x), ZEROS)
    credit = ap.attribute(game.under(CP_LRP), ap.Gradient())
    close(credit.scores.sum(), credit.full)


@pytest.mark.parametrize("mask", [False, True])
def test_attention_weights_are_constants(mask) -> None:
    """Keys and queries that hold everything get no credit where values are constant; nor does a
    mask that is computed from the input.
    """

    def body(h: Tensor) -> Tensor:
        q = h.unflatten(-1, (1, 3, 2))
        bias = q @ q.transpose(-1, -2) if mask else None
        mixed = F.scaled_dot_product_attention(q, q + 1, q.new_ones(q.shape), bias)
        return h + mixed.flatten(1)

    close(slopes(columns_game(function(body)), CP_LRP), slopes(columns_game(function(skip))))


def skip(h: Tensor) -> Tensor:
    return h + 1
