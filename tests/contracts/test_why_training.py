"""`why` with a recorded training: a third axis whose statements are refits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import apportion as ap
from apportion import examples
from apportion.examples import COUNTS, _ends
from apportion.training import Queries, Rows, reading, train
from tests.oracles.trained import INPUTS, classes
from tests.small import close, normal


def told(n: int = 120) -> ap.training.TrainingRun:
    """A row-classifier in float32 with a few rows that carry a class of their own."""
    x = normal(n, INPUTS, seed=20).float()
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, 3))

    recipe = replace(classes(), build=build, rows=Rows(x, y), epochs=10, batch=30)
    return train(recipe, seed=1)


@pytest.fixture(scope="module")
def run() -> ap.training.TrainingRun:
    return told()


@pytest.fixture(scope="module")
def answer(run) -> ap.Explanation:
    row = normal(1, INPUTS, seed=21).float()
    background = run.recipe.rows.input[:20]
    return ap.why(run.model(), row, background=background, train=run, budget=240.0)


def test_every_row_has_credit_in_units_of_the_value(answer, run) -> None:
    assert answer.examples.players.n == run.recipe.rows.n
    assert answer.examples.provenance.game.unit == "nats"
    assert not any(note.startswith("training examples") for note in answer.left_out)


def test_statements_are_refits_that_anyone_can_repeat(answer, run) -> None:
    """Trained here once more, one after the other, without the rows that the statement names."""
    helpful = next(r for r in answer.refitted if r.kind == "helpful")
    rows = [answer.examples.players.names.index(name) for name in helpful.rows]
    assert rows == _ends(answer.examples, len(rows))[0]
    row = normal(1, INPUTS, seed=21).float()
    target = answer.prediction.target
    queries = Queries(row, None, reading(ap.values.Margin(target)))
    game = ap.RefitGame(run, queries, seeds=tuple(range(1, 1 + helpful.seeds)))
    gates = torch.ones(2, run.recipe.rows.n, dtype=torch.bool)
    gates[1, rows] = False
    values = ap.averaged(game).value(gates).double()
    assert helpful.measured == pytest.approx(float(values[1] - values[0]), abs=1e-3)
    assert helpful.predicted == pytest.approx(-float(answer.examples.scores[rows].sum()), abs=1e-5)


def test_the_verdict_rests_on_refits(answer) -> None:
    check = answer.example_trust[COUNTS]
    assert check.role == "decides"
    assert answer.example_trust.verdict == "supported"
    assert answer.example_trust["another training"].score.outside


def test_it_is_written_drawn_and_kept(answer, tmp_path) -> None:
    assert "Trained without the" in str(answer)
    page = answer.report(tmp_path / "why.html").read_text("utf-8")
    assert "Trained without" in page and "Foretold" in page
    answer.save(tmp_path / "saved")
    again = ap.load(tmp_path / "saved")
    close(again.examples.scores, answer.examples.scores)
    assert again.refitted == answer.refitted


def ask(run: ap.training.TrainingRun, budget: float) -> ap.Explanation:
    row = normal(1, INPUTS, seed=21).float()
    background = run.recipe.rows.input[:20]
    return ap.why(run.model(), row, background=background, train=run, budget=budget)


def test_without_time_for_refits_the_answer_says_that_nothing_confirms_it(run, monkeypatch) -> None:
    monkeypatch.setattr(examples, "MOST_OVER", {True: 0.0, False: 0.0})
    answer = ask(run, 30.0)
    assert answer.example_trust.verdict == "weak"
    assert "Not confirmed" in answer.example_trust.reason
    assert not answer.refitted


def test_a_budget_too_short_for_training_rows_says_how_much_they_want(run) -> None:
    answer = ask(replace(run, seconds=1e3), 20.0)
    assert answer.examples is None
    assert any("give 5.5e+03 s" in note for note in answer.left_out)


def test_the_run_of_another_model_is_refused(run) -> None:
    other = train(run.recipe, seed=2)
    row = normal(1, INPUTS, seed=21).float()
    with pytest.raises(ap.BadRequest, match="another model"):
        ap.why(other.model(), row, background=run.recipe.rows.input[:20], train=run, budget=20.0)


@pytest.mark.parametrize("wrong", ["run.json", [], [1]])
def test_what_is_no_run_is_refused(run, wrong) -> None:
    row = normal(1, INPUTS, seed=21).float()
    with pytest.raises((ap.BadRequest, TypeError)):
        ap.why(run.model(), row, background=run.recipe.rows.input[:20], train=wrong, budget=20.0)
