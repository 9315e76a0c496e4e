"""Wrong objects in the right places: every one is refused in words that name the next call."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.games import Store
from tests.contracts.made import ZEROS, X, asking, some
from tests.small import close, mlp, normal, seeded

ROOT = Path(__file__).parents[2]

# code, and the words its refusal holds; run without the hook that checks types in tests
REFUSED = {
    "game(net).under('epsilon')": ["'epsilon'", "apportion methods --tables"],
    "game(net).under(ap.backward.epsilon)": ["under(epsilon)", "ap.backward.epsilon()"],
    "ap.picked(game(net), (1, 2))": ["picked", "(1, 2)"],
    "ap.picked(game(net), 'a')": ["picked", "'a'"],
    "ap.pairs(game(net), game(net))": ["credit_a is a ModelGame", "ap.attribute"],
    "ap.attribute(game(net), ap.Gradient(), seed=None)": ["seed", "None"],
    "ap.attribute(game(net), ap.Gradient()).top(-1)": ["top(-1)", "top(5)"],
    "ap.attribute(game(net), ap.Gradient()).pick(0)": ["nothing to pick"],
    "ap.Owen(groups='ab')": ["groups='ab'", "((0, 1), (2, 3, 4))"],
    "P.tokens(words, 'hello')": ["str", "input_ids"],
    "P.words(words, torch.tensor([[1, 2]]), None)": ["tokenizer=None", "tokens(lm, ids)"],
    "P.sentences(words, torch.tensor([[1, 2]]), None)": ["tokenizer=None", "tokens(lm, ids)"],
    "P.spans(words, torch.tensor([[1, 2]]), nn, 'tea')": ["letter by letter", "['tea']"],
    "P.wavelets(torch.zeros(1, 1, 16, 16), wavelet='dmey')": ["dmey", "db4"],
    "ap.picked(game(net), True)": ["picked(game, True)", "bool", "picked(game, 2)"],
    "game(net).under(3)": ["under(3)", "int", "ap.backward.CP_LRP"],
    "ap.pairs(embedded, 'x')": ["credit_b is a str", "ap.attribute"],
    "ap.pairs(embedded, embedded, float('nan'))": ["scale=nan", "cosine_scale"],
    "ap.pairs(embedded, embedded, 'cosine')": ["scale='cosine'", "cosine_scale"],
    "ap.pairs(embedded, embedded, True)": ["scale=True", "cosine_scale"],
    "ap.attribute(game(net), ap.Gradient(), seed='a')": ["attribute(seed='a')", "seed=0"],
    "embedded.pick('a')": ["credit.pick", "'a'", "str"],
    "second.pick('a')": ["interactions.pick", "'a'", "str"],
    "second.pick(1.0)": ["interactions.pick", "1.0", "float"],
    "second.pick(slice(0, 1))": ["interactions.pick", "slice"],
    "second.pick(True)": ["interactions.pick", "True", "bool"],
    "second.top(-1)": ["interactions.top(-1)", "top(5)"],
    "second.top('a')": ["interactions.top", "'a'", "str"],
    "ap.backward.layers('nope')": ["layers('nope')", "rules.within('nope')"],
    "ap.backward.layers(1.0)": ["layers(start=1.0)", "start=1"],
    "ap.backward.layers(None)": ["layers(start=None)", "start=0"],
    "ap.backward.layers(2, 'x')": ["layers(stop='x')", "stop=3"],
    "P.frequencies([1.0, 2.0])": ["frequencies(x)", "list", "torch.as_tensor(x)"],
    "P.frequencies(signal, 4, 'x')": ["sampling_rate='x'", "samples per second"],
    "P.frequencies(signal, axis='t')": ["frequencies(axis='t')", "axis=-1"],
    "P.time_steps([1.0, 2.0])": ["time_steps(x)", "list"],
    "P.time_steps(signal, axis='t')": ["time_steps(axis='t')", "axis=-1"],
    "P.wavelets([1.0])": ["wavelets(x)", "list"],
    "P.wavelets(signal, 'levels')": ["grain='levels'", "ap.players.Grain.LEVELS"],
    "P.wavelets(signal, 2)": ["grain=2", "int", "ap.players.Grain.LEVELS"],
    "P.wavelets(signal, [2])": ["grain=[2]", "list", "ap.players.Grain.LEVELS"],
    "P.wavelets(signal, levels='3')": ["levels='3'", "levels=3"],
    "P.wavelets(signal, axes='t')": ["axes='t'", "axes=[-1]"],
    "P.wavelets(signal, axes=2)": ["axes=2", "axes=[-1]"],
    "P.column_groups(x, [('a', [0])])": ["a list was given", "{'size': [0, 1], ...}"],
    "P.column_groups(x, {'a': 0})": ["'a' is 0, a int", "{'a': [0]}"],
    "P.column_groups(x, {'a': 'bc'})": ["'a' is 'bc', a str", "{'a': ['bc']}"],
    "P.column_groups(x, {'a': torch.tensor(1)})": ["'a' is 1, a Tensor", "{'a': [0]}"],
    "P.column_groups(x, {'a': [0.5]})": ["0.5", "float", "by number or by name"],
    "P.column_groups(x, {'a': [None]})": ["None", "by number or by name"],
    "P.column_groups(x, {'a': [True]})": ["True", "bool", "by number or by name"],
    "P.patches(torch.ones(1, 3, 8, 8), (4, 4))": ["size=(4, 4)", "write size=4"],
    "P.patches(torch.ones(1, 3, 8, 8), '4')": ["size='4'", "write size=2"],
    "P.cells(net, '0', input=x)": ["no positions; use neurons(model, '0')"],
    "P.cells(conv, '0', input=pictures, axis=9)": ["axis=9", "give axis=1 to 3, or use neurons"],
    "P.cells(conv, '0', input=pictures, axis='c')": ["cells(axis='c')", "axis=1"],
    "spanned('tea')": ["letter by letter", "['tea']"],
    "spanned(3)": ["spans=3", "spans=['a piece']"],
    "spanned([(0, 3.5)])": ["(0, 3.5)", "whole numbers"],
    "spanned([(0, 1, 2)])": ["(0, 1, 2)", "spans=[(0, 12)]"],
    "spanned([3])": ["the span 3", "spans=[(0, 12)]"],
    "V.BoxScore((0, 0, 2, 2), 'a', (8, 8))": ["'a'", "BoxScore((10, 20, 50, 80), 1, image="],
    "V.Contrast('a', 2)": ["'a'", "Contrast(3, 5)"],
    "V.Logit(True)": ["Logit", "True", "Logit(3)"],
    "V.Logit(1.0)": ["Logit", "1.0", "float"],
    "V.Logit('cat')": ["'cat'", "str"],
    "V.Logit(())": ["Logit(())", "Logit(0)"],
    "V.Logit((0, 1.5))": ["1.5"],
    "V.Logit(torch.tensor(True))": ["tensor(True)"],
    "V.Logit(torch.tensor(1.0))": ["tensor(1.)"],
    "V.Logit(torch.tensor([1, 2]))": ["integer"],
    "V.Logit(np.bool_(True))": ["True", "integer"],
    "V.Margin(None)": ["Margin", "None"],
    "V.Loss(2.0)": ["Loss", "2.0"],
    "V.Contrast(0, (1, 2))": ["Contrast", "(1, 2)"],
    "V.Continuation((1, 'a'))": ["Continuation", "'a'"],
    "game(torch.jit.script(net))": ["TorchScript", "original nn.Module"],
    "game(torch.jit.trace(net, x))": ["TorchScript", "original nn.Module"],
    "game(lambda x: x)": ["function", "torch.nn.Module", "FunctionGame"],
    "game(nn.Linear)": ["class", "Linear(...)"],
    "game(net, x[0])": ["the output is (3,)", "x[None]"],
    "game(conv, torch.ones(2, 8, 8))": ["could not run", "input: float32 (2, 8, 8)", "x[None]"],
    "game(net, x[:, :5])": ["could not run", "float64 (1, 5)", "x[None]"],
    "game(net, x.float())": ["could not run", "float32 (1, 6)", "parameters are float64"],
    "game(conv, torch.ones(1, 3, 8, 8))": ["could not run", "(1, 3, 8, 8)", "channels"],
    "game(words, torch.tensor([[1, 99]]))": ["could not run", "int64 (1, 2)", "vocabulary"],
    "game(net, {'input': x, 'more': x})": ["could not run", "more: float64 (1, 6)"],
    "game(net, value=3)": ["value=3", "ap.values.Logit(3)"],
    "game(net, value=V.Logit)": ["Logit is a class", "Logit(0)"],
    "game(net, value=V.Continuation)": ["Continuation is a class"],
    "game(net, players=3)": ["players=3", "columns(x)"],
    "game(net, removal=R.zeros)": ["no removal", "Blend"],
    "game(net, removal=R.zeros())": ["zeros()", "ap.Blend(zeros())"],
    "game(net, removal=ap.Blend)": ["Blend is a class"],
    "ap.Blend(R.zeros)": ["Blend(zeros)", "Blend(zeros())"],
    "ap.Blend(R.blur)": ["Blend(blur(...))"],
    "ap.Blend(0)": ["Blend(constant(0))"],
    "ap.Blend(x)": ["Blend(counterfactual(x))"],
    "R.blur((3, 3))": ["blur", "rite"],
    "R.constant(None)": ["constant", "rite"],
    "R.Pyramid('x')": ["Pyramid", "rite"],
    "R.conditional([[1.0, 'a']])": ["numbers"],
    "V.BoxScore(None, 0, (8, 8))": ["four finite numbers"],
    "V.BoxScore((0, 0, 2, 2), 0, 8)": ["image="],
    "V.DenseSum(0, mask='x')": ["mask"],
    "ap.players.wavelets(torch.ones(1, 8, 8), levels=2.0)": ["levels=2.0", "levels=2"],
    "ap.players.time_steps(torch.ones(1, 8), 1.5)": ["1.5", "whole number"],
    "ap.players.segments(x, 3)": ["int", "tensor or an array"],
    "ap.backward.gamma('x')": ["gamma", "number"],
    "ap.backward.falling_gamma(-1)": ["falling_gamma"],
    "ap.Blend(None)": ["Blend(zeros())"],
    "ap.Jitter(R.zeros(), 1.0)": ["Jitter(Blend(zeros()), sigma)"],
    "ap.attribute(ap.Gradient(), game(net))": ["game comes first", "Gradient(at=1.0)"],
    "ap.attribute(game(net), 'gradient')": ["'gradient'", "ap.Gradient()", "spec.parse"],
    "ap.attribute(game(net), ap.Gradient)": ["class", "Gradient()"],
    "ap.attribute(game(net), 3)": ["int", "ap.KernelShap"],
    "ap.attribute(net, ap.Gradient())": ["Sequential", "ap.ModelGame("],
    "ap.attribute(game(net), ap.Gradient(), budget=3)": ["ap.Cost(evaluations=3)"],
    "ap.attribute(game(net), ap.Gradient(), chunk=2.5)": ["chunk=2.5", "chunk=2"],
    "ap.attribute(game(net), ap.Gradient(), chunk=0)": ["chunk=0", "at least one row"],
    "ap.attribute(game(net), ap.Gradient(), store={})": ["dict", "Store()"],
    "ap.KernelShap(samples=64.0)": ["KernelShap(samples=64.0)", "samples=64"],
    "ap.KernelShap(samples=True)": ["True", "bool"],
    "ap.LinearSurrogate(samples='9')": ["'9'", "str"],
    "ap.AveragedGradient(samples=2.0)": ["samples=2"],
    "ap.PermutationShapley(orders=2.0)": ["orders=2"],
    "ap.PathIntegral(steps=9.0)": ["steps=9"],
    "ap.Rise(samples=9.0)": ["samples=9"],
    "ap.Rise(cells=3.0)": ["cells=3"],
    "ap.Rise(keep='half')": ["keep='half'", "number"],
    "ap.LinearSurrogate(keep=None)": ["keep=None"],
    "ap.Gradient(at='full')": ["at='full'"],
    "ap.TopK(2.0)": ["TopK(k=2.0)", "k=2"],
    "ap.StandardError('0.1')": ["'0.1'", "number"],
    "ap.PathIntegral(nodes='midpoint')": ["'midpoint'", "ap.Quadrature.MIDPOINT"],
    "ap.PathIntegral(nodes='simpson')": ["GAUSS_LEGENDRE", "MIDPOINT"],
    "ap.KernelShap(until=0.1)": ["until=0.1", "ap.StandardError(0.1)"],
    "ap.NShapley(order=2.0)": ["NShapley(order=2.0)", "order=2"],
    "ap.JointShapley(samples='9')": ["'9'", "str"],
    "ap.FaithfulShapley(until=0.1)": ["until=0.1", "ap.StandardError(0.1)"],
    "ap.SecondDifference(among='all')": ["among='all'", "ap.Among.ALL"],
    "ap.Rise(until=ap.TopK)": ["until=", "ap.TopK(5)"],
    "owned([0, 1])": ["list", "torch.tensor"],
    "owned(torch.tensor([0.0, 1.0]))": ["float32", "owner.long()"],
    "owned(torch.tensor([False, True]))": ["bool", "owner.long()"],
    "owned(torch.tensor([], dtype=torch.long))": ["empty", "(0,)"],
    "ap.why(net, x, budget='60s')": ["budget='60s'", "60.0"],
    "credit[99]": ["credit[99]", "0 to 5", "names"],
    "credit[-99]": ["credit[-99]", "0 to 5"],
    "credit[1.5]": ["credit[1.5]", "names"],
}

INTEGERS = ["1", "np.int64(1)", "np.uint8(1)", "np.array(1)", "torch.tensor(1)"]
INTEGERS += ["torch.tensor(1, dtype=torch.uint8)"]

SCRIPT = textwrap.dedent("""
    import json, sys
    import numpy as np, torch
    from torch import nn
    import apportion as ap
    from apportion.games import Store
    V, R, P = ap.values, ap.removals, ap.players
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    conv = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    words = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3))
    x = torch.randn(1, 6, dtype=torch.float64)

    def game(model, given=x, value=V.Logit(0), players=None, removal=ap.Blend(R.zeros())):
        players = P.columns(x) if players is None else players
        return ap.ModelGame(model, given, value, players, removal)

    def owned(owner):
        return P.Players(("a", "b"), ("p", "p"), {ap.Site("", "in"): owner})

    def same(given):
        for cls in (V.Logit, V.Probability, V.LogProbability, V.Margin, V.Loss):
            assert cls(given) == cls(1) and repr(cls(given)) == repr(cls(1))
            assert cls((0, given)) == cls((0, 1)) and hash(cls(given)) == hash(cls(1))
        assert V.Contrast(0, given) == V.Contrast(0, 1)
        assert V.Contrast(given, 0) == V.Contrast(1, 0)
        tokens = V.Continuation((given, 2)).tokens
        assert tokens == (1, 2) and all(type(t) is int for t in tokens)
        assert (game(net, value=V.Logit(given)).value(torch.ones(1, 6).bool())
                == net(x)[:, 1]).all()

    class Letters:
        def decode(self, ids):
            return " ".join("abcdefg"[i] for i in ids)

    def spanned(spans):
        return P.spans(words, torch.tensor([[1, 2]]), Letters(), spans, embedding="0")

    pictures, signal = torch.ones(1, 2, 8, 8), torch.randn(1, 2, 16)
    credit = ap.attribute(game(net), ap.Gradient())
    embedded = ap.attribute(game(net, value=V.Embedding()), ap.Gradient())
    second = ap.attribute(game(net), ap.SecondDifference())
    told = {}
    for case in json.load(sys.stdin):
        try:
            eval(case)
            told[case] = ["nothing", ""]
        except Exception as failure:
            told[case] = [type(failure).__name__, str(failure)]
    print(json.dumps(told))
""")


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    """What each case raises, in a process without the import hook."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        input=json.dumps([*REFUSED, *(f"same({given})" for given in INTEGERS)]),
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_object_is_refused_in_words(told, case) -> None:
    kind, message = told[case]
    assert kind == "BadRequest", f"{kind}: {message}"
    for word in REFUSED[case]:
        assert word in message, message


@pytest.mark.parametrize("given", INTEGERS)
def test_integers_of_every_kind_are_targets(told, given) -> None:
    kind, message = told[f"same({given})"]
    assert kind == "nothing", f"{kind}: {message}"


class Failing(nn.Module):
    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    def forward(self, x: Tensor) -> Tensor:
        raise self.failure


class OwnError(RuntimeError):
    """Of whoever wrote the model."""


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, IndexError, TypeError])
def test_what_the_model_raises_is_the_cause(kind) -> None:
    failure = kind("first\nsecond")
    with pytest.raises(ap.BadRequest, match=r"x: float64 \(1, 6\)\): first\. Prepare") as told:
        asking(Failing(failure))
    assert told.value.__cause__ is failure


@pytest.mark.parametrize(
    "failure",
    [OwnError("mine"), ap.BadRequest("asked"), torch.OutOfMemoryError("full"), KeyError("k"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=lambda f: type(f).__name__,
)  # fmt: skip
def test_other_failures_pass_through(failure) -> None:
    with pytest.raises(type(failure)) as told:
        asking(Failing(failure))
    assert told.value is failure


def test_renamed_players_of_two_tables_play_in_one_game() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.inner(torch.cat([a, b], 1))

    a, b = normal(1, 2, seed=1), normal(1, 4, seed=2)
    first, second = ap.players.columns(a, part=0), ap.players.columns(b, part=1)
    with pytest.raises(ap.BadRequest, match=r"b\.renamed\('other column'\)"):
        first | second
    both = first | second.renamed("second column")
    assert set(both.kinds) == set(both.geometry) == {"column", "second column"}
    removal = {"column": ZEROS, "second column": ap.Blend(ap.removals.constant(0.5))}
    game = ap.ModelGame(Two().double(), (a, b), ap.values.Logit(0), both, removal)
    absent = game.value(torch.zeros(1, 6, dtype=torch.bool))
    with torch.no_grad():
        close(absent, game.question.model(a * 0, b * 0 + 0.5)[:, 0])
    credit = ap.attribute(game, ap.LeaveOneOut())
    assert credit.by("second column").players.n == 4
    with pytest.raises(ap.BadRequest, match="only"):
        both.renamed("all")


class Attending(nn.Module):
    """One nn.MultiheadAttention, and if wanted one attention of separate layers."""

    def __init__(self, more: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.own_attention = nn.ModuleDict({"out_proj": nn.Linear(4, 4)} if more else {})

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, x, x)[0]
        for layer in self.own_attention.values():
            x = layer(x)
        return x.mean(1)


def test_heads_leaves_out_projections_that_never_run() -> None:
    one, two = (seeded(lambda more=more: Attending(more)) for more in (False, True))
    with pytest.raises(ap.BadRequest, match=r"'attention'.*Site\('attention', 'out', 0\)"):
        ap.players.heads(one, count=2)
    found = ap.players.heads(two, count=2)
    assert [site.path for site in found.owner] == ["own_attention.out_proj"]
    x = normal(1, 3, 4)
    game = ap.ModelGame(two, x, ap.values.Logit(0), found, ZEROS)
    assert game.value(some(2)).shape == (5,)
    whole = ap.players.Players(
        ("block",), ("block",), {ap.Site("attention", "out", 0): torch.zeros(1, 1).long()}
    )
    asked = ap.ModelGame(one, x, ap.values.Logit(0), whole, ZEROS)
    assert asked.value(torch.ones(1, 1).bool()).shape == (1,)


def test_the_cache_holds_packed_bits() -> None:
    n = 1003
    game = ap.FunctionGame(lambda gates: gates.double().sum(-1), n)
    store, gates = Store(), some(n, rows=9)
    gates[0], gates[1] = True, False
    asked = ap.cached(game, store)
    close(asked.value(gates), gates.double().sum(-1))
    assert {len(key[0]) for key in store.known} == {(n + 7) // 8}
    assert {key[1] for key in store.known} == {n}
    asked.value(gates)
    assert store.hits == 9


def test_sets_of_players_that_fill_the_same_bytes_are_told_apart() -> None:
    store = Store()
    for n in (9, 10):
        game: Any = ap.FunctionGame(lambda gates: torch.full((len(gates),), gates.shape[1]), n)
        one = ap.cached(game, store).value(torch.zeros(1, n).bool())
        assert int(one) == n


def test_inference_mode_is_named_where_a_gradient_is_asked() -> None:
    model = asking(mlp())
    plain = ap.FunctionGame(lambda g: g.sum(-1), 6, domain="unit", differentiable=True)
    for game in (model, plain):
        with torch.inference_mode(), pytest.raises(ap.BadRequest, match="inference_mode"):
            game.grad(torch.full((2, 6), 0.5, dtype=torch.float64))
        with torch.inference_mode():
            assert game.value(some(6)).shape == (5,)
        with torch.no_grad():
            assert game.grad(torch.full((2, 6), 0.5, dtype=torch.float64))[1].shape == (2, 6)


def test_players_count_from_either_end() -> None:
    credit = ap.attribute(asking(mlp(), X), ap.Gradient())
    assert credit[-1].name == credit[5].name == credit["column 5"].name
