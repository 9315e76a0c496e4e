"""Values that are a whole vector: one output per coordinate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest
from .base import output_tensor, wide


@runtime_checkable
class WithStates(Protocol):
    """An output that names its hidden states, as encoders of Hugging Face do."""

    last_hidden_state: Tensor


@dataclass(frozen=True)
class Embedding:
    """The vector the model makes of its input, every coordinate an output of its own: of hidden
    states (batch, position, width) their mean over the positions, of (batch, width) itself.

    Credit then has one row per coordinate, (width, player), and every gradient takes `width`
    backward passes. Two such credits multiply to a credit of pairs: `ap.pairs(credit_a, credit_b)`.
    """

    # positions whose mean is taken, without padding: mask[0].nonzero().flatten().tolist(); None =
    # all
    positions: tuple[int, ...] | None = None

    unit: ClassVar[str] = "embedding"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        kept = positions_of(self.positions, f"Embedding(positions={self.positions!r})")
        object.__setattr__(self, "positions", kept)

    def __call__(self, output: Any) -> Float[Tensor, "batch width"]:
        return pooled(output, self.positions, self)


def positions_of(given: Any, asked: str) -> tuple[int, ...] | None:
    """Positions as a tuple, so that values can be compared; anything else is refused."""
    if given is None:
        return None
    whole = isinstance(given, Sequence) and all(
        isinstance(p, int) and not isinstance(p, bool) for p in given
    )
    if not whole or not given or len(set(given)) < len(given):
        raise BadRequest(
            f"{asked}: name different positions by number, such as "
            "positions=tuple(mask[0].nonzero().flatten().tolist()), or leave it out for all"
        )
    return tuple(given)


def pooled(
    output: Any, positions: tuple[int, ...] | None, value: object
) -> Float[Tensor, "batch width"]:
    """One vector per instance: the mean of its hidden states, or the row that is there already."""
    states = _states(output, value)
    if states.ndim == 3:
        length = int(states.shape[1])
        chosen = range(length) if positions is None else positions
        if not all(-length <= p < length for p in chosen):
            raise BadRequest(f"{value}: the output has {length} positions, 0 to {length - 1}")
        return wide(states[:, list(chosen)]).mean(1)
    if states.ndim != 2 or positions is not None:
        raise BadRequest(
            f"{value} reads {'' if positions else '(batch, width) or '}(batch, position, "
            f"width), the output is {tuple(states.shape)}; wrap the model in a module that "
            "returns the embedding"
        )
    return wide(states)


def _states(output: Any, value: object) -> Tensor:
    if isinstance(output, Mapping) and isinstance(output.get("last_hidden_state"), Tensor):
        return output["last_hidden_state"]
    if isinstance(output, WithStates) and isinstance(output.last_hidden_state, Tensor):
        return output.last_hidden_state
    return output_tensor(output, value)
