"""What every game promises: shapes, types, gates, gradients, whatever it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.games import Game, toy
from apportion.games.calls import Convention
from apportion.taps import Call
from tests.contracts.made import (
    EVERY,
    HIDDEN,
    ZEROS,
    Hard,
    X,
    asking,
    function,
    hard,
    mixed,
    soft,
    some,
    tiny,
)
from tests.small import IDS, central_difference, close, cnn, decoder, mlp, normal, table_game

GAMES = pytest.mark.parametrize("build", [pytest.param(b, id=name) for name, b in EVERY.items()])
HARD = {
    "model": lambda: table_game(removal=Hard(ap.removals.zeros())),
    "function": lambda: ap.FunctionGame(lambda g: g.double().sum(1), 6),
    "toy": lambda: toy.additive(normal(6), domain="binary"),
    "wrapped": lambda: ap.cached(ap.chunked(table_game(removal=Hard(ap.removals.zeros())), 2)),
}


def outputs(game: Game) -> tuple[int, ...]:
    return tuple(game.value(torch.ones(1, game.players.n, dtype=torch.bool)).shape[1:])


@GAMES
def test_values_and_gradients_are_plain_tensors_with_named_axes(build) -> None:
    game = build()
    n, out = game.players.n, outputs(game)
    assert isinstance(game, Game)
    values = game.value(some(n))
    assert values.shape == (5, *out)
    again, grads = game.grad(soft(n))
    assert again.shape == (3, *out)
    assert grads.shape == (3, *out, n)
    for x in (values, again, grads):
        assert x.device.type == "cpu"
        assert x.dtype in (torch.float32, torch.float64)
        assert not x.requires_grad


@GAMES
def test_no_rows_are_a_legal_request(build) -> None:
    game = build()
    n, out = game.players.n, outputs(game)
    for gates in (some(n)[:0], soft(n)[:0]):
        assert game.value(gates).shape == (0, *out)
        values, grads = game.grad(gates)
        assert values.shape == (0, *out)
        assert grads.shape == (0, *out, n)


@GAMES
def test_the_value_of_a_row_does_not_depend_on_the_other_rows(build) -> None:
    game = build()
    gates = some(game.players.n)
    close(game.value(gates), torch.cat([game.value(row[None]) for row in gates]), atol=1e-12)


@GAMES
def test_hard_gates_are_soft_ones_at_the_ends(build) -> None:
    game = build()
    gates = some(game.players.n)
    close(game.value(gates), game.value(gates.double()), atol=1e-12)
    close(game.value(gates), game.value(gates.float()), atol=1e-6)
    close(game.grad(gates)[1], game.grad(gates.double())[1], atol=1e-12)


@GAMES
def test_the_gradient_is_the_slope_of_the_values(build) -> None:
    game = build()
    gates = soft(game.players.n)
    values, grads = game.grad(gates)
    close(values, game.value(gates), atol=1e-12)
    close(grads, central_difference(game, gates), atol=1e-7)


@GAMES
def test_asking_changes_neither_the_gates_nor_the_next_answer(build) -> None:
    game = build()
    gates, halves = some(game.players.n), soft(game.players.n)
    before, first = (gates.clone(), halves.clone()), (game.value(gates), game.value(halves))
    game.grad(halves)
    assert torch.equal(gates, before[0]) and torch.equal(halves, before[1])
    assert torch.equal(game.value(gates), first[0]) and torch.equal(game.value(halves), first[1])


def test_a_function_that_writes_into_its_argument_cannot_reach_the_gates() -> None:
    def spoil(gates: torch.Tensor) -> torch.Tensor:
        gates[:, 0] = True
        return gates.double().sum(1)

    gates = hard("000", "010")
    close(ap.FunctionGame(spoil, 3).value(gates), torch.tensor([1.0, 2.0]))
    assert torch.equal(gates, hard("000", "010"))


@GAMES
def test_gates_of_another_shape_or_type_are_refused(build) -> None:
    game = build()
    n = game.players.n
    for ask in (game.value, game.grad):
        with pytest.raises(ap.BadRequest, match=rf"{n} columns.*merge"):
            ask(torch.ones(2, n + 1, dtype=torch.bool))
        with pytest.raises(ap.BadRequest, match=r"\(row, player\)"):
            ask(torch.ones(n, dtype=torch.bool))
        with pytest.raises(ap.BadRequest, match=r"gates\.bool\(\)"):
            ask(torch.ones(2, n, dtype=torch.long))


@GAMES
@pytest.mark.parametrize("bad", [float("nan"), -1e-6, 1 + 1e-6, float("inf")])
def test_gates_outside_the_domain_are_refused(build, bad) -> None:
    game = build()
    gates = torch.full((2, game.players.n), 0.5, dtype=torch.float64)
    gates[1, 0] = bad
    for ask in (game.value, game.grad):
        with pytest.raises(ap.BadRequest, match="between 0 and 1"):
            ask(gates)


@pytest.mark.parametrize("name", HARD)
def test_a_hard_game_refuses_fractions_and_slopes_with_a_remedy(name) -> None:
    game = HARD[name]()
    assert (game.domain, game.grad_price) == ("binary", None)
    assert game.value(some(6)).shape == (5,)
    with pytest.raises(ap.NotSoft, match=r"bool gates.*LeaveOneOut.*Blend\(zeros\(\)\)"):
        game.value(soft(6))
    with pytest.raises(ap.NotSoft, match="ask for values"):
        game.grad(some(6))


def test_a_function_with_slopes_needs_fractions() -> None:
    with pytest.raises(ap.BadRequest, match="domain='unit'"):
        ap.FunctionGame(torch.sum, 3, differentiable=True)


def test_a_function_without_slopes_says_so() -> None:
    game = ap.FunctionGame(lambda g: g.sum(1), 3, domain="unit")
    with pytest.raises(ap.NotSoft):
        game.grad(soft(3))
    with pytest.raises(ap.NotSoft, match="differentiable=True"):
        ap.attribute(game, ap.Gradient())


def test_weights_may_exceed_one_but_not_fall_below_zero() -> None:
    game = ap.FunctionGame(lambda g: g.double().sum(1), 2, domain="weight")
    close(game.value(torch.tensor([[0.5, 3.0]])), torch.tensor([3.5]))
    with pytest.raises(ap.BadRequest, match="between 0 and inf"):
        game.value(torch.tensor([[0.5, -3.0]]))


@pytest.mark.parametrize(
    ("answer", "message"),
    [(torch.ones(3), "one value per gate row"), (torch.tensor(1.0), "one value per gate row")],
)
def test_a_function_answers_once_per_row(answer, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        ap.FunctionGame(lambda g: answer, 4).value(some(4))


def test_numbers_narrower_than_float32_are_widened() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.bool):
        game = ap.FunctionGame(lambda g, d=dtype: g.sum(1).to(d), 3)
        assert game.value(hard("011")).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("components", [False, True])
def test_half_precision_models_answer_in_float32(dtype, components) -> None:
    """Gates are not rounded to the model's few bits: values agree with float64 as far as those
    bits allow, and slopes by two gates that the model could not tell apart are both there.
    """
    narrow, x = tiny(mlp, dtype), X.to(dtype)
    players = ap.players.neurons(narrow, HIDDEN) if components else ap.players.columns(x)
    game = asking(narrow, x, players=players)
    exact = asking(mlp(), players=players)
    for gates in (some(players.n), soft(players.n)):
        assert game.value(gates).dtype == torch.float32
        close(game.value(gates), exact.value(gates), atol=0.03)
    values, grads = game.grad(soft(players.n))
    assert grads.dtype in (torch.float32, torch.float64)
    close(values, exact.value(soft(players.n)), atol=0.03)
    close(grads, exact.grad(soft(players.n))[1], atol=0.05)


@pytest.mark.parametrize("value", [ap.values.Logit(1), ap.values.Probability((0, 2))])
def test_instances_at_once_are_single_runs_stacked(value) -> None:
    x = normal(4, 6, seed=1)
    model = mlp()
    both = ap.players.columns(x) | ap.players.neurons(model, HIDDEN)
    together = asking(model, x, value=value, players=both)
    alone = [asking(model, row[None], value=value, players=both) for row in x]
    close(together.value(some(14)), torch.stack([g.value(some(14)) for g in alone], 1))
    close(together.grad(soft(14))[1], torch.stack([g.grad(soft(14))[1] for g in alone], 1))
    close(ap.picked(together, 2).value(some(14)), alone[2].value(some(14)))


def test_instances_of_pictures_at_once_are_single_runs_stacked() -> None:
    model, x = cnn(), normal(3, 2, 8, 8, seed=5)
    players = ap.players.patches(x, 4) | ap.players.channels(model, "4")
    together = asking(model, x, players=players)
    alone = [asking(model, one[None], players=players) for one in x]
    close(together.value(some(9)), torch.stack([g.value(some(9)) for g in alone], 1))
    close(together.grad(soft(9))[1], torch.stack([g.grad(soft(9))[1] for g in alone], 1))


ONE = {
    "model": lambda: asking(mlp(inputs=1), X[:, :1]),
    "components": lambda: asking(model := mlp(hidden=1), players=ap.players.neurons(model, HIDDEN)),
    "function": lambda: ap.FunctionGame(lambda g: g.double()[:, 0] * 3, 1),
    "toy": lambda: toy.additive(torch.tensor([2.0])),
    "wrapped": lambda: ap.cached(ap.chunked(toy.additive(torch.tensor([2.0])))),
}


@pytest.mark.parametrize("name", ONE)
def test_one_player_is_a_legal_game_and_gets_the_whole_difference(name) -> None:
    game = ONE[name]()
    none, full = game.value(hard("0", "1"))
    credit = ap.attribute(game, ap.PermutationShapley(orders=2))
    close(credit.scores, (full - none)[None])
    close(ap.attribute(game, ap.LeaveOneOut()).scores, (full - none)[None])


def test_a_single_picture_is_laid_out_as_one_of_many() -> None:
    """With another first stride convolutions take a slower way."""
    picture = torch.arange(60.0).reshape(1, 3, 4, 5)
    odd = torch.as_strided(picture, (1, 3, 4, 5), (7, 1, 15, 3))
    laid = Convention(Call((odd,)), frozenset({0}), 1, channels_last=True).lay(odd)
    assert laid.stride() == (60, 1, 15, 3)
    assert torch.equal(laid, odd)


def test_no_player_at_all_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="at least one"):
        ap.FunctionGame(torch.sum, 0)


def test_one_answer_costs_one_pass_per_instance_and_one_way_back_per_output() -> None:
    game = table_game(ap.values.Logit((0, 2)), instances=3)
    assert game.price == ap.Work(forwards=3)
    assert game.grad_price == ap.Work(forwards=3, backwards=6)
    assert function().price == ap.Work(1)
    assert function().grad_price == ap.Work(1, 1)


def test_features_and_components_ablated_together_equal_ablation_by_hand() -> None:
    """Columns set to zero before the model, hidden units set to zero with a plain hook."""
    model = mlp()
    game = mixed(model)
    gates = some(14, rows=8)
    expected = []
    for row in gates:
        hook = model[0].register_forward_hook(lambda m, a, out, row=row: out * row[6:])
        with torch.no_grad():
            expected.append(model(X * row[:6])[0, 0])
        hook.remove()
    close(game.value(gates), torch.stack(expected), atol=1e-12)
    full = game.value(torch.ones(1, 14, dtype=torch.bool))
    left = game.value(~torch.eye(14, dtype=torch.bool))
    close(ap.attribute(game, ap.LeaveOneOut()).scores, full - left, atol=1e-12)


def test_tokens_and_heads_ablated_together_equal_ablation_by_hand() -> None:
    model = decoder()
    players = ap.players.tokens(model, IDS) | ap.players.heads(model, count=2)
    game = asking(model, IDS, players=players)
    gates = some(players.n, rows=6)
    for row, value in zip(gates, game.value(gates), strict=True):
        hooks = [model.embed.register_forward_hook(lambda m, a, out, r=row: out * r[:6, None])]
        for k, layer in enumerate(model.layers):
            keep = row[6 + 2 * k : 8 + 2 * k].repeat_interleave(4)
            o_proj = layer.self_attn.o_proj
            hooks.append(o_proj.register_forward_pre_hook(lambda m, a, keep=keep: (a[0] * keep,)))
        with torch.no_grad():
            close(value, model(IDS)["logits"][0, -1, 0], atol=1e-12)
        for hook in hooks:
            hook.remove()


def test_an_element_of_no_player_is_always_present() -> None:
    owner = torch.tensor([0, -1, 0, 1, -1, 1])
    players = ap.players.Players(("a", "b"), ("column",) * 2, {ap.Site("", "in"): owner})
    model = mlp()
    none = asking(model, players=players).value(hard("00"))
    close(none, model(X * (owner < 0))[:, 0].detach())


def test_a_player_may_own_elements_of_several_sites() -> None:
    model = mlp()
    sites = {
        ap.Site("", "in"): torch.tensor([0, 0, 1, 1, 1, 1]),
        ap.Site(HIDDEN): torch.tensor([1]),
    }
    game = asking(model, players=ap.players.Players(("a", "b"), ("p", "p"), sites))
    bias_only = model[1:](torch.zeros(1, 8, dtype=torch.float64))[:, 0]
    close(game.value(hard("10")), bias_only.detach())


def test_a_site_without_axes_besides_the_batch_can_be_owned() -> None:
    """One number per instance is an activation too: its owner has no axes at all."""

    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = nn.Flatten(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.total(x.sum(1))[:, None] + 1

    players = ap.players.Players(("sum",), ("part",), {ap.Site("total"): torch.tensor(0)})
    game = asking(Scalar(), players=players)
    close(game.value(hard("0", "1")), torch.stack([torch.tensor(1.0), X.sum() + 1]))


def test_gates_with_a_history_leave_no_trace() -> None:
    gates = soft(6).requires_grad_()
    game = table_game()
    assert not game.value(gates).requires_grad
    game.grad(gates)
    assert gates.grad is None


def test_the_game_in_words() -> None:
    about = mixed(removal={"column": ZEROS, "neuron": ap.Blend(ap.removals.constant(1))}).describe()
    assert about.players == "6 columns and 8 neurons"
    assert about.value == "Logit(target=0)"
    assert (about.unit, about.linear, about.model) == ("logits", True, "Sequential")
    assert "column: " in about.removal and "constant(1.0)" in about.removal
