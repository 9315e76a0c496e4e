"""`why` answers on every kind of subject, keeps to its budget, and refuses what it cannot
answer.
"""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import apportion as ap
from apportion.budget import COMPONENTS, Speed, allot, parts
from tests.small import IDS, cnn, decoder, mlp, normal, seeded, untouched

WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip


class Speller:
    """A tokenizer of number words; 0 is special."""

    all_special_ids = [0]

    def __call__(
        self, text: str, add_special_tokens: bool = True, return_tensors: str = ""
    ) -> dict:
        ids = [WORDS.index(w) for w in text.split()]
        return {"input_ids": torch.tensor([ids]) if return_tensors else ids}

    def decode(self, ids: list[int]) -> str:
        return "".join(f" {WORDS[i]}" for i in ids)


def table(budget: float = 8.0, **options: object) -> ap.Explanation:
    return ap.why(
        mlp().float(),
        normal(6, seed=1).float(),
        background=normal(20, 6, seed=2).float(),
        columns=list("abcdef"),
        budget=budget,
        **options,
    )


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal up to the batch size, which is measured and so not the same in every run."""
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_table() -> None:
    answer = table(labels=("x", "y", "z"))
    assert answer.features.players.names == tuple("abcdef")
    assert set(answer.components.players.kinds) == {"neuron"}
    assert answer.prediction.label in ("x", "y", "z")
    # six columns: all 64 coalitions are asked, and the answer is exact and adds up
    assert answer.features.error is None or not answer.features.error.any()
    assert abs(float(answer.features.gap)) < 1e-4


def test_the_features_are_the_shapley_values_of_the_stated_game() -> None:
    answer, x = table(), normal(6, seed=1).float()[None]
    value = ap.values.Margin(answer.prediction.target)
    background = normal(20, 6, seed=2).float()
    game = ap.ModelGame(
        mlp().float(), x, value, ap.players.columns(x), ap.Blend(ap.removals.rows(background))
    )
    exact = ap.attribute(game, ap.KernelShap(samples=64))
    torch.testing.assert_close(answer.features.scores, exact.scores, atol=1e-5, rtol=1e-4)


def test_picture() -> None:
    x = normal(1, 2, 8, 8, dtype=torch.float32)
    answer = ap.why(cnn(torch.float32), x, budget=6.0)
    assert answer.kind == "image"
    assert answer.components.players.n == 5  # channels of the last convolution
    assert "pixels" in answer.others


def test_text_leaves_special_tokens_to_nobody() -> None:
    model = decoder().float()
    background = " ".join(WORDS[1:] * 3)
    answer = ap.why(
        model, torch.cat([torch.tensor([[0]]), IDS], 1), tokenizer=Speller(), budget=3.0,
        background=background,
    )  # fmt: skip
    assert answer.features.players.n == IDS.shape[1]
    assert set(answer.components.players.kinds) <= {"head", "mlp"}
    assert answer.prediction.label.strip() in WORDS


def test_plain_function_has_features_and_says_why_there_are_no_components() -> None:
    def chances(rows: np.ndarray) -> np.ndarray:
        return np.stack([rows[:, 0] + 2 * rows[:, 1], 0 * rows[:, 2]], -1)

    subject = ap.Subject(chances, "function", background=normal(10, 4).float())
    answer = ap.why(subject, [1.0, 2.0, 3.0, 4.0], budget=2.0)
    assert answer.components is None
    assert any("function" in note for note in answer.left_out)
    assert answer.features["column 3"].score == pytest.approx(0.0, abs=1e-6)


def test_same_seed_same_answer() -> None:
    a, b = table(seed=3), table(seed=3)
    same(a.features.scores, b.features.scores)
    assert a.trust.verdict == b.trust.verdict


def test_every_number_in_the_answer_is_hedged_by_the_verdict() -> None:
    answer = table()
    if answer.trust.verdict == "supported":
        assert answer.answer.startswith("Chiefly")
    if answer.trust.verdict == "weak":
        assert answer.answer.startswith("If absent means")
    assert "uncalibrated" in str(answer)


def test_a_constant_model_gets_no_answer() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 4)
            self.outer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.outer(0 * self.inner(x))

    model = seeded(Constant, dtype=torch.float32)
    answer = ap.why(model, normal(6).float(), background=normal(9, 6, seed=5).float(), budget=2.0)
    assert not answer.features.scores.any()
    assert answer.trust.verdict == "not supported"
    assert answer.answer.startswith("No answer")


def test_left_out_is_said() -> None:
    assert any("training examples" in note for note in table().left_out)


def test_the_printed_code_asks_the_same_question() -> None:
    answer = table()
    subject = ap.Subject(
        mlp().float(), "table", background=normal(20, 6, seed=2).float(), columns=list("abcdef")
    )
    scope = {"subject": subject, "input": normal(6, seed=1).float()}
    exec(answer.code, scope)
    same(scope["credit"].scores, answer.features.scores)


def test_why_this_rather_than_that() -> None:
    answer = table(labels=("x", "y", "z"), target="x", against="z")
    assert "“x” rather than “z”" in answer.question
    assert "log-odds of “x” against “z”" in answer.value
    x = normal(6, seed=1).float()[None]
    logits = mlp().float()(x)[0].detach()
    torch.testing.assert_close(answer.features.full, (logits[0] - logits[2]), check_dtype=False)


def test_the_users_value_says_what_the_question_is_about() -> None:
    said = table(target=1).prediction.target
    answer = table(value=ap.values.Loss(1), budget=2.0)
    assert said == answer.prediction.target == 1
    assert answer.value.startswith("the cross-entropy loss of")
    assert repr(answer.prediction.label)[1:-1] in answer.question
    with pytest.raises(ap.BadRequest, match="give one of them"):
        table(value=ap.values.Loss(1), target=0, budget=2.0)


def test_probabilities_are_not_normalised_twice() -> None:
    """A function such as predict_proba: its own probability and its own log-odds."""

    def chances(rows: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-3 * rows[:, 0]))
        return np.stack([p, 1 - p], 1)

    subject = ap.Subject(chances, "function", background=normal(20, 6).float())
    answer = ap.why(subject, np.ones(6), budget=3.0)
    assert answer.prediction.probability == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-6)
    assert float(answer.features.full) == pytest.approx(3.0, abs=1e-4)
    # a function has no weights, so none are shuffled, and the verdict does not suffer
    assert answer.trust["shuffled weights"].passed is None


def test_the_users_input_is_never_written_to() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp().float()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.mul_(2)
            return self.inner(x)

    x, model = normal(1, 6, seed=1).float(), Doubling().eval()
    before = x.clone()
    answer = ap.why(model, x, background=normal(9, 6, seed=5).float(), budget=2.0)
    assert torch.equal(x, before)
    logits = mlp().float()(2 * x)[0].detach()
    assert answer.prediction.target == int(logits.argmax())


def test_what_pulls_a_value_down_is_named() -> None:
    """All evidence is against: the answer names who pulls most, not who pulls least."""
    model = seeded(lambda: nn.Linear(6, 1, bias=False), dtype=torch.float32)
    with torch.no_grad():
        model.weight.copy_(-torch.tensor([[8.0, 4.0, 2.0, 1.0, 0.5, -0.25]]))
    answer = ap.why(
        model, torch.ones(1, 6), background=0.3 * normal(20, 6).float(), columns=list("abcdef")
    )
    assert "hiefly a, b and c" in answer.answer


def test_few_columns_are_told_to_be_too_few() -> None:
    model = seeded(lambda: nn.Linear(3, 1, bias=False), dtype=torch.float32)
    answer = ap.why(model, torch.ones(1, 3), background=normal(20, 3).float(), budget=2.0)
    assert answer.trust.verdict == "weak"
    assert "too few" in answer.trust.reason


def test_save_and_load_keep_everything(tmp_path) -> None:
    answer = table()
    again = ap.load(answer.save(tmp_path / "why"))
    assert str(again) == str(answer)
    assert torch.equal(again.features.scores, answer.features.scores)
    curve = again.trust["insertion minus deletion"].score.curves["insertion"]
    assert torch.equal(
        curve.own, answer.trust["insertion minus deletion"].score.curves["insertion"].own
    )


def test_tampered_answers_are_refused(tmp_path) -> None:
    folder = table().save(tmp_path / "why")
    file = folder / "explanation.json"
    file.write_text(file.read_text().replace("supported", "proven", 1))
    with pytest.raises(ap.BadRequest, match="damaged"):
        ap.load(folder)


def test_nothing_saved_is_refused_with_what_to_give(tmp_path) -> None:
    with pytest.raises(ap.BadRequest, match=r"save\(\)"):
        ap.load(tmp_path)


# -- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tagret": 1}, "did you mean target"),
        ({"backgroud": None}, "did you mean background"),
        ({"target": 9}, "out of range"),
        ({"target": "horse", "labels": ("house", "tree", "cat")}, "'house'"),
        ({"target": 1, "against": 1}, "give another one"),
        ({"against": 9}, "out of range"),
        ({"against": 1, "target": 0, "value": ap.values.Logit(0)}, "give one of them"),
        ({"budget": 0}, "positive"),
        ({"budget": 1e-7}, "too short.*at least"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        table(**options)


@pytest.mark.parametrize("given", [list, np.asarray, tuple])
def test_numbers_beside_a_background_are_a_row(given) -> None:
    row = given(normal(6, seed=1).float().tolist())
    answer = ap.why(mlp().float(), row, background=normal(20, 6, seed=2).float(), budget=2.0)
    assert answer.kind == "table"
    assert answer.features.players.n == 6


def test_a_function_sees_the_numbers_as_given() -> None:
    seen = []

    def f(rows: np.ndarray) -> np.ndarray:
        seen.append(rows)
        return np.stack([rows[:, 0], -rows[:, 1]], -1)

    subject = ap.Subject(f, "function", background=normal(9, 5).float())
    ap.why(subject, [16777217.0, 0.1, 2.0, 3.0, 4.0], budget=2.0)
    assert {rows.dtype for rows in seen} == {np.dtype("float64")}
    assert seen[0][0, :2].tolist() == [16777217.0, 0.1]


def test_an_empty_background_text_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="zero embedding"):
        ap.Subject(decoder(), "text", tokenizer=Speller(), background=" ")


def test_a_table_without_background_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="background="):
        ap.why(mlp().float(), normal(6).float())


def test_not_finite_rows_are_refused() -> None:
    x = normal(6).float()
    x[2] = float("nan")
    with pytest.raises(ap.BadRequest, match=r"NaN|finite"):
        ap.why(mlp().float(), x, background=normal(9, 6, seed=5).float())


def test_training_mode_with_dropout_is_refused() -> None:
    layers = (lambda: nn.Linear(6, 8), lambda: nn.Dropout(0.5), lambda: nn.Linear(8, 3))
    model = seeded(lambda: nn.Sequential(*(make() for make in layers)), dtype=torch.float32).train()
    with pytest.raises(ap.BadRequest, match="eval"):
        ap.why(model, normal(6).float(), background=normal(9, 6, seed=5).float())


def test_an_input_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="kind="):
        ap.why(mlp().float(), torch.tensor([[1, 2, 3]]))


def test_interruption_leaves_the_model_whole_and_gives_no_answer() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.left = mlp().float(), 30

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return self.inner(x)

    model = Interrupted().eval()
    with untouched(model.inner), pytest.raises(KeyboardInterrupt):
        ap.why(model, normal(6).float(), background=normal(9, 6, seed=5).float(), budget=3.0)


def paced(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every coalition seems to take so long: plans depend on measured speed alone."""
    module = sys.modules["apportion.why"]
    monkeypatch.setattr(module, "measured", lambda game, gradient=False: Speed(seconds, seconds))


@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 4e-3])
def test_what_is_asked_fits_the_budget(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    paced(monkeypatch, seconds)
    x = normal(1, 2, 8, 8, dtype=torch.float32)
    answer = ap.why(cnn(torch.float32), x, budget=8.0)

    def taken(credit: ap.Attribution, trust: ap.Trust) -> float:
        costs = [credit.cost, *(c.score.cost for c in trust.checks if c.score)]
        costs += [c.other.cost for c in trust.checks if c.other]
        return sum(cost.evaluations + cost.gradients for cost in costs) * seconds

    assert taken(answer.components, answer.component_trust) <= COMPONENTS * 8.0
    assert taken(answer.features, answer.trust) <= 8.0
    if answer.features.players.n > 9:  # coarser questions are asked before checks are left out
        assert all(check.score is not None for check in answer.trust.checks)


def test_what_there_is_goes_to_all_parts_within_their_bounds() -> None:
    for players in (2, 5, 14, 49, 300):
        for dear in (1, 8):
            wanted = parts(players, dear)
            least = sum(b.fewest for b in wanted.values())
            for rows in (0, least // 3, least - 1, least, least + 1, 3 * least, 10**7):
                granted = allot(rows, wanted)
                assert sum(granted.values()) <= rows
                assert list(granted) == list(wanted)[: len(granted)]  # the last go first
                assert (len(granted) == len(wanted)) == (rows >= least)
                assert all(wanted[k].fewest <= v <= wanted[k].most for k, v in granted.items())
            assert allot(10**9, wanted) == {k: b.most for k, b in wanted.items()}


def test_slower_models_get_coarser_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    x, players = normal(1, 2, 8, 8, dtype=torch.float32), []
    for seconds in (1e-4, 4e-3, 1.2e-2):
        paced(monkeypatch, seconds)
        players.append(ap.why(cnn(torch.float32), x, budget=4.0).features.players.n)
    assert players[0] > players[1] > players[2]


def test_checks_without_room_are_named_and_lower_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paced(monkeypatch, 1.2e-2)
    answer = ap.why(cnn(torch.float32), normal(1, 2, 8, 8, dtype=torch.float32), budget=4.0)
    assert any("no room" in note for note in answer.left_out)
    assert answer.trust.verdict != "supported"


def test_prediction_lists_the_likely_labels() -> None:
    answer = table(labels=("x", "y", "z"))
    total = answer.prediction.probability + sum(p for _, p in answer.prediction.others)
    assert total == pytest.approx(1.0)
    assert re.search(r"probability \d\.\d\d", answer.question)
