"""Numbers read off an output for a label, one per example: losses and values of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy as _cross_entropy

from ..types import BadRequest
from ..values import Value, class_scores


@dataclass(frozen=True)
class Measure:
    """A number per example, as a function of the output and the label."""

    name: str
    unit: str
    f: Callable[[Any, Tensor], Float[Tensor, "row"]]
    labelled: bool = True  # whether it reads the label

    def __call__(self, output: Any, label: Tensor) -> Float[Tensor, "row"]:
        return self.f(output, label)

    def __repr__(self) -> str:
        return self.name


def _own(output: Any, label: Tensor) -> tuple[Tensor, Tensor]:
    """The label's own score, and all scores with it left out."""
    scores = class_scores(output, "a measure of classes")
    index = label.long().reshape(len(scores), 1)
    return scores.gather(1, index)[:, 0], scores.scatter(1, index, -torch.inf)


def _margin(output: Any, label: Tensor) -> Float[Tensor, "row"]:
    own, rest = _own(output, label)
    return own - rest.logsumexp(-1)


def _loss(output: Any, label: Tensor) -> Float[Tensor, "row"]:
    scores = class_scores(output, "cross_entropy")
    return _cross_entropy(scores, label.long().reshape(len(scores)), reduction="none")


def _squares(output: Tensor, label: Tensor) -> Float[Tensor, "row"]:
    told, asked = output.reshape(len(output), -1), label.reshape(len(label), -1)
    if told.shape != asked.shape:
        raise BadRequest(
            f"squared_error compares outputs {tuple(told.shape)} with labels {tuple(asked.shape)}; "
            "give as many numbers per row as the model returns"
        )
    return 0.5 * (told - asked).square().sum(-1)


def _single(output: Tensor, label: Tensor) -> Float[Tensor, "row"]:
    flat = output.reshape(len(output), -1)
    if flat.shape[1] != 1:
        raise BadRequest(
            f"prediction reads one output per row, the model returns {flat.shape[1]}; read a class "
            "with margin, or one value: reading(values.Logit(0))"
        )
    return flat[:, 0]


margin = Measure("margin", "nats", _margin)  # log p / (1 - p) of the label
cross_entropy = Measure("cross-entropy", "nats", _loss)  # -log p of the label
squared_error = Measure("squared error", "squared units", _squares)  # half the squared distance
prediction = Measure("prediction", "value", _single, labelled=False)  # the one output


def reading(value: Value) -> Measure:
    """A value with its own target, such as `Margin(7)`; the labels are not read."""

    def read(output: Tensor, label: Tensor) -> Tensor:
        return value({"logits": output[:, -1]} if output.ndim == 3 else output)

    return Measure(repr(value), value.unit, read, labelled=False)
