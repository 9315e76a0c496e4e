"""Values read off the row of class scores of each instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest
from .base import Target, class_scores, one_target, pick, target_of


@dataclass(frozen=True)
class Logit:
    """The model's raw score of a class or token: f(x)[target]."""

    target: Target
    unit: ClassVar[str] = "logits"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target, "Logit"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return pick(class_scores(output, self), self.target, self)


@dataclass(frozen=True)
class Probability:
    """softmax(f(x))[target]. Saturates: near 1 no player seems to matter; prefer Margin where that
    happens.
    """

    target: Target
    unit: ClassVar[str] = "probability"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target, "Probability"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return pick(class_scores(output, self).softmax(-1), self.target, self)


@dataclass(frozen=True)
class LogProbability:
    """log softmax(f(x))[target], of one class or token. For several tokens in a row see
    `continuation`.
    """

    target: Target
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target, "LogProbability"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return pick(class_scores(output, self).log_softmax(-1), self.target, self)


@dataclass(frozen=True)
class Margin:
    """Log-odds of the target against all others: f[t] - logsumexp of the rest = log p / (1 - p).
    Does not saturate.
    """

    target: Target
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target, "Margin"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        logits = class_scores(output, self)
        if logits.shape[1] < 2:
            raise BadRequest(f"{self} needs at least two classes, the output has one; use Logit(0)")
        own = pick(logits, self.target, self)
        if isinstance(self.target, int):
            return own - _without(logits, self.target).logsumexp(-1)
        return own - torch.stack([_without(logits, t).logsumexp(-1) for t in self.target], -1)


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of a label, -log p(label): positive credit makes the model more wrong."""

    label: Target
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", target_of(self.label, "Loss"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return -pick(class_scores(output, self).log_softmax(-1), self.label, self)


@dataclass(frozen=True)
class Contrast:
    """Why this rather than that: f[target] - f[foil], which is also log p(target)/p(foil)."""

    target: int
    foil: int
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", one_target(self.target, "Contrast", "Contrast(3, 5)"))
        object.__setattr__(self, "foil", one_target(self.foil, "Contrast", "Contrast(3, 5)"))

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        if self.target == self.foil:
            raise BadRequest(
                f"{self}: target and foil are the same class, the contrast is always 0"
            )
        logits = class_scores(output, self)
        return pick(logits, self.target, self) - pick(logits, self.foil, self)


@dataclass(frozen=True)
class OfProbabilities:
    """A margin or contrast of a model that returns probabilities: it reads their logarithms.

    Margin then is log p / (1 - p) of the probability as returned; nothing is normalised twice.
    """

    value: Margin | Contrast
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False

    @property
    def last(self) -> int | None:
        return self.value.last

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        chances = class_scores(output, self)
        return self.value(chances.clamp(min=torch.finfo(chances.dtype).tiny).log())

    def __repr__(self) -> str:  # as it is written in code
        return f"OfProbabilities(ap.values.{self.value!r})"


def _without(logits: Tensor, target: int) -> Tensor:
    return torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
