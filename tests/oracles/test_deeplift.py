"""DeepLIFT's rescale rule by hand, and its contributions sum to v(all) - v(none), biases
included.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import DEEPLIFT, layers
from tests.contracts.ruled import function
from tests.small import close, decoder, mlp, normal, seeded, untouched

OTHER = normal(1, 6, seed=7)
REMOVALS = {
    "zeros": ap.Blend(ap.removals.zeros()),
    "another input": ap.Blend(ap.removals.counterfactual(OTHER)),
}


def game_of(model: nn.Module, removal=REMOVALS["zeros"], value=None) -> ap.ModelGame:
    x = normal(1, 6, seed=1)
    value = ap.values.Logit(1) if value is None else value
    return ap.ModelGame(model, x, value, ap.players.columns(x), removal)


def difference(game: ap.ModelGame) -> Tensor:
    ends = torch.stack([torch.ones(game.players.n), torch.zeros(game.players.n)])
    full, none = game.value(ends)
    return full - none


def by_hand(model: nn.Sequential, x: Tensor, other: Tensor, target: int) -> Tensor:
    """Multipliers from unit to unit: weights of layers, and (f - f') / (z - z') of activations."""
    with torch.no_grad():
        now, then = [x], [other]
        for module in model:
            now.append(module(now[-1]))
            then.append(module(then[-1]))
    m = torch.zeros(len(now[-1])).double()
    m[target] = 1
    for k in reversed(range(len(model))):
        if isinstance(model[k], nn.Linear):
            m = model[k].weight.detach().T @ m
        else:
            m = m * (now[k + 1] - then[k + 1]) / (now[k] - then[k])
    return m * (x - other)


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU])
def test_a_network_of_layers_by_its_multipliers(act, removal) -> None:
    other = OTHER[0] if removal == "another input" else torch.zeros(6).double()
    model = mlp(act=act)
    credit = ap.attribute(game_of(model, REMOVALS[removal]).under(DEEPLIFT), ap.Gradient())
    close(credit.scores, by_hand(model, normal(1, 6, seed=1)[0], other, 1), atol=1e-12)


BODIES = {
    "sigmoid": torch.sigmoid, "exp": torch.exp, "cube": lambda h: h**3, "square": lambda h: h**2,
    "root": lambda h: (h.square() + 1).sqrt(), "sine": torch.sin, "abs": abs,
    "inverse": lambda h: (h.square() + 1).reciprocal(),
    "clamp": lambda h: h.clamp(-0.1, 0.2), "in place": lambda h: (h + 0).relu_() * 2,
    "twice": lambda h: F.elu(F.silu(h)) - h, "hinge": lambda h: F.softshrink(h, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("removal", REMOVALS.values())
@pytest.mark.parametrize("name", BODIES)
def test_contributions_sum_to_the_difference(name, removal) -> None:
    game = game_of(function(BODIES[name]), removal)
    ruled = game.under(DEEPLIFT, strict=True)
    assert not ruled.describe().notes
    credit = ap.attribute(ruled, ap.Gradient())
    close(credit.scores.sum(), difference(game), atol=1e-9)
    plain = ap.attribute(game, ap.Gradient()).scores.sum()
    assert abs(float(plain - difference(game))) > 1e-6  # the gradient's do not


def conv_net(pool: nn.Module, width: int) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Tanh(),
            nn.Conv2d(4, 3, 2), nn.ELU(), nn.Flatten(), nn.LazyLinear(width), nn.ReLU(),
            nn.LazyLinear(3),
        )
    )  # fmt: skip


POOLS = {
    "apart": lambda: nn.MaxPool2d(2), "overlapping": lambda: nn.MaxPool2d(3, 2, padding=1),
    "dilated": lambda: nn.MaxPool2d(2, 1, dilation=2),
    "uneven": lambda: nn.MaxPool2d(3, ceil_mode=True),
    "adaptive": lambda: nn.AdaptiveMaxPool2d(3), "average": lambda: nn.AvgPool2d(2),
}  # fmt: skip


@pytest.mark.parametrize("other", [None, normal(1, 2, 8, 8, seed=9)])
@pytest.mark.parametrize("pool", POOLS)
def test_convolutions_and_max_pools_sum_to_the_difference(pool, other) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv_net(POOLS[pool](), 6)
        x = normal(1, 2, 8, 8, seed=4)
        model(x)
    model = model.double().eval()
    reference = ap.removals.zeros() if other is None else ap.removals.counterfactual(other)
    game = ap.ModelGame(model, x, ap.values.Logit(2), ap.players.pixels(x), ap.Blend(reference))
    credit = ap.attribute(game.under(DEEPLIFT, strict=True), ap.Gradient())
    close(credit.scores.sum(), difference(game), atol=1e-9)


@pytest.mark.parametrize("dims", [1, 3])
def test_max_pools_of_one_and_three_axes(dims) -> None:
    pool = {1: nn.MaxPool1d(2), 3: nn.MaxPool3d((1, 1, 2), return_indices=True)}[dims]

    def body(h: Tensor) -> Tensor:
        shaped = h.reshape(-1, *(1,) * dims, 6)
        out = pool(shaped)
        out = out if isinstance(out, Tensor) else out[0]
        return out.reshape(len(h), 3).repeat_interleave(2, 1)

    for removal in REMOVALS.values():
        game = game_of(function(body), removal)
        credit = ap.attribute(game.under(DEEPLIFT, strict=True), ap.Gradient())
        close(credit.scores.sum(), difference(game), atol=1e-9)


def test_one_window_by_hand() -> None:
    """Two inputs, max 5 and 2 now, max 1 and 3 then: the winner lifts 3 to 5, the other lowers
    nothing, as the maximum rose.
    """
    model = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2), nn.Flatten()).double()
    for x, other, expected in (
        ([5.0, 2.0], [1.0, 3.0], [2.0, 0.0]),
        ([1.0, 3.0], [5.0, 2.0], [-2.0, 0.0]),
        ([5.0, 2.0], [3.0, 1.0], [2.0, 0.0]),
    ):
        row, before = (torch.tensor([v]).double() for v in (x, other))
        removal = ap.Blend(ap.removals.counterfactual(before))
        game = ap.ModelGame(model, row, ap.values.Logit(0), ap.players.columns(row), removal)
        scores = ap.attribute(game.under(DEEPLIFT), ap.Gradient()).scores
        close(scores, torch.tensor(expected))


def test_equal_inputs_get_the_derivative() -> None:
    """Where a unit is the same in both runs there is no slope; the limit is the derivative."""
    model, x = mlp(act=nn.Tanh), normal(1, 6, seed=1)
    near = x + 1e-13 * normal(1, 6, seed=2)
    removal = ap.Blend(ap.removals.counterfactual(near))
    game = ap.ModelGame(model, x, ap.values.Logit(1), ap.players.columns(x), removal)
    gates = torch.ones(1, 6, dtype=torch.float64)
    close(game.under(DEEPLIFT).grad(gates)[1], game.grad(gates)[1], atol=1e-22, rtol=1e-6)


@pytest.mark.parametrize("instances", [1, 3])
def test_at_every_gate_and_for_every_draw(instances) -> None:
    """Sum_i g_i dv/dg_i = v(g) - v(none), for rows of a background and several instances."""
    x, background = normal(instances, 6, seed=1), normal(4, 6, seed=5)
    removal = ap.Blend(ap.removals.rows(background))
    model = mlp(act=nn.ReLU)
    game = ap.ModelGame(model, x, ap.values.Logit(1), ap.players.columns(x), removal)
    gates, draw = normal(5, 6, seed=8).sigmoid(), torch.tensor([0, 1, 2, 3, 1])
    values, slopes = game.under(DEEPLIFT).grad(gates, draw)
    none = game.value(torch.zeros(5, 6).double(), draw)
    total = torch.einsum("r...p,rp->r...", slopes, gates)
    close(total, values - none, atol=1e-9)


def test_hidden_units_sum_to_their_difference() -> None:
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    units = ap.players.neurons(model, "1", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(1), units, REMOVALS["zeros"])
    credit = ap.attribute(game.under(DEEPLIFT, strict=True), ap.Gradient())
    close(credit.scores.sum(), difference(game), atol=1e-9)


UNRULED = {
    "softmax": lambda h: h.softmax(-1), "mul": lambda h: h * h.flip(1),
    "layer_norm": lambda h: F.layer_norm(h, (6,)), "amax": lambda h: h - h.amax(1, keepdim=True),
    "logsumexp": lambda h: h - h.logsumexp(1, keepdim=True), "div": lambda h: 1 / (2 + h.tanh()),
    "maximum": lambda h: torch.maximum(h, h.flip(1)),
    "erfinv": lambda h: torch.erfinv(h.tanh() / 2), "gt": lambda h: torch.where(h > 0, h, 3 * h),
}  # fmt: skip


@pytest.mark.parametrize("name", UNRULED)
def test_what_has_no_rule_is_named_and_breaks_the_sum(name) -> None:
    """Also what no other table minds: a maximum over an axis is as nonlinear as a softmax here."""
    game = game_of(function(UNRULED[name]), REMOVALS["another input"])
    ruled = game.under(DEEPLIFT)
    assert name in " ".join(ruled.describe().notes)
    with pytest.raises(ap.BadRequest, match=f"DEEPLIFT has no rule for .*{name}"):
        game.under(DEEPLIFT, strict=True)
    credit = ap.attribute(ruled, ap.Gradient())
    assert abs(float(credit.scores.sum() - difference(game))) > 1e-9


@pytest.mark.parametrize(
    "body",
    [
        lambda h: h + h.mean(1, keepdim=True) - 2 * h.flip(1),
        lambda h: torch.cat([h, 1 - h], 1)[:, ::2],
        lambda h: h.masked_fill(h.detach() > 9, float("-inf")),
    ],
)
def test_affine_operations_need_no_rule(body) -> None:
    game = game_of(function(body))
    assert not game.under(DEEPLIFT, strict=True).describe().notes


def test_sums_in_a_decoder_are_not_promised() -> None:
    model = decoder()
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    tokens = ap.players.tokens(model, ids)
    game = ap.ModelGame(model, ids, ap.values.Logit(7), tokens, REMOVALS["zeros"])
    assert "mul (product of two variables)" in " ".join(game.under(DEEPLIFT).describe().notes)


def test_two_runs_are_paid_for_and_the_model_is_left_alone() -> None:
    model = mlp(act=nn.ReLU)
    game = game_of(model)
    assert game.under(DEEPLIFT).grad_price.forwards == 2 * game.grad_price.forwards
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    ruled = game.under(DEEPLIFT)
    runs.clear()
    with untouched(model):
        ruled.grad(torch.ones(1, 6, dtype=torch.float64))
    handle.remove()
    assert len(runs) == 2


def test_rules_by_place_may_compare_runs_too() -> None:
    model = mlp(act=nn.ReLU)
    game = game_of(model)
    here = DEEPLIFT.within("1") | DEEPLIFT.within(layers(1))
    close(
        ap.attribute(game.under(here), ap.Gradient()).scores,
        ap.attribute(game.under(DEEPLIFT), ap.Gradient()).scores,
        atol=1e-14,
    )


class Branching(nn.Module):
    """Takes another way when its input is small."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if bool(x.abs().sum() > 0) else torch.relu(x)


class Growing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (
            torch.tanh(x) if bool(x.abs().sum() == 0) else torch.tanh(torch.cat([x, x], 1))[:, :6]
        )


@pytest.mark.parametrize("first", [Branching, Growing])
def test_models_that_take_another_way_without_players_are_refused(first) -> None:
    game = game_of(nn.Sequential(first(), mlp()))
    with pytest.raises(ap.BadRequest, match="runs the same operations on every input"):
        game.under(DEEPLIFT).grad(torch.ones(1, 6, dtype=torch.float64))


def test_questions_without_a_reference_are_refused() -> None:
    game = game_of(mlp(), ap.Blend(ap.removals.step(1.0))).under(DEEPLIFT)
    with pytest.raises(ap.BadRequest, match=r"v\(no player\) is undefined"):
        ap.attribute(game, ap.Gradient())
    with pytest.raises(ap.BadRequest, match=r"compares two runs of a model; use game\.under"), \
            DEEPLIFT.on(mlp()):  # fmt: skip
        torch.tanh(torch.ones(1, requires_grad=True))
    moving = function(lambda h: (h.tanh() + 2) ** h.tanh())
    with pytest.raises(ap.BadRequest, match="a power whose exponent depends on the input"):
        ap.attribute(game_of(moving).under(DEEPLIFT), ap.Gradient())
