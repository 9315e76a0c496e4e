"""Which operations of a model a rule table has no rule for, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.overrides import TorchFunctionMode

from ..taps import Call
from .aliases import (
    ACTIVATIONS,
    CANONICAL,
    CELLS,
    ELEMENTWISE,
    LAYERS,
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
from .places import Place
from .probe import breaks
from .written import Written, gated, power

_CURVES = {*ELEMENTWISE, *ACTIVATIONS, torch.pow, power}
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


@dataclass(frozen=True)
class Finding:
    """One operation without a rule: what it is, why it matters, and the module whose forward
    called it.
    """

    operation: str
    # "parameters", "product of two variables", "nonlinear", "derivative of its own" ...
    why: str
    path: str
    module: str  # class of that module
    hint: str = ""
    falls_back: bool = False  # to a local rule of the table, instead of its own gradient


def unruled(model: nn.Module, call: Call, rules: Rules | None) -> list[Finding]:
    """Every operation with parameters, every product of two variables and every bend that the table
    does not list, and every derivative that the model brings along.

    Runs the model once, with the float inputs and the outputs of embeddings as variables. None = no
    table at all: lists whatever some table might have to know.
    """
    if rules is not None:
        refuse_opaque(model, rules.name)
    table = Rules("nothing", {}) if rules is None else rules
    with _as_variables(model) as inside, _Watch(table, inside) as watch:
        given = call.map(lambda _, x: _variable(x) if x.is_floating_point() else x.clone())
        model(*given.args, **given.kwargs)
    if rules is not None and rules.at_site is not None and not rules.known():
        return []  # the true gradient everywhere else, on purpose
    return watch.found


def _variable(x: Tensor) -> Tensor:
    """Depends on something, and may be written to, which leaves may not."""
    return x.detach().requires_grad_().clone()


@dataclass
class _Inside:
    """Where a forward pass is, and what its modules have let out."""

    place: list[tuple[str, nn.Module]]
    leaves: list[Callable[[Any], None]] = field(default_factory=list)  # told of every output


class _Watch(TorchFunctionMode):
    """Notes unruled operations while the model runs."""

    def __init__(self, rules: Rules, inside: _Inside) -> None:
        super().__init__()
        self.rules, self.place = rules, inside.place
        self.layers = 0
        self.noted: list[tuple[Finding, Tensor | None]] = []  # with the variable that is bent
        self.gates: list[tuple[Tensor, Tensor]] = []  # sigmoids and what they are the sigmoid of
        self.written = Written()
        self.nodes: set[Any] = set()  # of autograd's graph, looked at so far
        inside.leaves.append(self._leave)

    @property
    def found(self) -> list[Finding]:
        return [finding for finding, _ in self.noted]

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        meant, second = self.written.meant(func, args, kwargs)
        result = _carried_out(func, args, kwargs)
        operation = CANONICAL.get(func)
        operands = tensors_in(args, kwargs)
        known = self._knows(meant)
        if operation is torch.sigmoid:
            self.gates.append((result, operands[0]))
        if meant is gated and known:
            # bends inside an activation that is written out, which has a rule as a whole
            variable = operands[1 if second else 0]
            self.noted = [
                (f, bent)
                for f, bent in self.noted
                if bent is None or not self.written.of(bent, variable)
            ]
        elif not known:
            self._judge(meant, func, args, kwargs, result)
        self.written.note(func, args, kwargs, result)
        return result

    def _knows(self, meant: Callable) -> bool:
        place = Place(self.place[-1][0], self.layers)
        self.layers += meant in LAYERS
        # the first layer reads the input; whether this is it shows when gates are there
        first = meant in self.rules.at_input and place.layer == 0
        return first or self.rules.listed(meant, place) is not None

    def _judge(
        self, meant: Callable, func: Callable, args: tuple, kwargs: dict, result: Any
    ) -> None:
        """Notes an operation without a rule, if that matters to the table."""
        operation, operands = CANONICAL.get(func), tensors_in(args, kwargs)
        falls_back = meant in self.rules.fallback
        if operation is torch.mul and not falls_back and self._gates(operands):
            hint = "write it as F.silu(x), which tables know"
            self._note(Finding("mul", "gate product that looks like SiLU", "", "", hint))
            return
        why = ""
        if operation is not None:
            why = _reason(operation, operands, _is_bend(func, operation, args))
        if not why and falls_back and meant in _CURVES and _varying(operands):
            why = "nonlinear"
        if not why and not falls_back and breaks(self.rules, func, args, kwargs, result):
            why = "nonlinear"
        if why:
            hint = "falls back to a local rule" if falls_back else ""
            name = name_of(func if operation is None else operation)
            bent = operands[0] if why == "nonlinear" else None
            self._note(Finding(name, why, "", "", hint, falls_back), bent)

    def _gates(self, operands: list[Tensor]) -> bool:
        """Whether one operand is the sigmoid of the other: x * sigmoid(x)."""
        pairs = [(operands[0], operands[-1]), (operands[-1], operands[0])]
        return any(a is gate and b is source for a, b in pairs for gate, source in self.gates)

    def _note(self, finding: Finding, bent: Tensor | None = None) -> None:
        path, module = self.place[-1]
        self.noted.append((replace(finding, path=path, module=type(module).__name__), bent))

    def _leave(self, output: Any) -> None:
        """Derivatives that a model brings along, as torch.autograd.Function: no table sees them."""
        values = output.values() if isinstance(output, Mapping) else (output,)
        nodes = [x.grad_fn for x in tensors_in(tuple(values), {})]
        while nodes:
            node = nodes.pop()
            if node is None or node in self.nodes:
                continue
            self.nodes.add(node)
            nodes += [before for before, _ in node.next_functions]
            if isinstance(node, BackwardCFunction):
                name = node.name().removesuffix("Backward")
                hint = "write its forward in torch functions, which tables know"
                self._note(Finding(name, "derivative of its own", "", "", hint))


def _carried_out(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The call itself; autograd refuses `out=`, which a table would write out."""
    if kwargs.get("out") is None:
        return func(*args, **kwargs)
    operation, args, kwargs, into = out_of_place(func, args, kwargs)
    result = operation(*args, **kwargs)
    return result if into is None else received(into, result)


def _varying(operands: list[Tensor]) -> list[Tensor]:
    return [x for x in operands if x.requires_grad and not isinstance(x, nn.Parameter)]


def _reason(operation: Callable, operands: list[Tensor], bends: bool) -> str:
    varying = _varying(operands)
    if not varying:
        return ""
    if operation in CELLS or any(isinstance(x, nn.Parameter) for x in operands):
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
def _as_variables(model: nn.Module) -> Iterator[_Inside]:
    """Parameters are constants, embeddings are variables, and a list says which module is
    running.
    """
    switched = [p for p in model.parameters() if p.requires_grad]
    inside = _Inside([("", model)])
    handles = []

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        for told in inside.leaves:
            told(output)
        inside.place.pop()
        if isinstance(module, nn.Embedding) and not output.requires_grad:
            return _variable(output)
        return None

    for path, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(lambda m, _, path=path: inside.place.append((path, m)))
        )
        handles.append(module.register_forward_hook(leave))
    try:
        for p in switched:
            p.requires_grad_(False)
        with torch.enable_grad():
            yield inside
    finally:
        for p in switched:
            p.requires_grad_(True)
        for handle in handles:
            handle.remove()
