"""What to do with operations that a table does not know: a local rule that conserves. [lee2025]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from . import written
from .activation import secant
from .aliases import ACTIVATIONS, ELEMENTWISE
from .attention import halve, halve_factors
from .base import Replacement, Rules
from .linear import plain
from .normalise import normalize
from .vjp import bent


def quotient(operation: Callable, left: Any, right: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Left x 1 / right, a product: half of the relevance to each that varies, all of it to one.
    Half of the plain gradient would take from the divisor what it gives to the dividend.
    """
    divides = isinstance(right, Tensor) and right.requires_grad
    if not divides:
        return operation(left, right, *args, **kwargs)
    with torch.no_grad():
        value = operation(left, right, *args, **kwargs)
        slope = value / right
    if not (isinstance(left, Tensor) and left.requires_grad):
        return bent(right * slope, value)
    return bent((left / right.detach() + right * slope) / 2, value)


def power(operation: Callable, base: Any, exponent: Any, *args: Any, **kwargs: Any) -> Tensor:
    """All relevance to the base or to the exponent, whichever varies; half to each of both."""
    with torch.no_grad():
        value = operation(base, exponent, *args, **kwargs)
    varying = [x for x in (base, exponent) if isinstance(x, Tensor) and x.requires_grad]
    passed = [secant(lambda _x: value, x) for x in varying]
    return bent(torch.stack(torch.broadcast_tensors(*passed)).sum(0) / len(passed), value)


def glu(operation: Callable, x: Tensor, dim: int = -1) -> Tensor:
    """The product of one half of the input with the sigmoid of the other, half to each."""
    with torch.no_grad():
        value = operation(x, dim)
    left, right = x.chunk(2, dim)
    return bent(halve(torch.mul, left, secant(torch.sigmoid, right)), value)


_LOCAL: dict[Callable, Replacement] = {
    **dict.fromkeys((*ELEMENTWISE, *ACTIVATIONS), secant),
    F.prelu: plain,  # homogeneous: its own gradient conserves
    F.bilinear: halve_factors(0, 1, "input1", "input2"),
    torch.div: quotient,
    torch.pow: power,
    written.power: secant,
    F.glu: glu,
    F.normalize: normalize,
}


def localised(rules: Rules, others: Rules) -> Rules:
    """The same table, where operations that it does not know fall back to the rules of `others`,
    then to local ones.
    """
    table = dict(_LOCAL) | dict(others.functions)
    fallback = {op: rule for op, rule in table.items() if op not in rules.functions}
    cites = tuple(dict.fromkeys((*rules.cites, *others.cites, "lee2025")))
    return replace(rules, name=f"dynamic({rules.name})", fallback=fallback, cites=cites)
