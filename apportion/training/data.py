"""The rows a model is trained on, and the questions asked of the trained model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..types import BadRequest
from .measures import Measure, margin

Inputs = Tensor | Mapping[str, Tensor]
PerExample = Callable[[Any, Tensor], Float[Tensor, "row"]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows held as tensors: what the model reads, and what it should have said."""

    input: Inputs  # a tensor for model(x), a mapping for model(**x); axis 0 counts the rows
    label: Tensor  # axis 0 counts the rows

    def __post_init__(self) -> None:
        counts = {len(x) for x in tensors(self.input)} | {len(self.label)}
        if len(counts) != 1:
            raise BadRequest(
                f"inputs and labels have different numbers of rows: {sorted(counts)}; axis 0 of "
                "every tensor counts the training rows"
            )
        if not self.n:
            raise BadRequest("the training set is empty; a run needs at least one row")

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.label)

    def take(self, index: Tensor | slice) -> tuple[Inputs, Tensor]:
        """Input and label of these rows."""
        return pick(self.input, index), self.label[index]

    @cached_property
    def digest(self) -> str:
        """A hash of the content: tells a store made for other data."""
        seen = hashlib.sha256()
        for x in (*tensors(self.input), self.label):
            seen.update(f"{x.dtype}{tuple(x.shape)}".encode())
            seen.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return seen.hexdigest()

    @classmethod
    def of(
        cls, data: Any, *, input: str | Sequence[str] | None = None, label: str | None = None
    ) -> Rows:
        """Rows from a pair (x, y), a PyTorch `Dataset` of pairs, or a dataset of named columns,
        such as one of Hugging Face: then `input` names the column or columns the model reads (a
        list becomes model(**columns)) and `label` the one the loss reads.
        """
        if isinstance(data, Rows):
            return data
        if isinstance(data, tuple | list) and len(data) == 2:
            x, y = (torch.as_tensor(d) if isinstance(d, np.ndarray) else d for d in data)
            if isinstance(y, Tensor) and isinstance(x, Tensor | Mapping):
                return cls(x, y)
        if not isinstance(data, Dataset | Sequence) and not _indexed(data):
            raise BadRequest(
                f"the training data is a {type(data).__name__}; give (x, y) tensors, a PyTorch "
                "Dataset with a length, or a Hugging Face dataset with input= and label="
            )
        if not len(data):
            raise BadRequest("the training set is empty; a run needs at least one row")
        stacked = default_collate([data[i] for i in range(len(data))])
        if isinstance(stacked, Mapping):
            return cls(*_columns(stacked, input, label))
        if isinstance(stacked, Sequence) and len(stacked) == 2:
            return cls(stacked[0], stacked[1])
        raise BadRequest(
            "a row of the dataset must be a pair (input, label) or a mapping of columns; got "
            f"{type(data[0]).__name__}"
        )


def _indexed(data: object) -> bool:
    """Counted and indexed by number, as datasets of other libraries are."""
    return isinstance(data, Sized) and "__getitem__" in dir(type(data))


def _columns(
    stacked: Mapping[str, Tensor], input: str | Sequence[str] | None, label: str | None
) -> tuple[Inputs, Tensor]:
    if input is None or label is None:
        raise BadRequest(
            f"the dataset has columns {', '.join(stacked)}; say which the model reads and which "
            "the loss reads: Rows.of(data, input=..., label=...)"
        )
    asked = [input] if isinstance(input, str) else list(input)
    missing = [name for name in (*asked, label) if name not in stacked]
    if missing:
        raise BadRequest(f"there is no column {missing[0]!r}; there are {', '.join(stacked)}")
    x = stacked[input] if isinstance(input, str) else {name: stacked[name] for name in asked}
    return x, stacked[label]


def tensors(input: Inputs) -> list[Tensor]:
    """The tensors of an input, in order."""
    return [input] if isinstance(input, Tensor) else list(input.values())


def pick(input: Inputs, index: Tensor | slice) -> Inputs:
    """Some rows of an input."""
    if isinstance(input, Tensor):
        return input[index]
    return {name: x[index] for name, x in input.items()}


@dataclass(frozen=True, eq=False)
class Queries:
    """Inputs whose value under the trained model is explained: one number each."""

    input: Inputs
    label: Tensor | None = None  # of each query; None where the measure reads none
    measure: Measure = field(default=margin)

    def __post_init__(self) -> None:
        if self.label is None and self.measure.labelled:
            raise BadRequest(
                f"Queries(measure={self.measure!r}) reads labels and none were given; write "
                "Queries(x, labels), or a measure with its own target: reading(values.Margin(3))"
            )
        if self.label is not None and len(self.label) != self.n:
            raise BadRequest(f"{self.n} queries but {len(self.label)} labels; give one for each")

    @property
    def n(self) -> int:
        """How many queries there are."""
        return len(tensors(self.input)[0])

    @property
    def labels(self) -> Tensor:
        """The label of each query, zeros where the measure reads none."""
        return torch.zeros(self.n, dtype=torch.long) if self.label is None else self.label

    @cached_property
    def digest(self) -> str:
        """A hash of inputs, labels and measure."""
        return hashlib.sha256(
            (Rows(self.input, self.labels).digest + self.measure.name).encode()
        ).hexdigest()
