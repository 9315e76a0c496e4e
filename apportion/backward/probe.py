"""Whether an unknown operation breaks what a table promises, by trying it on scaled inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .aliases import name_of, tensors_in
from .base import Rules


def breaks(rules: Rules, func: Callable, args: tuple, kwargs: dict, result: Any) -> bool:
    """Under a table that compares two runs every operation without a rule has to be affine, under
    one with local rules homogeneous but for a constant: then its own gradient hands on what
    arrives. Other tables promise nothing about operations they do not know.
    """
    if not (rules.paired or rules.fallback) or not _matters(func, args, kwargs, result, rules):
        return False
    if isinstance(result, Tensor) and result.dtype == torch.bool:
        return True  # what it decides may differ between two runs
    with torch.no_grad():
        once, twice, zero = (_outputs(func, args, kwargs, by) for by in (1.0, 2.0, 0.0))
        if not all(_same(b + z, 2 * a) for a, b, z in zip(once, twice, zero, strict=True)):
            return True
        if not rules.paired:
            return False
        back = _outputs(func, args, kwargs, -1.0)
        return not all(_same(a + m, 2 * z) for a, m, z in zip(once, back, zero, strict=True))


def _matters(func: Callable, args: tuple, kwargs: dict, result: Any, rules: Rules) -> bool:
    """A result that depends on the input, of an operation that does not write."""
    name = name_of(func)
    if (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__get__"):
        return False
    if isinstance(result, Tensor) and result.dtype == torch.bool and result.ndim:
        return rules.paired and any(x.requires_grad for x in tensors_in(args, kwargs))
    made = tensors_in((result,), {})
    return any(x.requires_grad and x.is_floating_point() for x in made)


def _outputs(func: Callable, args: tuple, kwargs: dict, by: float) -> list[Tensor]:
    """Its results where everything that varies is scaled."""

    def scale(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach() * by if value.requires_grad else value
        if isinstance(value, tuple | list):
            return type(value)(scale(v) for v in value)
        return value

    given = {k: scale(v) for k, v in kwargs.items()}
    made = tensors_in((func(*(scale(v) for v in args), **given),), {})
    return [x for x in made if x.is_floating_point()]


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding; the same infinities, as of masks, count as equal."""
    close = torch.isclose(a, b, rtol=0.0, atol=1e-4 * _largest(b))
    return bool(close.all())


def _largest(x: Tensor) -> float:
    finite = x[x.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
