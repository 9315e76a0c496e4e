"""On a language model as it comes: CP-LRP's credit of tokens sums to the logit, that of the others
does not, and the model stays as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.backward import ATTN_LRP, CP_LRP, GUIDED, TABLE, Rules, unruled
from apportion.players import Players
from apportion.taps import Call
from tests.conftest import missing
from tests.small import close, untouched

pytestmark = pytest.mark.slow
PROMPT, ANSWER = "When Mary and John went to the store, John gave a drink to", " Mary"
ZEROS = ap.Blend(ap.removals.zeros())


@pytest.fixture(scope="module")
def subject() -> ap.Subject:
    try:
        return ap.zoo.load("smollm2")
    except ap.BadRequest as failure:
        missing(str(failure))
        raise


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, subject: ap.Subject) -> nn.Module:
    """A copy with its own configuration, which shares the weights."""
    weights = {id(p): p for p in subject.model.parameters()}
    own = copy.deepcopy(subject.model, weights)
    own.set_attn_implementation(request.param)
    assert own.config._attn_implementation == request.param
    return own


@pytest.fixture(scope="module")
def ids(subject: ap.Subject) -> Tensor:
    return subject.tokenizer(PROMPT, return_tensors="pt")["input_ids"]


def game_of(
    model: nn.Module, subject: ap.Subject, ids: Tensor, players: Players | None = None
) -> ap.ModelGame:
    players = ap.players.tokens(model, ids, subject.tokenizer) if players is None else players
    return ap.ModelGame(model, ids, ap.values.Logit(subject.index(ANSWER)), players, ZEROS)


def credit_of(game: ap.ModelGame, rules: Rules | None) -> ap.Attribution:
    return ap.attribute(game if rules is None else game.under(rules), ap.Gradient())


def off(credit: ap.Attribution) -> float:
    """How far the sum is from the whole, as a share of it."""
    return abs(float(credit.scores.sum() / credit.full) - 1)


@contextmanager
def same_attention(model: nn.Module) -> Iterator[None]:
    """Also every layer's choice of an attention function is the same afterwards."""

    def chosen() -> list[str]:
        configs = [vars(m)["config"] for m in model.modules() if "config" in vars(m)]
        return [config._attn_implementation for config in configs]

    before = chosen()
    assert len(before) > 2
    with untouched(model):
        yield
    assert chosen() == before


@pytest.fixture(scope="module")
def by_token(model: nn.Module, subject: ap.Subject, ids: Tensor) -> ap.Attribution:
    with same_attention(model):
        return credit_of(game_of(model, subject, ids), CP_LRP)


def test_tokens_sum_to_the_logit(by_token, model, ids, subject) -> None:
    with torch.no_grad():
        logit = model(ids).logits[0, -1, subject.index(ANSWER)]
    close(by_token.full, logit, rtol=1e-5, atol=0)
    assert off(by_token) < 1e-3


def test_the_table_knows_every_operation(model, ids) -> None:
    for rules in (CP_LRP, ATTN_LRP):
        with same_attention(model):
            assert unruled(model, Call((ids,)), rules) == []


def test_both_kinds_in_one_game_score_as_alone(by_token, model, ids, subject) -> None:
    """Tokens still sum to the logit, and what the heads of a layer carry together is what their
    attention block carries, read at its output.
    """
    tokens, heads = ap.players.tokens(model, ids, subject.tokenizer), ap.players.heads(model)
    blocks = [path for path, m in model.named_modules() if path.endswith("self_attn")]
    outputs = Players(
        tuple(blocks),
        ("attention",) * len(blocks),
        {ap.Site(p, "out", 0): torch.tensor([[i]]) for i, p in enumerate(blocks)},
        {},
    )
    with same_attention(model):
        mixed = credit_of(game_of(model, subject, ids, tokens | heads | outputs), CP_LRP)
    assert off(mixed.by("token")) < 1e-3
    size = float(mixed.full) * 1e-3
    close(mixed.by("token").scores, by_token.scores, atol=size)
    each = mixed.by("head").scores.unflatten(0, (len(blocks), -1)).sum(1)
    close(each, mixed.by("attention").scores, atol=size)


def test_what_leaves_a_layer_carries_the_logit(model, ids, subject) -> None:
    """At every depth, not only at the tokens."""
    paths = [p for p, m in model.named_modules() if p.rpartition(".")[0].endswith("layers")]
    owners = {ap.Site(p): torch.tensor([[i]]) for i, p in enumerate(paths)}
    cuts = Players(tuple(paths), ("cut",) * len(paths), owners, {})
    credit = credit_of(game_of(model, subject, ids, cuts), CP_LRP)
    assert len(paths) == model.config.num_hidden_layers
    close(credit.scores / credit.full, torch.ones(len(paths)), atol=1e-3)


@pytest.mark.parametrize("rules", [ATTN_LRP, GUIDED, TABLE["epsilon"], None])
def test_what_is_not_claimed_does_not_hold(rules, model, ids, subject) -> None:
    assert off(credit_of(game_of(model, subject, ids), rules)) > 1e-2
    assert rules is None or not rules.conserves


def test_both_spellings_of_attention_agree(subject, ids, by_token) -> None:
    """The same model asked under the other one."""
    own = subject.model
    credit = credit_of(game_of(own, subject, ids), CP_LRP)
    close(credit.scores, by_token.scores, atol=float(credit.full) * 1e-3)


@pytest.mark.parametrize("rules", [CP_LRP, ATTN_LRP, GUIDED])
def test_values_are_the_same_bits_with_and_without_a_table(rules, model, ids, subject) -> None:
    game = game_of(model, subject, ids)
    n = game.players.n
    # at a first token of exactly 0 each of 61 norms multiplies the gradient by 300: it overflows
    gates = torch.stack([torch.ones(n), torch.linspace(0.2, 1, n)]).double()
    plain, bent = game.grad(gates)[0], game.under(rules).grad(gates)[0]
    assert torch.equal(plain, bent)
    assert torch.equal(game.value(gates), game.under(rules).value(gates))


class Interrupted(Exception):
    """Raised on purpose."""


def test_untouched_after_an_exception_in_the_middle_of_a_layer(model, ids, subject) -> None:
    bent = game_of(model, subject, ids).under(CP_LRP)
    everyone = torch.ones(1, bent.players.n)
    broken = model.get_submodule("model.layers.7.mlp")

    def interrupt(module: nn.Module, args: tuple) -> None:
        raise Interrupted

    handle = broken.register_forward_pre_hook(interrupt)
    try:
        with same_attention(model), pytest.raises(Interrupted):
            bent.grad(everyone)
    finally:
        handle.remove()
    assert not torch.overrides._len_torch_function_stack()
    assert off(credit_of(bent, None)) < 1e-3  # and it can be asked again
