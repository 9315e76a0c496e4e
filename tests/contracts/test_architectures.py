"""Unmodified architectures of transformers under every estimator and every table of backward
rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import CP_LRP, TABLE, unruled
from apportion.estimators import TABLE as ESTIMATORS
from apportion.games import Store
from apportion.players import Players
from apportion.taps import Call
from apportion.types import Axiom
from tests.architectures import (
    ARCHITECTURES,
    CASES,
    ZEROS,
    built,
    few,
    given,
    read_by,
    restored,
    within,
)
from tests.contracts.made import Hard
from tests.contracts.settings import ON_A_GRID, SMALL

LOGIT = ap.values.Logit(3)
ROUNDING = 1e-6  # several architectures compute their norms in float32, whatever they are given
# what costs the most below is run on these always, on the others among the slow tests
ALWAYS = {
    "llama", "qwen3", "gemma2", "phi3", "gpt2", "falcon-alibi", "opt", "gpt-oss", "bert", "albert",
    "deberta-v2", "t5", "vit", "swin", "convnext",
}  # fmt: skip
EVERY_CASE = pytest.mark.parametrize(("name", "attention"), CASES)
EVERY_CASE_AT_LENGTH = pytest.mark.parametrize(
    ("name", "attention"),
    [pytest.param(*c, marks=[] if c[0] in ALWAYS else [pytest.mark.slow]) for c in CASES],
)
ONE_OF_EACH = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.slow]) for n in ARCHITECTURES],
)
# why the credit of all that is read is not the logit, although every product has a rule
LOSES = {
    "bloom": "its GELU is an autograd function, of which a table sees no operation",
    "gpt-oss": "its experts add 1 to one factor of their gate, a constant that takes a share",
    "mamba": "its state decays by exp(dt A), which is 1 where nothing is read",
}
# which experts run depends on the input, so that two runs cannot be compared
ROUTED = {"mixtral", "gpt-oss"}
# what the doctor finds: nonlinear operations that no rule of CP-LRP knows
BENDS = {"bloom": {"GeLUFunction"}, "mamba": {"softplus", "exp"}}


def game_of(
    name: str, attention: str, players: Players | None = None, value: object = LOGIT
) -> ap.ModelGame:
    model = built(name, attention)
    players = read_by(name, model) if players is None else players
    return ap.ModelGame(model, given(name), value, players, ZEROS)


def last_of(name: str) -> tuple[nn.Module, str]:
    attention = ARCHITECTURES[name].attentions[-1]
    return built(name, attention), attention


# -- estimators


@ONE_OF_EACH
def test_every_estimator_keeps_its_claims(name) -> None:
    """On tokens or patches together with heads; those that need a grid of players say so here, and
    run on patches.
    """
    model, attention = last_of(name)
    read = read_by(name, model)
    game = game_of(name, attention, few(read, 3) | few(within(name, model), 3))
    grid, store = game_of(name, attention, read), Store()
    none, full = game.value(torch.tensor([[False], [True]]).expand(2, game.players.n))
    with restored(model):
        for row in ESTIMATORS:
            estimator, asked = SMALL[row], game
            if isinstance(estimator, ON_A_GRID):
                with pytest.raises(ap.BadRequest, match="grid"):
                    ap.attribute(game, estimator, chunk=64)
                if read.grid is None:
                    continue
                asked = grid
            credit = ap.attribute(
                asked, estimator, chunk=64, store=store if asked is game else None
            )
            assert credit.players is asked.players and bool(credit.scores.isfinite().all()), row
            assert (credit.gap is None) == (Axiom.EFFICIENCY not in estimator.axioms), row
            if credit.gap is not None and "gap" not in credit.provenance.error_note:
                size = credit.scores.abs().sum() + (full - none).abs()
                assert abs(float(credit.gap)) < ROUNDING * float(size), row


@ONE_OF_EACH
def test_estimators_that_need_soft_gates_refuse_hard_ones(name) -> None:
    model, _ = last_of(name)
    hard = Hard(ap.removals.zeros())
    game = ap.ModelGame(model, given(name), LOGIT, read_by(name, model), hard)
    for estimator in SMALL.values():
        if estimator.needs != "hard":
            with pytest.raises(ap.NotSoft, match=type(estimator).__name__):
                ap.attribute(game, estimator)


# -- backward rules


@EVERY_CASE_AT_LENGTH
def test_every_table_keeps_the_values_and_gives_finite_credit(name, attention) -> None:
    model = built(name, attention)
    game = game_of(name, attention, read_by(name, model) | few(within(name, model)))
    n = game.players.n
    gates = torch.cat([torch.ones(1, n), torch.linspace(0.3, 0.9, n)[None]]).double()
    values = game.grad(gates)[0]
    with restored(model):
        for row, rules in TABLE.items():
            if attention != "eager" and F.scaled_dot_product_attention not in rules.functions:
                continue  # what such a table bends is the same in either
            if rules.paired and name in ROUTED:
                with pytest.raises(ap.BadRequest, match="the same operations on every input"):
                    game.under(rules).grad(gates)
                continue
            same, slopes = game.under(rules).grad(gates)
            assert torch.equal(values, same), row
            assert bool(slopes.isfinite().all()), row


@EVERY_CASE
def test_the_doctor_finds_no_product_without_a_rule(name, attention) -> None:
    model = built(name, attention)
    with restored(model):
        found = unruled(model, Call.of(given(name)), CP_LRP)
    assert not [f for f in found if "product" in f.why]
    assert {f.operation for f in found} == BENDS.get(name, set())


@contextmanager
def without(model: nn.Module, *parts: str) -> Iterator[None]:
    """Biases are zero inside, and so are parameters with one of these in their name."""
    kept = {}
    with torch.no_grad():
        for path, p in model.named_parameters():
            if path.endswith("bias") or any(part in path for part in parts):
                kept[path] = p.clone()
                p.zero_()
        try:
            yield
        finally:
            for path, before in kept.items():
                model.get_parameter(path).copy_(before)


def lost(name: str, attention: str, players: Players | None = None) -> float:
    """How far the sum of CP-LRP's credit is from the logit, relative to what is summed."""
    game = game_of(name, attention, players).under(CP_LRP)
    with torch.enable_grad():
        credit = ap.attribute(game, ap.Gradient())
    full = credit.full
    return float((credit.scores.sum() - full).abs() / (credit.scores.abs().sum() + full.abs()))


def whole(path: str) -> Players:
    return Players(("all",), ("stream",), {ap.Site(path): torch.zeros(1, 1).long()}, {})


@EVERY_CASE
def test_credit_of_what_is_read_sums_to_the_logit(name, attention) -> None:
    """Where no biases add to it. Constants of the embedding, as those of positions, are read too,
    but by no player: the tokens have the whole logit without them, the stream with them.
    """
    about, model = ARCHITECTURES[name], built(name, attention)
    with without(model, *about.constants):
        assert (lost(name, attention) < ROUNDING) == (name not in LOSES)
    if about.constants:
        with without(model):
            assert lost(name, attention) > ROUNDING
            if about.stream:
                assert lost(name, attention, whole(about.stream)) < ROUNDING


def test_bloom_loses_credit_in_its_gelu_alone() -> None:
    """With the same function of torch in its place, the tokens have the whole logit."""
    model = built("bloom", "eager")
    kept = {path: m for path, m in model.named_modules() if path.endswith("gelu_impl")}
    assert len(kept) == 2
    try:
        for path in kept:
            model.get_submodule(path.rpartition(".")[0]).gelu_impl = nn.GELU("tanh")
        with without(model):
            assert lost("bloom", "eager") < ROUNDING
    finally:
        for path, before in kept.items():
            model.get_submodule(path.rpartition(".")[0]).gelu_impl = before


# -- parts


@pytest.mark.parametrize(
    ("name", "attention"), [(n, a) for n, a in CASES if ARCHITECTURES[n].heads]
)
@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_parts_are_found_and_without_them_every_logit_changes(part, name, attention) -> None:
    about, model = ARCHITECTURES[name], built(name, attention)
    heads = part == "heads"
    players = ap.players.heads(model) if heads else ap.players.mlps(model, part=about.part)
    assert players.n == (about.heads if heads else about.mlps)
    value = ap.values.Logit(tuple(range(classes(name, model))))
    with restored(model):
        values = game_of(name, attention, players, value).value(
            torch.cat(
                [torch.zeros(1, players.n), 1 - torch.eye(players.n), torch.ones(1, players.n)]
            )
        )
    assert float((values[0] - values[-1]).abs().min()) > 1e-9
    assert bool((values[1:-1] != values[-1]).any(-1).all())  # and every one of them counts


def classes(name: str, model: nn.Module) -> int:
    with torch.no_grad():
        return model(**given(name)).logits.shape[-1]


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if not a.heads])
def test_models_without_heads_say_what_was_looked_for(name) -> None:
    model, _ = last_of(name)
    with pytest.raises(ap.BadRequest, match="no attention output projection found"):
        ap.players.heads(model)
    with pytest.raises(ap.BadRequest, match="no MLP blocks found"):
        ap.players.mlps(model)


# -- masks


@pytest.mark.parametrize(
    ("name", "attention"),
    [(n, a) for n, a in CASES if n in ALWAYS and ARCHITECTURES[n].sees == "text"],
)
def test_tokens_that_a_mask_hides_get_nothing(name, attention) -> None:
    """Not the last one, which a language model reads; nor the first, whose row of attention
    weights would be empty and overflows in float64 where transformers masks by hand.
    """
    model, hidden = built(name, attention), 2
    mask = (torch.arange(6) != hidden).long()[None]
    call = {**given(name), "attention_mask": mask}
    game = ap.ModelGame(model, call, LOGIT, read_by(name, model), ZEROS)
    with restored(model):
        credits = [
            ap.attribute(asked, estimator, chunk=3).scores
            for asked in (game, game.under(CP_LRP))
            for estimator in (ap.LeaveOneOut(), ap.Gradient())
        ]
    for scores in credits:
        assert float(scores[hidden].abs()) < 1e-12
        assert int((scores.abs() > 1e-9).sum()) == 5
