"""What the model said, which of it is explained, and how a person would put the question."""

from __future__ import annotations

import torch
from torch import Tensor

from .explanation import Prediction
from .games.survey import steady
from .subject import Prepared, Subject
from .types import BadRequest
from .values import (
    Contrast,
    Logit,
    LogProbability,
    Loss,
    Margin,
    OfProbabilities,
    Probability,
    Value,
    class_scores,
)
from .wording import quoted

SUMS_TO_ONE = 1e-3  # how far probabilities may miss it
PHRASES: dict[type, str] = {  # by value, what is explained of the class or token that it reads
    Probability: "the probability of {}",
    LogProbability: "the log-probability of {}",
    Loss: "the cross-entropy loss of {}",
}
LIKELY = 5  # labels of a prediction that are shown


def predicted(
    subject: Subject, given: Prepared, target: int | str | None, against: int | str | None = None
) -> Prediction:
    """The class or token that is explained, its probability, what it is held against, and the
    likeliest ones.
    """
    with torch.no_grad(), steady():
        output = subject.model(given.x.clone())  # it may write into its input
    scores = class_scores(output, "the prediction")[0].double().cpu()
    if len(scores) == 1:
        if against is not None:
            raise BadRequest(f"against={against!r}: the model has one output; leave against= out")
        return Prediction(0, subject.label(0) if subject.labels else "the output", None)
    given_chances = are_chances(scores)
    chances = scores if given_chances else scores.softmax(-1)
    chosen = int(scores.argmax()) if target is None else _class(subject, target, len(scores))
    foil = None if against is None else _class(subject, against, len(scores))
    if foil == chosen:
        raise BadRequest(
            f"against={against!r} is what is explained, {subject.label(chosen)!r}; give another one"
        )
    likely = chances.topk(min(LIKELY, len(scores)))
    listed = [int(i) for i in likely.indices if int(i) != chosen]
    listed += [foil] if foil is not None and foil not in listed else []
    others = tuple((subject.label(i), float(chances[i])) for i in listed)
    rather = "" if foil is None else subject.label(foil)
    return Prediction(
        chosen, subject.label(chosen), float(chances[chosen]), others, foil, rather, given_chances
    )


def are_chances(scores: Tensor) -> bool:
    """Whether the scores of all classes are probabilities already."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < SUMS_TO_ONE


def _class(subject: Subject, named: int | str, classes: int) -> int:
    index = subject.index(named)
    if not 0 <= index < classes:
        raise BadRequest(
            f"target {index} is out of range: the model has {classes:,} classes, 0 to {classes - 1}"
        )
    return index


def question(subject: Subject, prediction: Prediction) -> str:
    """The question as a person would put it."""
    name, label = subject.name or type(subject.model).__name__, quoted(prediction.label)
    if prediction.probability is None:
        return f"Why does {name} give this input its score?"
    if prediction.foil is not None:
        label += f" rather than {quoted(prediction.rather)}"
    chance = f"with probability {prediction.probability:.2f}"
    if subject.kind == "text" and subject.labels is None:
        return f"Why does {name} continue this text with {label}, {chance}?"
    thing = {"image": "picture", "table": "row", "text": "text"}.get(subject.kind, "input")
    return f"Why does {name} call this {thing} {label}, {chance}?"


def in_words(value: Value, subject: Subject, prediction: Prediction) -> str:
    """What is explained, as a person would say it."""
    value = value.value if isinstance(value, OfProbabilities) else value
    label, rest = quoted(prediction.label), "classes"
    if subject.kind == "text" and subject.labels is None:
        rest = "tokens"
    if isinstance(value, Margin) and value.target == prediction.target:
        return f"the log-odds of {label} against all other {rest}"
    if isinstance(value, Contrast) and value.foil == prediction.foil:
        return f"the log-odds of {label} against {quoted(prediction.rather)}"
    if isinstance(value, Logit) and value.target == prediction.target:
        return f"the logit of {label}" if prediction.probability is not None else "the output"
    if type(value) in PHRASES and asked_about(value, None) == prediction.target:
        return PHRASES[type(value)].format(label)
    return str(value)


def asked_about(value: Value | None, target: int | str | None) -> int | str | None:
    """The target of the question: as given, else the class or token that the value reads."""
    reads = {} if value is None else vars(value)
    read = reads.get("label", reads.get("target"))  # of a loss, and of the others
    return read if target is None and isinstance(read, int) else target
