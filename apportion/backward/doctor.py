"""Which operations of a model a rule table has no rule for, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.overrides import TorchFunctionMode

from ..taps import Call
from .aliases import (
    CANONICAL,
    PRODUCTS,
    REVERSED,
    WEIGHTED,
    WHOLE,
    name_of,
    out_of_place,
    received,
    tensors_in,
)  # fmt: skip
from .base import Rules, refuse_opaque

_BENDS = {
    F.softmax,
    F.log_softmax,
    torch.exp,
    torch.erf,
    torch.sqrt,
    torch.sigmoid,
    F.softplus,
    torch.rsqrt,
    torch.reciprocal,
    F.layer_norm,
    F.rms_norm,
    F.group_norm,
    F.instance_norm,
}
_CELLS = {
    torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu,
    torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell,
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One operation without a rule: what it is, why it matters, and the module whose forward
    called it.
    """

    operation: str
    why: str  # "parameters", "product of two variables", "nonlinear"
    path: str
    module: str  # class of that module
    hint: str = ""


def unruled(model: nn.Module, call: Call, rules: Rules | None) -> list[Finding]:
    """Every operation with parameters, every product of two variables and every bend that the table
    does not list.

    Runs the model once, with the float inputs and the outputs of embeddings as variables. None = no
    table at all: lists whatever some table might have to know.
    """
    if rules is not None:
        refuse_opaque(model, rules.name)
        if not rules.functions and rules.at_site is not None:
            return []  # the true gradient everywhere else, on purpose
    known = {} if rules is None else rules.functions
    with _as_variables(model) as place, _Watch(known, place) as watch:
        given = call.map(lambda _, x: _variable(x) if x.is_floating_point() else x.clone())
        model(*given.args, **given.kwargs)
    return watch.found


def _variable(x: Tensor) -> Tensor:
    """Depends on something, and may be written to, which leaves may not."""
    return x.detach().requires_grad_().clone()


class _Watch(TorchFunctionMode):
    """Notes unruled operations while the model runs."""

    def __init__(self, known: Mapping[Callable, Any], place: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.known, self.place = known, place
        self.found: list[Finding] = []
        self.gates: list[tuple[Tensor, Tensor]] = []  # sigmoids and what they are the sigmoid of

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = _carried_out(func, args, kwargs)
        operation = CANONICAL.get(func)
        operands = tensors_in(args, kwargs)
        if operation is torch.sigmoid:
            self.gates.append((result, operands[0]))
        if operation is torch.mul and self._gates(operands):
            self._note(
                operation,
                "gate product that looks like SiLU",
                "write it as F.silu(x), which tables know",
            )
        elif operation is not None and operation not in self.known:
            why = _reason(operation, operands, _is_bend(func, operation, args))
            if why:
                self._note(operation, why, "")
        return result

    def _gates(self, operands: list[Tensor]) -> bool:
        """Whether one operand is the sigmoid of the other: x * sigmoid(x)."""
        pairs = [(operands[0], operands[-1]), (operands[-1], operands[0])]
        return any(a is gate and b is source for a, b in pairs for gate, source in self.gates)

    def _note(self, operation: Callable, why: str, hint: str) -> None:
        path, module = self.place[-1]
        self.found.append(Finding(name_of(operation), why, path, type(module).__name__, hint))


def _carried_out(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The call itself; autograd refuses `out=`, which a table would write out."""
    if kwargs.get("out") is None:
        return func(*args, **kwargs)
    operation, args, kwargs, into = out_of_place(func, args, kwargs)
    result = operation(*args, **kwargs)
    return result if into is None else received(into, result)


def _reason(operation: Callable, operands: list[Tensor], bends: bool) -> str:
    varying = [x for x in operands if x.requires_grad and not isinstance(x, nn.Parameter)]
    if not varying:
        return ""
    if operation in _CELLS or any(isinstance(x, nn.Parameter) for x in operands):
        return "parameters"
    if operation in WHOLE or (operation in PRODUCTS and len(varying) > 1):
        return "product of two variables"
    if operation in WEIGHTED:  # weights that are computed, as by torch.nn.utils.parametrizations
        return "parameters"
    return "nonlinear" if bends else ""


def _is_bend(func: Callable, operation: Callable, args: tuple) -> bool:
    """Whether one varying operand is enough to make the operation nonlinear."""
    right = args[1] if len(args) > 1 else None
    if operation is torch.pow:
        # a square is part of every norm's scale, which tables freeze as a whole
        return func in REVERSED or not isinstance(right, int | float) or right not in (1, 2)
    if operation is torch.div:
        divisor = args[0] if func in REVERSED else right
        return isinstance(divisor, Tensor) and divisor.requires_grad
    return operation in _BENDS


@contextmanager
def _as_variables(model: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """Parameters are constants, embeddings are variables, and a list says which module is
    running.
    """
    switched = [p for p in model.parameters() if p.requires_grad]
    place: list[tuple[str, nn.Module]] = [("", model)]
    handles = []

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        place.pop()
        if isinstance(module, nn.Embedding) and not output.requires_grad:
            return _variable(output)
        return None

    for path, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(lambda m, _, path=path: place.append((path, m)))
        )
        handles.append(module.register_forward_hook(leave))
    try:
        for p in switched:
            p.requires_grad_(False)
        with torch.enable_grad():
            yield place
    finally:
        for p in switched:
            p.requires_grad_(True)
        for handle in handles:
            handle.remove()
