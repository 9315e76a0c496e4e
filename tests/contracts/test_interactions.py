"""Every row of the table of interactions keeps its promises, and promises nothing it need not."""

from __future__ import annotations

import dataclasses
from itertools import product
from math import comb

import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.estimators import INTERACTIONS
from apportion.estimators._moments import StandardError, TopK
from apportion.games import Ledger, counted, toy
from apportion.players import same
from apportion.spec import parse, spell
from apportion.types import Axiom
from tests.contracts.settings import SMALL_SETS
from tests.contracts.test_estimators import game_of, with_dummy_and_twins
from tests.small import close, cnn, mlp, normal, table_game, untouched

ROWS = [pytest.param(SMALL_SETS[name], id=name) for name in INTERACTIONS]
SAMPLED = [
    pytest.param(e, id=name) for name, e in SMALL_SETS.items() if name != "second-difference"
]
DETERMINISTIC = (ap.SecondDifference,)


def test_every_row_has_a_small_setting_that_samples() -> None:
    assert SMALL_SETS.keys() == INTERACTIONS.keys()
    for estimator in SMALL_SETS.values():
        sampled = not isinstance(estimator, DETERMINISTIC)
        assert not sampled or estimator.cost(7).evaluations < 2**7


def terms(game: toy.MoebiusGame, found: ap.Interactions) -> torch.Tensor:
    """The coefficient of each scored set."""
    lookup = {tuple(row.tolist()): k for k, row in enumerate(game.sets)}
    return game.mean[[lookup[tuple(row.tolist())] for row in found.sets]]


def exhaustive(estimator):
    """The same index from all coalitions."""
    if isinstance(estimator, DETERMINISTIC):
        return estimator
    return dataclasses.replace(estimator, samples=2**13)


@pytest.mark.parametrize("estimator", ROWS)
def test_sets_are_all_of_the_sizes_asked_for_once(estimator) -> None:
    found = ap.attribute(game_of(2), estimator)
    assert len({tuple(row.tolist()) for row in found.sets}) == len(found.sets)
    sizes = found.sets.sum(-1)
    for size in sizes.unique().tolist():
        assert int((sizes == size).sum()) == comb(7, size)
    assert found.order == int(sizes.max()) == 2
    assert found.scores.shape == (len(found.sets),)


@pytest.mark.parametrize("estimator", ROWS)
def test_additive_game_is_exact_if_claimed(estimator) -> None:
    weights = normal(7, seed=3)
    found = ap.attribute(toy.additive(weights, base=0.7), estimator)
    size = found.sets.sum(-1)
    truth = torch.where(size == 1, found.sets.double() @ weights, 0.0)
    worst = float((found.scores - truth).abs().max())
    assert (worst < 1e-9) == (Axiom.ADDITIVE in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_terms_up_to_the_order_are_recovered_if_claimed(estimator) -> None:
    game = game_of(2)
    found = ap.attribute(game, estimator)
    worst = float((found.scores - terms(game, found)).abs().max())
    assert (worst < 1e-9) == (Axiom.RECOVERY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_sets_that_hold_a_dummy_score_zero_if_claimed(estimator) -> None:
    worst = 0.0
    for seed in range(4):
        found = ap.attribute(with_dummy_and_twins(seed), estimator)
        worst = max(worst, float(found.scores[found.sets[:, 0]].abs().max()))
    assert (worst < 1e-9) == (Axiom.DUMMY in estimator.axioms)


def twins_differ(found: ap.Interactions) -> float:
    """By how much exchanging players 1 and 2 changes the scores."""
    mirror = found.sets[:, [0, 2, 1, *range(3, found.players.n)]]
    lookup = {tuple(row.tolist()): k for k, row in enumerate(found.sets)}
    swapped = found.scores[[lookup[tuple(row.tolist())] for row in mirror]]
    return float((swapped - found.scores).abs().max())


@pytest.mark.parametrize("estimator", ROWS)
def test_sets_of_twins_score_the_same_if_claimed(estimator) -> None:
    worst = max(twins_differ(ap.attribute(with_dummy_and_twins(s), estimator)) for s in range(4))
    assert (worst < 1e-9) == (Axiom.SYMMETRY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_from_all_coalitions_twins_are_alike_and_nothing_is_random(estimator) -> None:
    game = with_dummy_and_twins(0)
    one, two = (ap.attribute(game, exhaustive(estimator), seed=s) for s in (1, 2))
    assert twins_differ(one) < 1e-9
    assert torch.equal(one.scores, two.scores)
    assert one.error is None and "exact" in one.provenance.error_note


@pytest.mark.parametrize("estimator", ROWS)
def test_scores_add_up_if_claimed(estimator) -> None:
    worst = 0.0
    for asked, seed in product((estimator, exhaustive(estimator)), range(3)):
        game = game_of(4, seed)
        none, full = game.value(torch.tensor([[False] * 7, [True] * 7]))
        found = ap.attribute(game, asked)
        worst = max(worst, float((found.sum() - (full - none)).abs()))
        assert (found.gap is None) == (Axiom.EFFICIENCY not in estimator.axioms)
        if found.gap is not None:
            assert float(found.gap.abs()) < 1e-9
    assert (worst < 1e-9) == (Axiom.EFFICIENCY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
def test_linear_in_the_game(estimator) -> None:
    v, w = game_of(3, 1), game_of(3, 2)
    both = toy.MoebiusGame(v.sets, 2.0 * v.coefficients - 0.5 * w.coefficients)
    one, two, mix = (ap.attribute(g, estimator, seed=5).scores for g in (v, w, both))
    kept = torch.allclose(mix, 2.0 * one - 0.5 * two, rtol=1e-9, atol=1e-9)
    assert kept == (Axiom.LINEARITY in estimator.axioms)


@pytest.mark.parametrize("estimator", ROWS)
@pytest.mark.parametrize("n", [2, 3, 7])
def test_asks_no_more_than_it_says(estimator, n) -> None:
    for asked in (estimator, exhaustive(estimator)):
        ledger, game = Ledger(), game_of(2, players=n)
        asked(counted(game, ledger), Generator().manual_seed(0))
        bound = asked.cost(n)
        assert ledger.spent.within(bound)
        # blocks may arrive in fewer steps than there are players
        if not isinstance(asked, ap.JointShapley) or 2**n <= asked.samples:
            assert ledger.spent == bound
        assert ap.attribute(game, asked).cost == ledger.spent


@pytest.mark.parametrize("estimator", ROWS)
def test_same_seed_same_bits_and_other_seed_other_bits(estimator) -> None:
    game = game_of(4)
    a, b, c = (ap.attribute(game, estimator, seed=s).scores for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert torch.equal(a, c) == isinstance(estimator, DETERMINISTIC)


@pytest.mark.parametrize("estimator", ROWS)
def test_chunk_size_does_not_change_the_answer(estimator) -> None:
    one, five, many = (
        ap.attribute(table_game(), estimator, chunk=rows).scores for rows in (1, 5, 1000)
    )
    close(one, five, atol=1e-12)
    close(one, many, atol=1e-12)


@pytest.mark.parametrize("estimator", ROWS)
def test_several_outputs_are_stacked_single_runs(estimator) -> None:
    game = game_of(3, out=(2, 3))
    for asked in (estimator, exhaustive(estimator)):
        together = ap.attribute(game, asked)
        for i, j in product(range(2), range(3)):
            single = ap.attribute(ap.picked(game, i, j), asked)
            close(together.scores[i, j], single.scores, atol=1e-12)
            close(together.pick(i, j).scores, single.scores, atol=1e-12)
            if single.error is not None:
                close(together.error[i, j], single.error, atol=1e-12)
            if single.full is not None:
                close(together.full[i, j], single.full, atol=0)


@pytest.mark.parametrize("estimator", ROWS)
def test_float32_model_agrees_with_float64(estimator) -> None:
    wide, narrow = mlp(), mlp().float()
    x = normal(1, 6, seed=1)
    zeros = ap.Blend(ap.removals.zeros())
    scores = [
        ap.attribute(
            ap.ModelGame(m, v, ap.values.Logit(1), ap.players.columns(v), zeros), estimator
        ).scores
        for m, v in ((wide, x), (narrow, x.float()))
    ]
    close(scores[0], scores[1], atol=2e-5)


@pytest.mark.parametrize("estimator", ROWS)
def test_model_is_untouched(estimator) -> None:
    model, x = cnn(), normal(1, 2, 8, 8, seed=4)
    game = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.patches(x, 4), ap.Blend(ap.removals.zeros())
    )
    with untouched(model):
        ap.attribute(game, estimator)


@pytest.mark.parametrize("estimator", ROWS)
def test_games_of_bools_alone_are_answered(estimator) -> None:
    assert estimator.needs == "hard"
    game = toy.additive(normal(5), domain="binary")
    assert ap.attribute(game, estimator).scores.isfinite().all()


@pytest.mark.parametrize("estimator", ROWS)
def test_spelling_round_trip(estimator) -> None:
    assert parse(spell(estimator)) == estimator
    assert parse(spell(type(estimator)())) == type(estimator)()
    if "until" in {f.name for f in dataclasses.fields(estimator)}:
        for rule in (StandardError(0.25), TopK(3)):
            changed = dataclasses.replace(estimator, until=rule)
            assert parse(spell(changed)) == changed


def test_a_place_is_spelt() -> None:
    alone = ap.SecondDifference(among=ap.Among.NONE)
    assert spell(alone) == "second-difference:among=nobody"
    assert parse("second-difference:among=nobody") == alone


@pytest.mark.parametrize("estimator", ROWS)
def test_error_or_the_reason_why_there_is_none(estimator) -> None:
    found = ap.attribute(game_of(3), estimator)
    assert (found.error is None) == bool(found.provenance.error_note)


@pytest.mark.parametrize("estimator", ROWS)
def test_what_is_saved_is_what_is_loaded(estimator, tmp_path) -> None:
    for name, game in {"one": game_of(3), "several": game_of(3, out=(2,))}.items():
        found = ap.attribute(game, estimator, seed=3)
        back = ap.load(found.save(tmp_path / name))
        assert isinstance(back, ap.Interactions)
        for field in ("scores", "sets", "none", "full", "error"):
            ours, theirs = getattr(found, field), getattr(back, field)
            assert (ours is None and theirs is None) or torch.equal(ours, theirs), field
        assert same(found.players, back.players)
        assert (found.cost, found.provenance, found.freedom) == (
            back.cost, back.provenance, back.freedom,
        )  # fmt: skip
        assert str(found) == str(back)


@pytest.mark.parametrize("estimator", ROWS)
def test_provenance_is_enough_to_ask_again(estimator) -> None:
    about = ap.attribute(game_of(2), estimator, seed=3).provenance
    assert (about.estimator, about.seed) == (repr(estimator), 3)
    assert set(estimator.cites) <= set(about.cites)


@pytest.mark.parametrize("estimator", ROWS)
def test_orders_beyond_the_players_are_refused(estimator) -> None:
    single = toy.additive(torch.tensor([2.5]))
    with pytest.raises(ap.BadRequest, match=r"order=1|LeaveOneOut"):
        ap.attribute(single, estimator)
    if not isinstance(estimator, DETERMINISTIC):
        alone = ap.attribute(single, dataclasses.replace(estimator, order=1))
        close(alone.scores, torch.tensor([2.5]))


@pytest.mark.parametrize("estimator", SAMPLED)
def test_options_that_cannot_work_are_refused_with_a_remedy(estimator) -> None:
    cls, name = type(estimator), type(estimator).__name__
    with pytest.raises(ap.BadRequest, match=rf"{name}.*at least one player"):
        cls(order=0)
    with pytest.raises(ap.BadRequest, match=r"would score .* lower order.*merge"):
        cls(order=6).cost(60)
    with pytest.raises(ap.BadRequest, match=r"samples=12.*(minimum is|at least) \d+"):
        cls(samples=12).cost(8)
    with pytest.raises(TypeError):
        cls(sampels=3)
    with pytest.raises(ap.BadRequest, match="has no option 'sampels'"):
        parse(f"{spell(estimator).partition(':')[0]}:sampels=3")


FITTED = [p for p in SAMPLED if not isinstance(p.values[0], ap.JointShapley)]


@pytest.mark.parametrize("estimator", FITTED)
def test_too_many_sets_to_fit_and_too_many_players_name_the_limit(estimator) -> None:
    with pytest.raises(ap.BadRequest, match=r"4,950|5,050.*at most 2,500.*merge"):
        dataclasses.replace(estimator, samples=2**15).cost(100)
    with pytest.raises(ap.BadRequest, match=r"at most 200 players.*SecondDifference"):
        estimator.cost(201)


@pytest.mark.parametrize("estimator", FITTED)
def test_the_least_number_of_samples_is_answered_or_says_what_is_missing(estimator) -> None:
    """Any coalitions of the least number may by chance not determine the fit; then it says so."""
    game = game_of(4)
    for seed in range(5):
        try:
            few = ap.attribute(game, dataclasses.replace(estimator, samples=44), seed=seed)
        except ap.BadRequest as refused:
            assert "cannot tell 28 sets apart" in str(refused)
        else:
            assert few.scores.isfinite().all()
            assert few.error is None or few.error.isfinite().all()


def tabled(game: toy.MoebiusGame) -> ap.FunctionGame:
    """The same values, looked up."""
    n = game.players.n
    code = 2 ** torch.arange(n)
    present = (torch.arange(2**n)[:, None] & code) > 0
    worth = torch.cat([game.value(part) for part in present.split(512)])
    return ap.FunctionGame(lambda gates: worth[gates.long() @ code], n)


@pytest.mark.parametrize("estimator", SAMPLED)
def test_error_falls_as_samples_grow_and_intervals_cover(estimator) -> None:
    """Over 60 seeds: 95 % intervals cover about 95 %, bias within 4 standard errors, and the
    spread falls at least as the root of samples. Joint Shapley counts how often a set
    arrives, which is seldom: its intervals are looked at where there are some hundred arrivals.
    """
    joint = isinstance(estimator, ap.JointShapley)
    game = tabled(toy.moebius(13 if joint else 9, 4, Generator().manual_seed(1)))
    truth = ap.attribute(game, exhaustive(estimator)).scores
    rmse = []
    counts = (4000, 8000) if joint else (150, 400)
    for samples in counts:
        asked = dataclasses.replace(estimator, samples=samples)
        runs = [ap.attribute(game, asked, seed=s) for s in range(60)]
        off = torch.stack([r.scores - truth for r in runs])
        errors = torch.stack([r.error for r in runs])
        rmse.append(float(off.square().mean().sqrt()))
        covered = float((off.abs() <= runs[0].reach * errors).double().mean())
        assert 0.92 <= covered <= 0.99, (samples, covered)
    exact = off.abs().amax(0) < 1e-9  # small sets of Shapley-Taylor are asked one by one
    standard = off.mean(0) / (off.std(0) / 60**0.5)
    assert float(standard[~exact].abs().max()) < 4.5
    assert rmse[1] < rmse[0] * (counts[0] / counts[1]) ** 0.5 * 1.15


@pytest.mark.parametrize("estimator", SAMPLED)
def test_until_stops_early_or_says_that_it_could_not(estimator) -> None:
    game = toy.moebius(9, 3, Generator().manual_seed(2))
    at_most = 0.5 if isinstance(estimator, ap.JointShapley) else 0.2
    loose, impossible = StandardError(at_most), StandardError(1e-7)
    cap = 500
    stopped = ap.attribute(game, dataclasses.replace(estimator, samples=cap, until=loose))
    assert float(stopped.error.max()) <= at_most
    assert stopped.cost.evaluations < cap - 20
    assert not any("ceiling" in note for note in stopped.provenance.notes)
    ceiling = ap.attribute(game, dataclasses.replace(estimator, samples=200, until=impossible))
    note = ceiling.provenance.notes[0]
    assert "ceiling" in note and str(impossible) in note
