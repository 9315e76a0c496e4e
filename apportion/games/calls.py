"""The call convention: how an input reaches the model once per gate row, and with which extra
arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..taps import Call
from ..types import BadRequest
from ..values import Value

IMAGE_AXES = 4


@dataclass(frozen=True, eq=False)
class Convention:
    """One input, ready to be repeated: which arguments carry the batch, and in which memory layout
    pictures go in.
    """

    call: Call
    repeated: frozenset[int | str]  # names of the tensor arguments that have one entry per instance
    instances: int
    channels_last: bool = False

    def rows(self, count: int) -> Call:
        """The call for `count` gate rows: row-major (row, instance) along the batch axis. All
        copies, as a model may write into its input.
        """

        def repeat(name: int | str, x: Tensor) -> Tensor:
            if name not in self.repeated:
                return x.clone()
            return self.lay(x.repeat(count, *(1,) * (x.ndim - 1)))

        return self.call.map(repeat)

    def lay(self, x: Tensor) -> Tensor:
        """A picture in the layout the model runs fastest in."""
        if self.channels_last and x.ndim == IMAGE_AXES and x.is_floating_point():
            laid = x.contiguous(memory_format=torch.channels_last)
            # a single row passes with any first stride, and convolutions then go a slower way
            usual = laid.stride(0) == laid[0].numel()
            return laid if usual else laid.clone(memory_format=torch.channels_last)
        return x

    @property
    def key(self) -> tuple:
        """What the speed of a pass depends on, besides the model."""
        return tuple(
            (name, tuple(x.shape), x.dtype, str(x.device))
            for name, x in self.call.tensors().items()
        )


def convention(
    model: nn.Module, given: object, shared: Collection[int | str], last: int | None
) -> Convention:
    """Reads an input: who shares the first tensor's batch axis, and what the model's forward
    accepts besides.
    """
    admit_model(model)
    call = Call.of(given)
    tensors = call.tensors()
    first = tensors[call.first()]
    if first.ndim == 0 or len(first) == 0:
        raise BadRequest(
            f"the first tensor of the input has shape {tuple(first.shape)}; it needs a batch axis "
            "with at least one instance"
        )
    unknown = [name for name in shared if name not in tensors]
    if unknown:
        raise BadRequest(
            f"shared={unknown[0]!r} is no tensor argument; the input has "
            f"{', '.join(map(repr, tensors))}"
        )
    for name, value in call.items():
        if not isinstance(value, Tensor) and _holds_tensor(value):
            raise BadRequest(
                f"argument {name!r} is a {type(value).__name__} of tensors; pass tensors as "
                "arguments of their own"
            )
    for name, x in tensors.items():
        # masks are added to scores and may hold minus infinity
        fine = torch.isfinite(x) if name == call.first() else ~x.isnan() & (x < torch.inf)
        if x.is_floating_point() and not bool(fine.all()):
            raise BadRequest(
                f"the input {name!r} holds NaN or infinite numbers; clean it first "
                "(torch.nan_to_num)"
            )
    repeated = frozenset(
        n for n, x in tensors.items() if n not in shared and x.ndim > 0 and len(x) == len(first)
    )
    return Convention(with_extras(model, call, last), repeated, len(first))


def admit_model(model: object) -> None:
    """A model is a torch module in Python: a compiled script can neither be read nor gated."""
    if isinstance(model, type):
        raise BadRequest(f"the model is a class; make one: {model.__name__}(...)")
    if not isinstance(model, nn.Module):
        raise BadRequest(
            f"the model is a {type(model).__name__}; ModelGame takes a torch.nn.Module. Wrap it in "
            "a module whose forward calls it, or ask any function of the gates: "
            "ap.FunctionGame(f, n)"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise BadRequest(
            f"the model is a compiled TorchScript module ({type(model).__name__}), inside which "
            "nothing can be gated; give the original nn.Module, from before torch.jit.script or "
            "torch.jit.trace"
        )


def admit_value(value: object) -> Value:
    """What is explained is one of ap.values, or an object that offers what they do."""
    if isinstance(value, type):
        raise BadRequest(f"value={value.__name__} is a class; make one: {value.__name__}(0)")
    if not isinstance(value, Value):
        raise BadRequest(
            f"value={value!r} ({type(value).__name__}) does not say what is read off the output; "
            "write ap.values.Logit(3) for the score of class 3, or see ap.values.TABLE"
        )
    return value


def with_extras(model: nn.Module, call: Call, last: int | None) -> Call:
    """Adds what saves work where forward has it: no key-value cache, and only the logits the value
    reads.
    """
    accepted = inspect.signature(model.forward).parameters
    extras = {"use_cache": False, "logits_to_keep": last}
    wanted = {
        k: v for k, v in extras.items() if k in accepted and v is not None and k not in call.kwargs
    }
    return Call(call.args, {**call.kwargs, **wanted})


def _holds_tensor(value: object) -> bool:
    if isinstance(value, dict):
        return any(isinstance(v, Tensor) for v in value.values())
    return isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value)
