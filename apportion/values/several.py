"""Several values of one output at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest, Cited
from .base import Relative, Value


@dataclass(frozen=True)
class Several:
    """Values of different kinds from the same forward passes, one after the other on a trailing
    axis.

        Several((Logit(3), Probability(3), Contrast(3, 5)))

    Credit has their axis in front of the players': credit.pick(1) is that of the second. A value of
    several targets takes as many places. Gradients cost one backward pass per place.
    """

    values: tuple[Any, ...]  # of ap.values

    def __post_init__(self) -> None:
        given: Any = self.values
        if not isinstance(given, tuple | list) or not given:
            raise BadRequest("Several takes values: Several((Logit(3), Probability(3)))")
        for value in given:
            if isinstance(value, type) or not isinstance(value, Value):
                raise BadRequest(
                    f"Several: {value!r} does not say what is read off the output; write "
                    "ap.values.Logit(3), or see ap.values.TABLE"
                )
        object.__setattr__(self, "values", tuple(given))

    @property
    def unit(self) -> str:
        return ", ".join(dict.fromkeys(value.unit for value in self.values))

    @property
    def linear(self) -> bool:
        return all(value.linear for value in self.values)

    @property
    def last(self) -> int | None:
        reads = [value.last for value in self.values]
        counts = [read for read in reads if read is not None]
        return max(counts) if len(counts) == len(reads) else None

    @property
    def cites(self) -> tuple[str, ...]:
        keys = [key for value in self.values if isinstance(value, Cited) for key in value.cites]
        return tuple(dict.fromkeys(keys))

    def against(self, output: Any) -> Value:
        parts = [v.against(output) if isinstance(v, Relative) else v for v in self.values]
        return Several(tuple(parts))

    def __call__(self, output: Any) -> Float[Tensor, "batch place"]:
        columns = [value(output)[:, None].flatten(1) for value in self.values]
        kind = torch.promote_types(columns[0].dtype, torch.float32)
        for column in columns:
            kind = torch.promote_types(kind, column.dtype)
        return torch.cat([column.to(kind) for column in columns], 1)
