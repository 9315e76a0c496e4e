"""Rules whose relevance is not proportional to the input: they exist only where the players' gates
are, and hand relevance itself to the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from ..types import BadRequest
from .aliases import name_of, tensors_in
from .vjp import bent

# these only put elements elsewhere, so relevance goes back with them
_MOVES: set[Callable] = {
    torch.reshape, Tensor.reshape, Tensor.view, torch.flatten, Tensor.flatten, torch.unflatten,
    Tensor.unflatten, torch.permute, Tensor.permute, torch.transpose, Tensor.transpose,
    torch.movedim, Tensor.movedim, torch.squeeze, Tensor.squeeze, torch.unsqueeze,
    Tensor.unsqueeze, Tensor.contiguous, torch.clone, Tensor.clone, Tensor.to, Tensor.float,
    Tensor.double, Tensor.__getitem__, torch.chunk, Tensor.chunk, torch.split, Tensor.split,
    torch.unbind, Tensor.unbind,
}  # fmt: skip


class Entry:
    """The players' input, of which every gradient is relevance; and its twin, an ordinary tensor,
    for operations that have an ordinary rule.
    """

    def __init__(self, rules: Mapping[Callable, Callable[..., Tensor]], name: str) -> None:
        self.rules, self.name = rules, name
        self._twins: list[tuple[Tensor, Tensor]] = []
        self._padded: list[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]] = []

    def open(self, blend: Tensor, keep: Tensor) -> Tensor:
        """The blend of gates and input, with d blend / d gate = 1: what comes back to a gate is
        the sum of what comes back to its elements.
        """
        raw = bent(keep.expand_as(blend).to(blend.dtype), blend)
        self._twins.append((raw, blend))
        return raw

    def meets(self, args: tuple, kwargs: dict) -> bool:
        """Whether an operation reads the input."""
        return bool(self._twins) and any(
            x is raw for x in tensors_in(args, kwargs) for raw, _ in self._twins
        )

    def whole(self, func: Callable, args: tuple) -> tuple[Callable, tuple]:
        """A first layer and the zeros the model put around its input as one operation on that
        input, as if the layer had put them there.
        """
        for made, raw, pad in self._padded:
            if args and args[0] is made:
                return self.whole(_after(pad, func), (raw, *args[1:]))
        return func, args

    def ordinary(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The same arguments with the twin in the place of the input."""

        def swap(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return type(value)(swap(v) for v in value)
            return next((twin for raw, twin in self._twins if value is raw), value)

        return tuple(swap(v) for v in args), {k: swap(v) for k, v in kwargs.items()}

    def moved(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """An operation without a rule: the input stays the input when its elements only move, and
        may be looked at; anything else is refused.
        """
        result = func(*args, **kwargs)
        made = tensors_in((result,), {})
        if not any(x.requires_grad for x in made):
            return result
        zeros = func is F.pad and _with_zeros(*args, **kwargs)
        if func not in _MOVES and not zeros:
            wanted = ", ".join(sorted({name_of(f) for f in self.rules}))
            raise BadRequest(
                f"{self.name} has a rule for the first layer ({wanted}), but the model first "
                f"changes its input by {name_of(func)}. Move that step out of the model, before "
                "the input is given (ap.Subject(preprocess=...)), or use a table without such a "
                "rule."
            )
        if zeros:
            self._padded.append((result, args[0], lambda x: func(x, *args[1:], **kwargs)))
        args, kwargs = self.ordinary(args, kwargs)
        twins = tensors_in((func(*args, **kwargs),), {})
        self._twins += zip(made, twins, strict=True)
        return result


def _after(pad: Callable[[Tensor], Tensor], func: Callable) -> Callable:
    return lambda x, *rest, **named: func(pad(x), *rest, **named)


def _with_zeros(x: Tensor, pad: object, mode: str = "constant", value: float | None = None) -> bool:
    return mode == "constant" and not value
