"""Every table of backward rules keeps every value, leaves the model alone, and says what it does
not know.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import ATTN_LRP, CP_LRP, GUIDED, TABLE, Rules
from apportion.backward.linear import plain
from tests.contracts.ruled import (
    GAMES,
    TABLES,
    columns_game,
    function,
    image_game,
    slopes,
    some_gates,
    token_game,
)  # fmt: skip
from tests.small import IDS, close, decoder, mlp, normal, seeded, untouched

EVERY_TABLE = [pytest.param(TABLES[name], id=name) for name in TABLES]
EVERY_GAME = [pytest.param(GAMES[name], id=name) for name in GAMES]


class Broken(Exception):
    """Raised on purpose."""


def refuse(operation: object, *args: object, **kwargs: object) -> Tensor:
    raise Broken


@pytest.mark.parametrize("rules", EVERY_TABLE)
@pytest.mark.parametrize("build", EVERY_GAME)
def test_values_are_the_same_bits_with_and_without_a_table(rules, build) -> None:
    game = build()
    gates = some_gates(game)
    alone = game.value(gates)
    assert torch.equal(alone, game.grad(gates)[0])
    assert torch.equal(alone, game.under(rules).value(gates))
    assert torch.equal(alone, game.under(rules).grad(gates)[0])


@pytest.mark.parametrize("build", EVERY_GAME)
def test_a_table_of_plain_rules_is_the_true_gradient(build) -> None:
    game = build()
    every = {f for table in TABLE.values() for f in table.known()}
    close(slopes(game, Rules("plain", dict.fromkeys(every, plain))), slopes(game), atol=0)


def test_value_ignores_rules() -> None:
    """Under a table whose every rule is an error, values come out and gradients do not."""
    game = columns_game(mlp()).under(Rules("broken", {F.linear: refuse, torch.tanh: refuse}))
    gates = some_gates(game)
    assert torch.equal(game.value(gates), columns_game(mlp()).value(gates))
    with pytest.raises(Broken):
        game.grad(gates)


@pytest.mark.parametrize("rules", EVERY_TABLE)
@pytest.mark.parametrize("build", EVERY_GAME)
def test_model_is_untouched(rules, build) -> None:
    game = build()
    next(game.question.model.parameters()).requires_grad_(False)  # a flag of the user's own
    with untouched(game.question.model):
        ap.attribute(game.under(rules), ap.Gradient())


class Fragile(nn.Module):
    """Fails after its first layers once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(9, 4), nn.Linear(6, 4)
        self.norm, self.head, self.fails = nn.LayerNorm(4), nn.Linear(4, 3), False

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.layer(x)) + self.embed(torch.zeros(len(x), dtype=torch.long))
        if self.fails:
            raise Broken
        return self.head(F.silu(h))


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_model_is_untouched_after_an_exception_inside_it(rules) -> None:
    model = seeded(Fragile)
    game = columns_game(model)
    bent = game.under(rules)
    expected = slopes(game)
    model.fails = True
    asks = [lambda: bent.grad(some_gates(game))]
    asks += [lambda: game.under(rules)] if rules.functions else []  # others need not look inside
    with untouched(model):
        for ask in asks:
            with pytest.raises(Broken):
                ask()
    model.fails = False
    close(slopes(game), expected, atol=0)  # no table stays behind


def test_model_is_untouched_after_an_exception_inside_a_rule() -> None:
    model = mlp()
    game = columns_game(model)
    expected = slopes(game)
    with untouched(model), pytest.raises(Broken):
        slopes(game, Rules("broken", {torch.tanh: refuse}))
    close(slopes(game), expected, atol=0)


# -- five conditions without which the numbers are wrong and nothing complains


# tables that cut by sign are not linear in what comes back
CUTTING = ("guided", "deconvnet", "grad-cam-plus-plus", "layer-cam")


@pytest.mark.parametrize("name", [n for n in TABLES if n not in CUTTING])
def test_the_value_is_read_outside_the_table(name) -> None:
    """Its softmax has its own derivative: dp = sum_k dp/df_k df_k, where only df_k is bent."""
    rules = TABLES[name]
    model = decoder(eager=True)
    logits = token_game(model, ap.values.Logit(tuple(range(17))))
    values, bent = logits.under(rules).grad(some_gates(logits))
    p = values.softmax(-1)
    chain = p[:, 7, None] * (torch.eye(17)[7] - p)
    expected = torch.einsum("rk,rkp->rp", chain.double(), bent)
    largest = float(expected.abs().max())  # without a rule for its norms a table may explode
    bent = slopes(token_game(model, ap.values.Probability(7)), rules)
    close(bent, expected, atol=1e-12 * max(largest, 1.0))
    assert largest > 1e-3


def test_no_rule_is_asked_about_the_value() -> None:
    refusing = Rules("no softmax", {F.softmax: refuse, F.log_softmax: refuse, torch.sub: refuse})
    for value in (ap.values.Probability(7), ap.values.Margin(7), ap.values.Contrast(7, 3)):
        game = token_game(decoder(), value)
        close(slopes(game, refusing), slopes(game), atol=0)


@pytest.mark.parametrize("eager", [True, False])
def test_blends_run_outside_the_table(eager) -> None:
    """Tokens and heads in one game score as in games of their own: the products of gates and
    activations at the heads are no operations of the model.
    """
    model = decoder(eager=eager)
    tokens, heads = ap.players.tokens(model, IDS), ap.players.heads(model, count=2)
    alone = [
        ap.attribute(token_game(model, players=p).under(CP_LRP), ap.Gradient()).scores
        for p in (tokens, heads)
    ]
    both = token_game(model, players=tokens | heads).under(CP_LRP)
    close(ap.attribute(both, ap.Gradient()).scores, torch.cat(alone))


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_the_blend_has_its_own_derivative_at_every_gate(rules) -> None:
    """On a linear model with no operation a table bends, any gate and reference give w (x - x'),
    with w bent at the site where the table says so.
    """
    model = seeded(lambda: nn.Linear(6, 3))
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=2)
    removal = ap.Blend(ap.removals.counterfactual(other))
    game = ap.ModelGame(model, x, ap.values.Logit(0), ap.players.columns(x), removal)
    game = game.under(rules | Rules("linear", {F.linear: plain}))
    gates, weight = some_gates(game), model.weight[:1].detach().expand(5, 6)
    if rules.at_site is not None:
        weight = rules.at_site(gates * x + (1 - gates) * other, weight)
    close(slopes(game), weight * (x - other), atol=1e-12)


@pytest.mark.parametrize("rules", [CP_LRP, ATTN_LRP])
@pytest.mark.parametrize("trained", [True, False])
def test_parameters_do_not_count_as_variables(rules, trained) -> None:
    """A norm's weight * x is a linear operation, whether or not the weight is being trained."""
    scale = nn.Parameter(normal(6, seed=3), requires_grad=trained)

    def build() -> nn.Module:
        model = function(lambda h: model.scale * h)
        model.scale = scale
        return model

    game = columns_game(build())
    close(slopes(game, rules), slopes(game), atol=1e-14)
    assert scale.requires_grad == trained


@pytest.mark.parametrize("rules", [r for r in TABLES.values() if r.functions])
def test_models_that_write_in_place_behind_every_rule(rules) -> None:
    """Outputs of rules may be written into, and what was written keeps its derivative."""

    def bodies(h: Tensor, inplace: bool) -> Tensor:
        for act in (nn.ReLU, nn.SiLU, nn.Hardswish, nn.ELU):
            h = act(inplace=inplace)(F.linear(F.layer_norm(h, (6,)), torch.eye(6).to(h)))
        other = h + 1
        if inplace:
            h += other
            h *= other
            return h.tanh_()
        h = h + other
        return torch.tanh(h * other)

    games = [columns_game(function(lambda h, i=i: bodies(h, i))) for i in (True, False)]
    close(slopes(games[0], rules), slopes(games[1], rules), atol=1e-14)
    assert float(slopes(games[0], rules).abs().max()) > 0


def test_scripted_modules_are_refused_with_the_remedy() -> None:
    model = nn.Sequential(torch.jit.script(mlp()), nn.Tanh())
    game = columns_game(model)
    with pytest.raises(ap.BadRequest, match=r"'0' is a scripted module.*Use the module it was"):
        game.under(CP_LRP)
    slopes(game)  # true gradients need no table


def test_compiled_modules_are_refused_with_the_remedy() -> None:
    inner = mlp()
    inner.compile()  # compiles nothing before it runs
    model = nn.Sequential(inner, nn.Tanh())
    with pytest.raises(ap.BadRequest, match=r"'0' is compiled.*Use the original module"), \
            CP_LRP.on(model):  # fmt: skip
        pass
    with pytest.raises(ap.BadRequest, match=r"'the model' is compiled.*torch\.compile\(m\)"), \
            CP_LRP.on(torch.compile(mlp())):  # fmt: skip
        pass


# -- what a table does not know


def test_unknown_operations_keep_their_own_gradient() -> None:
    game = columns_game(function(lambda h: torch.sin(h) + torch.erf(h)))
    for rules in (CP_LRP, GUIDED, Rules("empty", {})):
        close(slopes(game, rules), slopes(game), atol=1e-14)


def test_strict_lists_what_a_table_does_not_know() -> None:
    game = columns_game(function(torch.erf))
    with pytest.raises(ap.BadRequest, match=r"CP_LRP has no rule for 1 operations: erf in the mod"):
        game.under(CP_LRP, strict=True)
    known = CP_LRP | Rules("erf", {torch.erf: plain})
    close(slopes(game.under(known, strict=True)), slopes(game, CP_LRP), atol=0)
    assert "1 operations without a rule" in " ".join(game.under(CP_LRP).describe().notes)
    assert not game.under(known).describe().notes


@pytest.mark.parametrize("name", ["cp-lrp", "attn-lrp", "gim"])
@pytest.mark.parametrize("eager", [True, False])
def test_tables_for_transformers_know_all_of_one(name, eager) -> None:
    token_game(decoder(eager=eager)).under(TABLE[name], strict=True)


def test_or_lets_the_right_table_count() -> None:
    zero, double = (lambda op, x, k=k: op(x) * 0 + k * x for k in (0.0, 2.0))
    left = Rules("left", {torch.tanh: zero, torch.relu: plain}, cites=("ali2022",), conserves=True)
    right = Rules("right", {Tensor.tanh: double}, cites=("bach2015", "ali2022"))
    both = left | right
    assert both.functions == {torch.tanh: double, F.relu: plain}
    assert not both.conserves  # claims are not inherited
    assert both.cites[:2] == ("ali2022", "bach2015")
    game = columns_game(function(torch.tanh))
    close(slopes(game, both), slopes(game, right), atol=0)
    close(slopes(game, right | left), slopes(game, left), atol=0)
    assert float((slopes(game, both) - slopes(game, left)).abs().max()) > 1e-3


def test_an_empty_table_is_a_table() -> None:
    game = columns_game(mlp())
    empty = game.under(Rules("nothing", {}))
    assert empty.question.rules is not None and not empty.exact and game.exact
    assert empty.describe().rules == "nothing" and game.describe().rules is None
    close(slopes(empty), slopes(game), atol=0)


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_rules_stay_with_a_game_that_is_changed(rules) -> None:
    bent = image_game().under(rules)
    changed = [
        bent.explaining(ap.values.Logit(0)),
        bent.removing(ap.Blend(ap.removals.blur(1.0))),
        bent.at(normal(1, 2, 8, 8, seed=9).clamp(-3, 3)),
        bent.randomised("", torch.Generator().manual_seed(0)),
    ]
    for game in changed:
        assert game.question.rules is rules and not game.exact
        anew = game.question
        fresh = ap.ModelGame(anew.model, anew.call, anew.value, anew.players, anew.removal)
        if anew.weights is None:
            close(slopes(game), slopes(fresh, rules), atol=0)


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_bent_credit_says_that_it_is_not_exact(rules) -> None:
    credit = ap.attribute(columns_game(mlp()).under(rules), ap.Gradient())
    assert credit.provenance.game.rules == rules.name
    assert not credit.provenance.exact and credit.gap is None


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_every_gradient_estimator_runs_under_every_table(rules) -> None:
    """A path integral under a table averages the bent derivatives along its path."""
    game = columns_game(mlp(act=nn.ReLU)).under(rules)
    nodes = 4
    at = [float(a) for a in torch.linspace(0.2, 0.8, nodes)]
    each = [ap.attribute(game, ap.Gradient(at=a)).scores for a in at]
    rows = torch.tensor(at, dtype=torch.float64)[:, None].expand(nodes, 6)
    close(torch.stack(each), game.grad(rows)[1], atol=1e-12)
