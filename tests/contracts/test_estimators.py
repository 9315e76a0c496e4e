"""Every row of the table of estimators keeps its promises, and promises nothing it need not."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.estimators import TABLE
from apportion.estimators._moments import StandardError, TopK
from apportion.games import Ledger, counted, toy
from apportion.players import Players
from apportion.spec import parse, spell
from apportion.types import Axiom
from tests.contracts.settings import DETERMINISTIC, ON_A_GRID, ONE_OUTPUT, SMALL, fixed_cost
from tests.small import close, cnn, mlp, normal, table_game, untouched

ROWS = [pytest.param(SMALL[name], id=name) for name in TABLE if name in SMALL]


@pytest.fixture(autouse=True)
def everybody_in_a_line(request, monkeypatch) -> None:
    """Estimators that read a grid find one in every game of this file."""
    given = request.node.callspec.params if "callspec" in vars(request.node) else {}
    if isinstance(given.get("estimator"), ON_A_GRID):
        monkeypatch.setattr(Players, "grid", property(lambda players: (players.n,)))


def test_every_row_has_a_small_setting() -> None:
    assert SMALL.keys() == TABLE.keys()


def game_of(
    order: int, seed: int = 0, out: tuple[int, ...] = (), players: int = 7
) -> toy.MoebiusGame:
    return toy.moebius(players, order, Generator().manual_seed(seed), out=out)


def with_dummy_and_twins(seed: int) -> toy.MoebiusGame:
    """Player 0 does nothing; players 1 and 2 are interchangeable."""
    game = game_of(3, seed)
    sets, c = game.sets.clone(), game.coefficients.clone()
    c[:, sets[:, 0]] = 0
    swapped = sets.clone()
    swapped[:, [1, 2]] = sets[:, [2, 1]]
    lookup = {tuple(row.tolist()): k for k, row in enumerate(sets)}
    mirror = torch.tensor([lookup[tuple(row.tolist())] for row in swapped])
    return toy.MoebiusGame(sets, (c + c[:, mirror]) / 2)


@pytest.mark.parametrize("estimator", ROWS)
def test_additive_game_is_exact_if_claimed(estimator) -> None:
    weights = normal(7, seed=3)
    credit = ap.attribute(toy.additive(weights, base=0.7), estimator)
    if Axiom.ADDITIVE in estimator.axioms:
        close(credit.scores, weights)
    else:
        assert not torch.allclose(credit.scores, weights, atol=1e-3)


@pytest.mark.parametrize("estimator", ROWS)
def test_dummy_scores_zero_if_claimed(estimator) -> None:
    worst = max(
        float(ap.attribute(with_dummy_and_twins(s), estimator).scores[0].abs()) for s in range(4)
    )
    assert (worst < 1e-9) == (Axiom.DUMMY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_twins_score_the_same_if_claimed(estimator) -> None:
    scores = [ap.attribute(with_dummy_and_twins(s), estimator).scores for s in range(4)]
    worst = max(float((s[1] - s[2]).abs()) for s in scores)
    assert (worst < 1e-9) == (Axiom.SYMMETRY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_scores_add_up_if_claimed(estimator) -> None:
    ends = torch.tensor([[False] * 7, [True] * 7])
    worst = 0.0
    for seed in range(4):
        game = game_of(4, seed)
        none, full = game.value(ends)
        credit = ap.attribute(game, estimator)
        worst = max(worst, float((credit.scores.sum() - (full - none)).abs()))
        assert (credit.gap is None) == (Axiom.EFFICIENCY not in estimator.axioms)
    assert (worst < 1e-9) == (Axiom.EFFICIENCY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_linear_in_the_game(estimator) -> None:
    v, w = game_of(3, 1), game_of(3, 2)
    both = toy.MoebiusGame(v.sets, 2.0 * v.coefficients - 0.5 * w.coefficients)
    one, two, mix = (ap.attribute(g, estimator, seed=5).scores for g in (v, w, both))
    kept = torch.allclose(mix, 2.0 * one - 0.5 * two, rtol=1e-9, atol=1e-9)
    assert kept == (Axiom.LINEARITY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_asks_no_more_than_it_says(estimator, n) -> None:
    estimator = fixed_cost(estimator)
    ledger = Ledger()
    game = game_of(2, players=n)
    estimator(counted(game, ledger), Generator().manual_seed(0))
    assert ledger.spent == estimator.cost(n)
    assert ap.attribute(game, estimator).cost == estimator.cost(n)


@pytest.mark.parametrize("estimator", ROWS)
def test_same_seed_same_bits_and_other_seed_other_bits(estimator) -> None:
    game = game_of(4)
    a, b, c = (ap.attribute(game, estimator, seed=s).scores for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert torch.equal(a, c) == isinstance(estimator, DETERMINISTIC)


@pytest.mark.parametrize("estimator", ROWS)
def test_chunk_size_does_not_change_the_answer(estimator) -> None:
    game = table_game()
    one, five, many = (ap.attribute(game, estimator, chunk=rows).scores for rows in (1, 5, 1000))
    close(one, five, atol=1e-12)
    close(one, many, atol=1e-12)


@pytest.mark.parametrize("estimator", ROWS)
def test_several_outputs_are_stacked_single_runs(estimator) -> None:
    game = game_of(3, out=(2, 3))
    if isinstance(estimator, ONE_OUTPUT):
        with pytest.raises(ap.BadRequest, match=r"ap\.picked\(game, 0\)"):
            ap.attribute(game, estimator)
        return
    all_at_once = ap.attribute(game, estimator)
    for i, j in product(range(2), range(3)):
        single = ap.attribute(ap.picked(game, i, j), estimator)
        close(all_at_once.scores[i, j], single.scores, atol=1e-12)
        close(all_at_once.pick(i, j).scores, single.scores, atol=1e-12)
        if single.error is not None:
            close(all_at_once.error[i, j], single.error, atol=1e-12)


@pytest.mark.parametrize("estimator", ROWS)
def test_float32_model_agrees_with_float64(estimator) -> None:
    wide, narrow = mlp(), mlp().float()
    x = normal(1, 6, seed=1)
    credits = [
        ap.attribute(
            ap.ModelGame(
                m, v, ap.values.Logit(1), ap.players.columns(v), ap.Blend(ap.removals.zeros())
            ),
            estimator,
        )
        for m, v in ((wide, x), (narrow, x.float()))
    ]
    close(credits[0].scores, credits[1].scores, atol=2e-5)


@pytest.mark.parametrize("estimator", ROWS)
def test_one_player_gets_everything(estimator) -> None:
    game = toy.additive(torch.tensor([2.5]))
    credit = ap.attribute(game, estimator)
    assert credit.scores.shape == (1,)
    if Axiom.ADDITIVE in estimator.axioms:
        close(credit.scores, torch.tensor([2.5]))


@pytest.mark.parametrize("estimator", ROWS)
def test_model_is_untouched(estimator) -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.patches(x, 4), ap.Blend(ap.removals.zeros())
    )
    with untouched(model):
        ap.attribute(game, estimator)


@pytest.mark.parametrize("estimator", ROWS)
def test_a_hard_game_is_refused_with_a_remedy_or_answered(estimator) -> None:
    game = toy.additive(normal(5), domain="binary")
    if estimator.needs == "hard":
        assert ap.attribute(game, estimator).scores.shape == (5,)
        return
    with pytest.raises(ap.NotSoft, match=r"LeaveOneOut.*Blend\(zeros\(\)\)"):
        ap.attribute(game, estimator)


@pytest.mark.parametrize("estimator", ROWS)
def test_spelling_round_trip(estimator) -> None:
    assert parse(spell(estimator)) == estimator
    assert parse(spell(type(estimator)())) == type(estimator)()
    if "until" in {f.name for f in dataclasses.fields(estimator)}:
        for rule in (StandardError(0.25), TopK(3)):
            changed = dataclasses.replace(estimator, until=rule)
            assert parse(spell(changed)) == changed


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (ap.Owen(groups=((0, 1), (2,)), orders=8), "owen:groups=((0, 1), (2,)),orders=8"),
        (ap.Occlusion(window=(2, 3), stride=2), "occlusion:window=(2, 3),stride=2"),
        (ap.Occlusion(window=5), "occlusion:window=5"),
        (
            ap.Sobol(index=ap.Sensitivity.FIRST_ORDER, points=ap.Points.LATIN, until=TopK(2)),
            "sobol:index=first-order,points=latin,until=topk(2)",
        ),
        (ap.Rise(score=ap.RiseScore.CENTRED), "rise:score=centred"),
        (ap.Lime(distance=ap.Distance.EUCLIDEAN, width=2.0), "lime:width=2.0,distance=euclidean"),
    ],
    ids=lambda x: x.split(":")[0] if isinstance(x, str) else "",
)
def test_options_that_are_choices_or_tuples_have_a_spelling(estimator, text) -> None:
    assert spell(estimator) == text
    assert parse(text) == estimator
    with pytest.raises(ap.BadRequest, match="cannot be read"):
        parse(text.partition("=")[0] + "=(1, 2" if "(" in text else text + "x")


@pytest.mark.parametrize("estimator", ROWS)
def test_error_or_the_reason_why_there_is_none(estimator) -> None:
    credit = ap.attribute(game_of(3), estimator)
    assert (credit.error is None) == bool(credit.provenance.error_note)


@pytest.mark.parametrize("estimator", ROWS)
def test_provenance_is_enough_to_ask_again(estimator) -> None:
    credit = ap.attribute(game_of(2), estimator, seed=3)
    assert credit.provenance.estimator == repr(estimator)
    assert credit.provenance.seed == 3
    assert set(estimator.cites) <= set(credit.provenance.cites)
    assert credit.provenance.game.unit == "value"


@pytest.mark.parametrize("estimator", ROWS)
def test_misspelt_options_are_refused(estimator) -> None:
    with pytest.raises(TypeError):
        type(estimator)(sampels=3)
    name = next(n for n, e in SMALL.items() if e is estimator)
    with pytest.raises(ap.BadRequest, match="has no option 'sampels'"):
        parse(f"{name}:sampels=3")


SAMPLED = {
    "permutation-shapley": (lambda m: ap.PermutationShapley(orders=2 * m), lambda g: g.shapley()),
    "kernel-shap": (lambda m: ap.KernelShap(samples=10 * m), lambda g: g.shapley()),
    "control-variate-shapley": (
        lambda m: ap.ControlVariateShapley(samples=10 * m, proposal=ap.Proposal.LINEAR),
        lambda g: g.shapley(),
    ),
    "banzhaf": (lambda m: ap.Banzhaf(samples=10 * m), lambda g: g.banzhaf()),
    "owen": (lambda m: ap.Owen(orders=2 * m), lambda g: g.shapley()),
    "lime": (lambda m: ap.Lime(samples=10 * m, width=1e6), lambda g: g.banzhaf()),
    "c-lime": (lambda m: ap.CLime(samples=10 * m), lambda g: g.banzhaf()),
    "linear-surrogate": (lambda m: ap.LinearSurrogate(samples=10 * m), lambda g: g.banzhaf()),
    "averaged-gradient": (
        lambda m: ap.AveragedGradient(samples=4 * m, start=0.0),
        lambda g: g.shapley(),
    ),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_error_falls_as_root_of_samples_and_intervals_cover(name) -> None:
    """Over 120 seeds: spread ~ samples^-1/2, 95 % intervals cover about 95 %, bias within 4
    standard errors.

    Kernel SHAP, a ratio of averages, is unbiased only in the limit, so its bias is looked at where
    it has samples.
    """
    build, truth_of = SAMPLED[name]
    game = toy.moebius(10, 4, Generator().manual_seed(1))
    truth = truth_of(game)
    rmse = {}
    exhausting = name in ("kernel-shap", "control-variate-shapley")
    for m in (8, 32) if exhausting else (16, 64):
        credits = [ap.attribute(game, build(m), seed=s) for s in range(120)]
        off = torch.stack([c.scores - truth for c in credits])
        errors = torch.stack([c.error for c in credits])
        rmse[m] = float(off.square().mean().sqrt())
        covered = float((off.abs() <= 1.96 * errors).double().mean())
        assert 0.92 <= covered <= 0.98, (m, covered)
    assert float((off.mean(0) / (off.std(0) / 120**0.5)).abs().max()) < 4
    slope = (
        torch.tensor(list(rmse.values())).log().diff()
        / torch.tensor(list(rmse)).double().log().diff()
    )
    # without replacement errors fall faster as the coalitions run out
    assert -1.1 < float(slope) < -0.4, slope


@pytest.mark.parametrize(
    "name",
    [
        "permutation-shapley",
        "kernel-shap",
        "control-variate-shapley",
        "banzhaf",
        "linear-surrogate",
        "rise",
        "averaged-gradient",
        "gradient-moment",
    ],
)
def test_until_stops_early_or_says_that_it_could_not(name) -> None:
    game = toy.moebius(9, 3, Generator().manual_seed(2))
    base = {
        "permutation-shapley": {"orders": 4000},
        "control-variate-shapley": {"samples": 4000, "proposal": ap.Proposal.LINEAR},
        "averaged-gradient": {"samples": 20_000, "start": 0.0},
        "gradient-moment": {"samples": 20_000, "start": 0.0},
    }
    make = lambda **o: TABLE[name](**{**base.get(name, {"samples": 20_000}), **o})
    loose, impossible = StandardError(0.2), StandardError(1e-7)
    stopped = ap.attribute(game, make(until=loose))
    assert float(stopped.error.max()) <= 0.2
    assert stopped.cost.within(make().cost(9)) and stopped.cost != make().cost(9)
    assert not stopped.provenance.notes
    if name in (
        "kernel-shap",
        "control-variate-shapley",
        "banzhaf",
    ):  # exhausts the 512 coalitions, which is as precise as can be asked
        assert float(ap.attribute(game, make(until=impossible)).error.max()) == 0
        return
    few = {"orders": 40} if name == "permutation-shapley" else {"samples": 60}
    ceiling = ap.attribute(game, make(until=impossible, **few))
    assert (
        "ceiling" in ceiling.provenance.notes[0] and str(impossible) in ceiling.provenance.notes[0]
    )


def test_top_k_stops_when_the_leaders_are_set_apart() -> None:
    """Right in at least 19 of 20 runs, as its level says, on a game with a clear but not trivial
    top three.
    """
    weights = torch.tensor([3.0, 2.6, 2.2, 1.0, 0.8, -0.5, 0.2, 0.1])
    noise = toy.moebius(8, 3, Generator().manual_seed(5))
    extra = toy.additive(weights)
    sets = torch.cat([noise.sets, extra.sets])
    game = toy.MoebiusGame(sets, torch.cat([0.5 * noise.coefficients, extra.coefficients], 1))
    truth = set(game.shapley().abs().topk(3).indices.tolist())
    right = 0
    for seed in range(40):
        credit = ap.attribute(game, ap.PermutationShapley(orders=4000, until=TopK(3)), seed=seed)
        right += set(credit.scores.abs().topk(3).indices.tolist()) == truth
        assert credit.cost.evaluations < 4000 * 7
    assert right >= 38
