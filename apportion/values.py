"""WHAT is explained: a number read off the model's output. Each value is a frozen object whose repr
names it.

A value reads a tensor as (batch, class); of an output with `.logits` of three axes it reads the
last position. It never edits the input. `unit` goes into every report, `last` says how many
trailing positions it reads (a model that accepts `logits_to_keep` then computes no others),
`linear` whether it is linear in the logits: only then can a backward rule table conserve it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .types import BadRequest

Target = int | tuple[int, ...]  # several targets become a trailing axis


@runtime_checkable
class Value(Protocol):
    """What every value offers."""

    unit: ClassVar[str]
    linear: ClassVar[bool]

    @property
    def last(self) -> int | None:
        """How many trailing positions it reads; None = the whole output."""

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        """The value of each instance, in float32 or wider."""


@runtime_checkable
class WithLogits(Protocol):
    """An output that names its logits, as those of Hugging Face and torchvision do."""

    logits: Tensor


@dataclass(frozen=True)
class Logit:
    """The model's raw score of a class or token: f(x)[target]."""

    target: Target
    unit: ClassVar[str] = "logits"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _target(self.target, "Logit"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return _pick(class_scores(output, self), self.target, self)


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
        object.__setattr__(self, "target", _target(self.target, "Probability"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return _pick(class_scores(output, self).softmax(-1), self.target, self)


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
        object.__setattr__(self, "target", _target(self.target, "LogProbability"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return _pick(class_scores(output, self).log_softmax(-1), self.target, self)


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
        object.__setattr__(self, "target", _target(self.target, "Margin"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        logits = class_scores(output, self)
        if logits.shape[1] < 2:
            raise BadRequest(f"{self} needs at least two classes, the output has one; use Logit(0)")
        own = _pick(logits, self.target, self)
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
        object.__setattr__(self, "label", _target(self.label, "Loss"))

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        return -_pick(class_scores(output, self).log_softmax(-1), self.label, self)


@dataclass(frozen=True)
class Contrast:
    """Why this rather than that: f[target] - f[foil], which is also log p(target)/p(foil)."""

    target: int
    foil: int
    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _one(self.target, "Contrast"))
        object.__setattr__(self, "foil", _one(self.foil, "Contrast"))

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        if self.target == self.foil:
            raise BadRequest(
                f"{self}: target and foil are the same class, the contrast is always 0"
            )
        logits = class_scores(output, self)
        return _pick(logits, self.target, self) - _pick(logits, self.foil, self)


@dataclass(frozen=True)
class Continuation:
    """Log-probability of several tokens in a row, sum of log p(token | everything before it).

    The tokens are the end of the input (teacher forcing), so they must be part of it and owned by
    no player; `ap.continuation(lm, prompt, answer)` builds input, value and players together.
    """

    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if isinstance(self.tokens, tuple | list) and not self.tokens:
            raise BadRequest("Continuation(()): the answer has no token")
        tokens = _target(self.tokens, "Continuation")
        object.__setattr__(self, "tokens", (tokens,) if isinstance(tokens, int) else tokens)

    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False

    @property
    def last(self) -> int:
        return len(self.tokens) + 1

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        logits = output_tensor(output, self)
        count = len(self.tokens)
        if logits.ndim != 3 or logits.shape[1] <= count:
            raise BadRequest(
                f"{self} reads {count + 1} positions of (batch, position, token); the output is "
                f"{tuple(logits.shape)}"
            )
        scores = _wide(logits[:, -count - 1 : -1]).log_softmax(-1)
        target = torch.tensor(self.tokens, device=logits.device)
        for t in self.tokens:
            _check(t, int(logits.shape[-1]), self)
        return scores[:, torch.arange(count, device=logits.device), target].sum(-1)


def _target(given: object, value: str) -> Target:
    """A class or token number as a plain int, or several as a tuple of them; anything else is
    refused.
    """
    if not isinstance(given, tuple | list):
        return _one(given, value)
    if not given:
        raise BadRequest(f"{value}({given!r}): there is no target; name at least one: {value}(0)")
    return tuple(_one(t, value) for t in given)


def _one(given: object, value: str) -> int:
    """One number: of Python, of numpy, or a tensor of no axes."""
    truth = isinstance(given, bool | np.bool_)
    if isinstance(given, Tensor):
        truth = given.dtype == torch.bool or given.ndim > 0
    if not truth and isinstance(given, SupportsIndex):
        try:
            return operator.index(given)
        except TypeError:  # a tensor or an array that holds no single integer
            pass
    raise BadRequest(
        f"{value}: a target is the number of a class or token, an integer; got {given!r} "
        f"({type(given).__name__}). Write {value}(3), or look the number up by its name first"
    )


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


def output_tensor(output: Any, value: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    if isinstance(output, WithLogits) and isinstance(output.logits, Tensor):
        return output.logits
    if (
        isinstance(output, tuple | list)
        and output
        and isinstance(output[0], Tensor)
        and len(output) == 1
    ):
        return output[0]
    raise BadRequest(
        f"{value} reads a tensor or an output with .logits; the model returns a "
        f"{type(output).__name__}. Wrap the model in a module that returns the logits."
    )


def class_scores(output: Any, value: object) -> Float[Tensor, "batch class"]:
    """The raw scores of every class that a value reads from an output."""
    logits = output_tensor(output, value)
    if logits.ndim == 3 and not isinstance(output, Tensor):
        logits = logits[:, -1]
    if logits.ndim == 1:
        raise BadRequest(
            f"{value} reads (batch, class), but the output is {tuple(logits.shape)}; if the input "
            "lacks its batch axis, give x[None], else wrap the model in a module that returns one "
            "row of scores per instance"
        )
    if logits.ndim != 2:
        raise BadRequest(
            f"{value} reads (batch, class), but the output is {tuple(logits.shape)}; wrap the "
            "model in a module that returns the row of scores you mean (for a map: its mean, or "
            "one position)"
        )
    return _wide(logits)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _pick(logits: Tensor, target: Target, value: object) -> Tensor:
    for t in (target,) if isinstance(target, int) else target:
        _check(t, int(logits.shape[1]), value)
    return logits[:, target] if isinstance(target, int) else logits[:, list(target)]


def _check(target: int, classes: int, value: object) -> None:
    if not 0 <= target < classes:
        raise BadRequest(
            f"{value}: there is no class {target}; the model has {classes:,} classes, 0 to "
            f"{classes - 1}"
        )


def _without(logits: Tensor, target: int) -> Tensor:
    return torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)


TABLE = {
    "logit": Logit,
    "probability": Probability,
    "log-probability": LogProbability,
    "margin": Margin,
    "loss": Loss,
    "contrast": Contrast,
    "continuation": Continuation,
}
