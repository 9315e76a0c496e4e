"""Several tokens in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float

from ..types import BadRequest
from .base import check_class, output_tensor, target_of, wide


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
        tokens = target_of(self.tokens, "Continuation")
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
        scores = wide(logits[:, -count - 1 : -1]).log_softmax(-1)
        target = torch.tensor(self.tokens, device=logits.device)
        for t in self.tokens:
            check_class(t, int(logits.shape[-1]), self)
        return scores[:, torch.arange(count, device=logits.device), target].sum(-1)
