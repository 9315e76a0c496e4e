"""Local rules for operations that a table does not know: each by its definition, together they
conserve, and every one that was used is named.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import CP_LRP, DYNAMIC_LRP, Rules, dynamic, epsilon, gamma, unruled
from apportion.backward.linear import plain
from apportion.taps import Call
from tests.contracts.ruled import columns_game, function, slopes, token_game
from tests.small import close, decoder, mlp, normal, seeded

FIXED = normal(6, 6, seed=3)
LOCAL = {
    "sigmoid": torch.sigmoid, "exp": torch.exp, "softplus": F.softplus, "sin": torch.sin,
    "sqrt": lambda h: (h.abs() + 0.1 * h.abs()).sqrt(), "square": torch.square,
    "log": lambda h: torch.log(h.abs()), "pow": lambda h: h.abs() ** 2.5,
    "pow of a number": lambda h: 2.0**h, "pow of both": lambda h: h.exp() ** h,
    "div": lambda h: h / h.flip(1).exp(), "div of a number": lambda h: 3 / h.exp(),
    "glu": lambda h: F.glu(torch.cat([h, h.flip(1)], 1)),
    "normalize": lambda h: F.normalize(h, dim=1),
    "bilinear": lambda h: F.bilinear(h, h.flip(1), FIXED[None].expand(6, 6, 6)),
    "prelu": lambda h: F.prelu(h, FIXED[0, :1].detach()),
    "in place": lambda h: torch.sin((1 * h).exp_()),
    "reciprocal": lambda h: h.exp().reciprocal(), "gate": lambda h: h * torch.sigmoid(2 * h),
    "largest": lambda h: h + torch.sin(h).amax(1, keepdim=True),
    "length": lambda h: torch.exp(h).norm(dim=1, keepdim=True) + h,
}  # fmt: skip


LAYERS = Rules("layers", {F.linear: plain})


def credit_of(game: ap.ModelGame, rules: Rules) -> ap.Attribution:
    return ap.attribute(game.under(rules, strict=True), ap.Gradient())


@pytest.mark.parametrize("name", LOCAL)
def test_every_local_rule_conserves(name) -> None:
    """Where the base table, which passes them by, does not."""
    game = columns_game(function(LOCAL[name], bias=False))
    credit = credit_of(game, DYNAMIC_LRP)
    close(credit.scores.sum(), credit.full, atol=1e-9)
    assert DYNAMIC_LRP.conserves
    bare = credit_of(game, dynamic(LAYERS))
    close(bare.scores.sum(), bare.full, atol=1e-9)
    if name != "prelu":  # homogeneous: its own gradient does too
        plain_credit = ap.attribute(game.under(LAYERS), ap.Gradient())
        assert abs(float(plain_credit.scores.sum() - plain_credit.full)) > 1e-6


def test_biases_keep_their_share() -> None:
    credit = credit_of(columns_game(function(torch.sigmoid)), DYNAMIC_LRP)
    assert abs(float(credit.scores.sum() - credit.full)) > 1e-3


@pytest.mark.parametrize("name", ["sigmoid", "exp", "sin", "square", "pow of a number"])
def test_elementwise_functions_pass_relevance_unchanged(name) -> None:
    """R_i = x_i g_i of what enters is what leaves."""
    model = function(LOCAL[name], bias=False)
    body = nn.Module()
    body.forward = LOCAL[name]
    whole = nn.Sequential(model.first, body, model.last)
    x = normal(1, 6, seed=1)
    cuts = []
    for path in ("0", "1"):
        units = ap.players.neurons(whole, path, input=x)
        game = ap.ModelGame(whole, x, ap.values.Logit(1), units, ap.Blend(ap.removals.zeros()))
        cuts.append(credit_of(game, DYNAMIC_LRP).scores)
    close(cuts[0], cuts[1], atol=1e-12)


def test_quotients_share_equally() -> None:
    """Half to the dividend, half to the divisor, by the summands of each."""
    a, b = normal(2, 1, 6, seed=5).exp()
    parts = nn.Module()
    x = torch.cat([a, b], 1)
    parts.forward = lambda x: (x[:, :6] / x[:, 6:]).sum(1, keepdim=True)
    game = ap.ModelGame(
        parts, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    expected = (a / b)[0] / 2
    close(
        credit_of(game, dynamic(LAYERS, LAYERS)).scores,
        torch.cat([expected, expected]),
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["cp-lrp", "gamma", "epsilon"])
def test_what_the_table_knows_stays_its_own(name) -> None:
    base = {"cp-lrp": CP_LRP, "gamma": gamma(), "epsilon": epsilon(0.1)}[name]
    games = [columns_game(mlp()), columns_game(mlp(act=nn.ReLU))]
    games += [token_game(decoder(eager=e)) for e in (True, False)] if name == "cp-lrp" else []
    for game in games:
        close(slopes(game, dynamic(base)), slopes(game, base), atol=0)
        notes = " ".join(game.under(dynamic(base)).describe().notes)
        assert "keep their own" not in notes  # squares below a frozen scale are named too


def test_other_tables_are_asked_before_local_rules() -> None:
    """Norms as in CP-LRP, instead of term by term."""
    game = columns_game(function(lambda h: F.layer_norm(h, (6,)), bias=False))
    one = dynamic(epsilon(0))
    close(slopes(game, one), slopes(game, CP_LRP), atol=1e-12)
    assert "layer_norm" in " ".join(game.under(one).describe().notes)


def test_notes_and_doctor_name_what_fell_back_and_what_did_not() -> None:
    body = lambda h: torch.sin(h).logsumexp(1, keepdim=True) + h.sigmoid() / h.exp()
    game = columns_game(function(body))
    kept, fell = game.under(DYNAMIC_LRP).describe().notes
    assert "logsumexp" in kept and "keep their own gradient" in kept and "sin" not in kept
    assert "fall back to a local one" in fell and "logsumexp" not in fell
    found = unruled(function(body), Call((normal(1, 6, seed=1),)), DYNAMIC_LRP)
    assert [(f.operation, f.falls_back) for f in found] == [
        ("sin", True), ("logsumexp", False), ("sigmoid", True), ("exp", True),
    ]  # fmt: skip
    with pytest.raises(ap.BadRequest, match="has no rule for 1 operations: logsumexp"):
        game.under(DYNAMIC_LRP, strict=True)
    game.under(DYNAMIC_LRP | Rules("known", {torch.logsumexp: CP_LRP.functions[torch.rsqrt]}))


def test_what_keeps_its_gradient_and_is_named_does_not_conserve() -> None:
    for body in (lambda h: h - h.logsumexp(1, keepdim=True), lambda h: h - h.var(1, keepdim=True)):
        game = columns_game(function(body, bias=False))
        assert "keep their own gradient" in " ".join(game.under(DYNAMIC_LRP).describe().notes)
        credit = ap.attribute(game.under(DYNAMIC_LRP), ap.Gradient())
        assert abs(float(credit.scores.sum() - credit.full)) > 1e-6


def test_a_recurrent_step_written_out_loses_its_constants_only() -> None:
    """A gated cell in small operations, unknown to every other table."""

    def step(h: torch.Tensor) -> torch.Tensor:
        state = torch.zeros_like(h)
        for _ in range(3):
            gate = torch.sigmoid(h @ FIXED + state @ FIXED.T)
            state = gate * state + (1 - gate) * torch.tanh(h @ FIXED.T + gate * state)
        return state

    game = columns_game(function(step, bias=False))
    credit = credit_of(game, DYNAMIC_LRP)
    # the 1 of 1 - gate is a bias; without it nothing is lost
    assert abs(float(credit.scores.sum() - credit.full)) > 1e-6
    gated = function(lambda h: torch.sigmoid(h @ FIXED) * torch.tanh(h) * h, bias=False)
    game = columns_game(gated)
    credit = credit_of(game, DYNAMIC_LRP)
    close(credit.scores.sum(), credit.full, atol=1e-9)


def test_names_and_places() -> None:
    table = dynamic(gamma(0.5))
    assert table.name == "dynamic(gamma(0.5))" and "lee2025" in table.cites
    game = columns_game(function(torch.sin))
    close(slopes(game, table.within("*")), slopes(game, table), atol=0)
    close(slopes(game, table | Rules("mine", {torch.sin: CP_LRP.functions[torch.tanh]})),
          slopes(game, table), atol=0)  # fmt: skip
    assert seeded(lambda: nn.Linear(1, 1)).bias is not None
