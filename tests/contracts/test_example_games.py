"""Games of training rows: what a coalition is worth is what training on it gives."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward.response import TABLE, GradDot, Influence, TracIn, Unrolled
from apportion.training import Rows, train
from apportion.training.refit import BlackBox
from tests.oracles.trained import asked, classes, trained
from tests.small import close

ESTIMATORS = [
    ap.LeaveOneOut(),
    ap.PermutationShapley(orders=4),
    ap.KernelShap(samples=40),
    ap.LinearSurrogate(samples=40),
    ap.LinearSurrogate(samples=12, l2=0.1),
]


def grouped(**changed: object) -> ap.RefitGame:
    """Eight groups of three rows; half of them is a small training."""
    groups = [str(i // 3) for i in range(24)]
    players = ap.players.training_rows(24, groups=groups)
    return ap.RefitGame(trained(), asked(1), players, **changed)


def some(n: int) -> torch.Tensor:
    gates = torch.ones(3, n, dtype=torch.bool)
    gates[0, :3] = False
    gates[1, ::2] = False
    return gates


def test_left_out_is_training_on_the_rest() -> None:
    """The same numbers as a training whose data never held the rows."""
    run, queries = trained(), asked()
    game = ap.RefitGame(run, queries, seeds=(7,))
    for gate, value in zip(some(24), game.value(some(24)), strict=True):
        rows = Rows(*run.recipe.rows.take(gate.nonzero().flatten()))
        alone = train(replace(run.recipe, rows=rows), seed=7).model()
        close(value, queries.measure(alone(queries.input), queries.labels).detach(), atol=1e-6)


def test_reweighted_is_the_same_training_with_weighted_losses() -> None:
    run, queries = trained(), asked()
    game = ap.RefitGame(run, queries, seeds=(run.seed,), semantics="reweighted")
    gates = torch.rand(3, 24, generator=torch.Generator().manual_seed(0)) * 2
    for gate, value in zip(gates, game.value(gates), strict=True):
        params = run.replay(gate)
        own = queries.measure(run.net(params, queries.input), queries.labels)
        close(value, own, atol=1e-6)


def test_a_group_is_all_its_rows() -> None:
    whole, each = grouped(), ap.RefitGame(trained(), asked(1))
    gates = some(8)
    draws = torch.zeros(3, dtype=torch.long)
    close(whole.value(gates, draws), each.value(gates.repeat_interleave(3, 1), draws))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimators_ask_it_as_any_other_game(estimator) -> None:
    """Additive in expectation or not, Shapley values add up to the change from none to all."""
    game = grouped()
    credit = ap.attribute(game, estimator)
    assert credit.scores.shape == (8,)
    if credit.gap is not None:
        close(credit.gap, torch.zeros((), dtype=torch.float64), atol=1e-5)
    assert "left out" in credit.provenance.game.removal
    assert credit.cost.evaluations > 0


def test_each_training_is_run_once_and_queries_share_them() -> None:
    game = grouped()
    ap.attribute(game, ap.LeaveOneOut())
    count = len(game.refits.known)
    assert count == 9 * 2  # all, and all but one, by two seeds
    ap.attribute(game, ap.LeaveOneOut())
    assert len(game.refits.known) == count


def test_no_row_at_all_is_the_untrained_model() -> None:
    game, queries = grouped(seeds=(5,)), asked(1)
    start = game.run.recipe.begin(5)
    untrained = queries.measure(game.run.net(start, queries.input), queries.labels)
    close(game.value(torch.zeros(1, 8, dtype=torch.bool)), untrained.detach())


def test_prices_count_fits() -> None:
    game = grouped()
    assert game.price == ap.Work(0, 0, 1)
    assert ap.averaged(game).price == ap.Work(0, 0, 2)


def test_an_implicit_game_of_the_metagradient_is_the_slope_of_the_refit_game() -> None:
    run, queries = trained(), asked()
    game = ap.RefitGame(run, queries, seeds=(run.seed,), semantics="reweighted")
    credit = ap.attribute(ap.ImplicitGame(game, Unrolled()), ap.Gradient())
    step = 1e-3
    for i in (0, 9):
        up, down = torch.ones(2, 1, 24, dtype=torch.float64)
        up[0, i] += step
        down[0, i] -= step
        slope = (game.value(up) - game.value(down))[0].double() / (2 * step)
        close(credit.scores[:, i], slope, rtol=1e-2, atol=1e-3)  # refits run in float32 weights


@pytest.mark.parametrize("name", list(TABLE))
def test_every_response_credits_every_row_and_leaves_the_run_as_it_was(name) -> None:
    run, queries = trained(), asked()
    before = {k: p.clone() for k, p in run.final.items()}
    game = ap.ImplicitGame(ap.RefitGame(run, queries), TABLE[name]())
    credit = ap.attribute(game, ap.Gradient())
    assert credit.scores.shape == (3, 24)
    assert all(torch.equal(before[k], p) for k, p in run.final.items())
    assert set(TABLE[name]().cites) <= set(credit.provenance.cites)
    assert credit.provenance.exact == TABLE[name].exact


def test_the_credit_of_a_group_is_the_sum_over_its_rows() -> None:
    run, queries = trained(), asked()
    alone = ap.attribute(ap.ImplicitGame(ap.RefitGame(run, queries), Influence()), ap.Gradient())
    players = ap.players.training_rows(24, groups=run.recipe.rows.label)
    game = ap.ImplicitGame(ap.RefitGame(run, queries, players), Influence())
    together = ap.attribute(game, ap.Gradient())
    for k, label in enumerate(dict.fromkeys(run.recipe.rows.label.tolist())):
        own = run.recipe.rows.label == label
        close(together.scores[:, k], alone.scores[:, own].sum(-1), atol=1e-12)


def test_values_at_ones_are_those_of_the_recorded_model() -> None:
    run, queries = trained(), asked()
    credit = ap.attribute(ap.ImplicitGame(ap.RefitGame(run, queries), GradDot()), ap.Gradient())
    model = run.model()
    close(credit.full, queries.measure(model(queries.input), queries.labels).detach())


def test_a_derivative_is_known_at_ones_alone() -> None:
    game = ap.ImplicitGame(ap.RefitGame(trained(), asked()), TracIn())
    with pytest.raises(ap.BadRequest, match="weights 1 only"):
        ap.attribute(game, ap.Gradient(at=0.5))


def test_a_black_box_is_asked_like_a_recipe() -> None:
    run = trained()

    def fit(weights: torch.Tensor, seed: int) -> nn.Module:
        rows = Rows(*run.recipe.rows.take((weights > 0).nonzero().flatten()))
        return train(replace(run.recipe, rows=rows), seed=seed).model()

    box = ap.RefitGame(BlackBox(fit, 24, "mine"), asked(), seeds=(3,))
    own = ap.RefitGame(run, asked(), seeds=(3,))
    close(box.value(some(24)), own.value(some(24)), atol=1e-6)
    with pytest.raises(ap.BadRequest, match=r"keep=0\.5"):
        box.value(torch.zeros(1, 24, dtype=torch.bool))


def test_a_seed_of_its_own_depends_on_who_is_present_alone() -> None:
    game = ap.RefitGame(trained(), asked(), seeds=None)
    a, b = game.value(some(24)), game.value(some(24).flip(0)).flip(0)
    close(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seeds": (1, 1)}, "each training seed only once"),
        ({"players": ap.players.plain(24)}, "training_rows"),
        ({"players": ap.players.training_rows(23)}, "training_rows"),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(wrong, says) -> None:
    with pytest.raises(ap.BadRequest, match=says):
        ap.RefitGame(trained(), asked(), **wrong)


def test_negative_weights_and_wrong_groups_are_refused() -> None:
    game = ap.RefitGame(trained(), asked(), seeds=(0,))
    with pytest.raises(ap.BadRequest, match="between 0"):
        game.value(torch.full((1, 24), -1.0))
    with pytest.raises(ap.BadRequest, match="there are 24"):
        ap.players.training_rows(24, groups=["a"] * 23)


def test_runs_of_different_rows_are_not_mixed() -> None:
    other = trained(rows=Rows(asked(24).input, classes().rows.label))
    with pytest.raises(ap.BadRequest, match="different rows"):
        ap.ImplicitGame(ap.RefitGame(trained(), asked()), Influence(), (trained(), other))


def test_curves_of_removal_retrain_at_every_point() -> None:
    """The curve's ends and middle are trainings on the rows that are left."""
    game = grouped(seeds=(4,))
    credit = ap.attribute(game, ap.LeaveOneOut())
    score = ap.evaluate.deletion(credit, game, random=19)
    (curve,) = score.curves.values()
    order = credit.scores.argsort(descending=True)
    for count, value in zip(curve.counts.tolist(), curve.own.tolist(), strict=True):
        gates = torch.ones(1, 8, dtype=torch.bool)
        gates[0, order[:count]] = False
        assert value == pytest.approx(float(game.value(gates)[0]), abs=1e-6)


def test_the_price_is_said_with_its_hours_before_the_first_training(monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys.modules["apportion.attribute"], "say", said.append)
    game = grouped()
    slow = replace(game, run=replace(game.run, seconds=600.0), seeds=(0, 1))
    ap.attribute(ap.averaged(slow), ap.LeaveOneOut())
    (line,) = said
    assert line.startswith("LeaveOneOut: up to 18 trainings, 3.0 hours one after the other")
