"""Every value equals its definition by another route, and declares what it reads."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, logsumexp, softmax

import apportion as ap
from apportion.values import TABLE, Value
from tests.contracts.made import X, asking, some
from tests.contracts.words import Bytes
from tests.small import IDS, central_difference, close, decoder, mlp, normal

LOGITS = 3 * normal(4, 5, seed=2)  # (batch, class)
MANY = 3 * normal(4, 6, 5, seed=3)  # (batch, position, token)
T, FOIL = 2, 4


def continued(tokens: tuple[int, ...], logits: np.ndarray) -> np.ndarray:
    start = logits.shape[1] - len(tokens) - 1
    steps = [log_softmax(logits[:, start + k], -1)[:, t] for k, t in enumerate(tokens)]
    return np.sum(steps, 0)


# a value, and its definition in numpy on logits of shape (batch, class)
ROWS = {
    "logit": (ap.values.Logit(T), lambda f: f[:, T]),
    "probability": (ap.values.Probability(T), lambda f: softmax(f, -1)[:, T]),
    "log-probability": (ap.values.LogProbability(T), lambda f: log_softmax(f, -1)[:, T]),
    "margin": (
        ap.values.Margin(T),
        lambda f: np.log(softmax(f, -1)[:, T] / (1 - softmax(f, -1)[:, T])),
    ),
    "loss": (ap.values.Loss(T), lambda f: -np.log(softmax(f, -1)[:, T])),
    "contrast": (
        ap.values.Contrast(T, FOIL),
        lambda f: np.log(softmax(f, -1)[:, T] / softmax(f, -1)[:, FOIL]),
    ),
    "continuation": (ap.values.Continuation((T, 0)), None),
}
WHOLE = {"divergence", "similarity", "dense-sum", "box-score", "several", "embedding"}
EACH = pytest.mark.parametrize("name", list(ROWS))
SINGLE = [name for name in ROWS if name != "continuation"]
CLASSES = pytest.mark.parametrize("name", SINGLE)


def test_every_row_has_a_definition() -> None:
    assert ROWS.keys() == TABLE.keys() - WHOLE
    assert all(isinstance(ROWS[name][0], TABLE[name]) for name in ROWS)


def by_definition(name: str, logits: torch.Tensor) -> torch.Tensor:
    if name == "continuation":
        return torch.from_numpy(continued((T, 0), logits.numpy()))
    return torch.from_numpy(ROWS[name][1](logits.numpy()))


@EACH
def test_equals_its_definition(name) -> None:
    logits = MANY if name == "continuation" else LOGITS
    close(ROWS[name][0](logits), by_definition(name, logits), atol=1e-10)


@EACH
def test_declares_unit_and_name(name) -> None:
    value = ROWS[name][0]
    assert isinstance(value, Value)
    assert isinstance(value.unit, str) and value.unit
    assert type(value).__name__ in repr(value) and str(T) in repr(value)
    assert value == type(value)(**vars(value)) and hash(value) == hash(type(value)(**vars(value)))


@EACH
def test_is_called_linear_exactly_where_scaling_the_logits_scales_it(name) -> None:
    value = ROWS[name][0]
    logits = MANY if name == "continuation" else LOGITS
    scales = torch.allclose(value(1.7 * logits), 1.7 * value(logits), atol=1e-9)
    shift = logits + 0.3 * logits.flip(0)
    adds = torch.allclose(value(shift), value(logits) + 0.3 * value(logits.flip(0)), atol=1e-9)
    assert value.linear == scales == adds


@EACH
@pytest.mark.parametrize("wrap", [dict, OrderedDict, SimpleNamespace], ids=lambda w: w.__name__)
def test_an_output_with_logits_is_read_at_its_last_positions(name, wrap) -> None:
    """As transformers give them: a mapping; also a plain object with that attribute."""
    value = ROWS[name][0]
    expected = by_definition(name, MANY if name == "continuation" else MANY[:, -1])
    close(value(wrap(loss=None, logits=MANY)), expected, atol=1e-10)
    close(value(wrap(logits=MANY[:, -value.last :])), expected, atol=1e-10)  # it reads no others
    if name in SINGLE:
        close(value(wrap(logits=LOGITS)), by_definition(name, LOGITS), atol=1e-10)
        close(value((LOGITS,)), by_definition(name, LOGITS), atol=1e-10)


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_is_computed_in_float32_or_wider(name, dtype) -> None:
    logits = (MANY if name == "continuation" else LOGITS).to(dtype)
    values = ROWS[name][0](logits)
    assert values.dtype == torch.promote_types(dtype, torch.float32)
    # nothing is lost after the logits themselves were rounded
    close(values, by_definition(name, logits.double()), atol=1e-5)


@pytest.mark.parametrize("name", ["logit", "probability", "log-probability", "margin", "loss"])
def test_several_targets_are_single_ones_stacked(name) -> None:
    cls = TABLE[name]
    several = cls((4, 0, 2))(LOGITS)
    close(several, torch.stack([cls(t)(LOGITS) for t in (4, 0, 2)], -1))
    assert cls((3,))(LOGITS).shape == (4, 1)


@EACH
@pytest.mark.parametrize("target", [5, -1])
def test_targets_that_do_not_exist_are_refused_with_those_that_do(name, target) -> None:
    cls = TABLE[name]
    built = {"contrast": lambda: cls(target, 0), "continuation": lambda: cls((1, target))}
    value = built.get(name, lambda: cls(target))()
    with pytest.raises(ap.BadRequest, match=rf"no class {target}; the model has 5 classes, 0 to 4"):
        value(MANY if name == "continuation" else LOGITS)


@CLASSES
@pytest.mark.parametrize(
    "output",
    [MANY, LOGITS[0], (LOGITS, LOGITS), {"scores": LOGITS}, None, {"logits": MANY[None]}],
    ids=["positions", "no batch", "pair", "other name", "nothing", "four axes"],
)
def test_outputs_it_cannot_read_are_refused_with_a_way_out(name, output) -> None:
    with pytest.raises(ap.BadRequest, match=r"[Ww]rap the model in a module"):
        ROWS[name][0](output)


def test_a_margin_does_not_saturate_where_the_probability_does() -> None:
    sure = torch.tensor([[0.0, 800.0, 1.0]], dtype=torch.float64)
    assert float(ap.values.Probability(1)(sure)) == 1.0
    expected = 800 - logsumexp([0.0, 1.0])
    close(ap.values.Margin(1)(sure), torch.tensor([expected]))
    odds = ap.values.Margin(T)(LOGITS)
    close(ap.values.Probability(T)(LOGITS), torch.from_numpy(expit(odds.numpy())))
    with pytest.raises(ap.BadRequest, match=r"Logit\(0\)"):
        ap.values.Margin(0)(LOGITS[:, :1])


def test_a_contrast_of_a_class_with_itself_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="always 0"):
        ap.values.Contrast(1, 1)(LOGITS)
    close(ap.values.Contrast(1, 3)(LOGITS), -ap.values.Contrast(3, 1)(LOGITS))


@pytest.mark.parametrize("name", SINGLE)
def test_slopes_through_a_value_are_those_of_its_definition(name) -> None:
    """Probabilities and margins are differentiable by the gates, not only logits."""
    value = {"contrast": ap.values.Contrast(1, 2)}.get(name) or TABLE[name](1)
    game = asking(mlp(), X, value=value)
    gates = torch.full((1, 6), 0.6, dtype=torch.float64)
    close(game.grad(gates)[1], central_difference(game, gates), atol=1e-7)


# -- several tokens in a row


def step_by_step(prompt: torch.Tensor, answer: list[int]) -> torch.Tensor:
    """Sum of log p(token | everything before it), each from a forward pass of its own."""
    model, total, text = decoder(), 0.0, prompt
    for token in answer:
        with torch.no_grad():
            last = model(text)["logits"][0, -1].numpy()
        total += log_softmax(last)[token]
        text = torch.cat([text, torch.tensor([[token]])], 1)
    return torch.tensor([total])


@pytest.mark.parametrize("answer", [[7], [7, 2], [7, 2, 2, 11]])
def test_a_continuation_is_the_sum_over_tokens_of_separate_passes(answer) -> None:
    model = decoder()
    ids, value, players = ap.continuation(model, IDS, torch.tensor([answer]))
    assert torch.equal(ids, torch.cat([IDS, torch.tensor([answer])], 1))
    assert (value.tokens, value.last) == (tuple(answer), len(answer) + 1)
    close(value(model(ids)).detach(), step_by_step(IDS, answer), atol=1e-10)
    if len(answer) == 1:
        with torch.no_grad():
            close(value(model(ids)), ap.values.LogProbability(answer[0])(model(IDS)), atol=1e-10)
    assert players.n == IDS.shape[1]
    owner = next(iter(players.owner.values())).flatten()
    assert (owner[-len(answer) :] == -1).all()  # the answer belongs to nobody


def test_the_prompt_is_removed_and_the_answer_is_not() -> None:
    """Tokens of the prompt replaced by those of another: the answer after the other prompt."""
    model, other = decoder(), torch.tensor([[3, 2, 7, 1, 5, 9]])
    answer = torch.tensor([[7, 2, 11]])
    ids, value, players = ap.continuation(model, IDS, answer)
    removal = ap.Blend(ap.removals.counterfactual(torch.cat([other, answer], 1)))
    game = asking(model, ids, removal, value=value, players=players)
    gates = some(6)
    for row, got in zip(gates, game.value(gates), strict=True):
        prompt = torch.where(row, IDS, other)
        close(got, step_by_step(prompt, [7, 2, 11])[0], atol=1e-10)


def test_texts_become_tokens_with_special_ones_only_at_the_start() -> None:
    tokenizer = Bytes([b"The", b" cat", b" s", b"at", b" on", b" ", b"mat", b"<s>"])
    ids, value, players = ap.continuation(decoder(), "The cat", " sat on", tokenizer)
    assert ids.tolist() == [[7, 0, 1, 2, 3, 4]]
    assert value.tokens == (2, 3, 4)
    assert players.names == ("<s>", "The", "cat")
    assert players.geometry["token"].shown == ("<s>", "The", " cat", " s", "at", " on")
    numbers = ap.continuation(decoder(), torch.tensor([[7, 0, 1]]), " sat on", tokenizer)
    assert torch.equal(numbers.input, ids)


@pytest.mark.parametrize(
    ("prompt", "answer", "message"),
    [
        ("The", IDS, "prompt is a text; pass tokenizer="),
        (IDS, "The", "answer is a text; pass tokenizer="),
        (IDS, IDS[:, :0], "at least one token"),
        (IDS[0], IDS, "prompt must be"),
        (IDS.expand(2, 6), IDS, "prompt must be"),
        (IDS, [1, 2], "answer must be"),
    ],
)
def test_prompts_and_answers_that_are_none_are_refused(prompt, answer, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        ap.continuation(decoder(), prompt, answer)


def test_a_continuation_needs_tokens_and_positions_to_read_them_at() -> None:
    with pytest.raises(ap.BadRequest, match="no token"):
        ap.values.Continuation(())
    for output in (LOGITS, {"logits": MANY[:, :2]}):
        with pytest.raises(ap.BadRequest, match="reads 3 positions"):
            ap.values.Continuation((1, 2))(output)
