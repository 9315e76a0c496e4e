"""What tells one training from another: numbers that are held fixed, and what the code does."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

DEEP = 6  # functions inside functions that are followed


def of_tensors(named: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and content."""
    seen = hashlib.sha256()
    for name, x in named.items():
        seen.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        seen.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()


def of_module(module: nn.Module) -> str:
    """A hash of what is not trained: frozen parameters, buffers, the layers and their own code."""
    free = {name for name, p in module.named_parameters() if p.requires_grad}
    fixed = {name: x for name, x in module.state_dict().items() if name not in free}
    kinds = dict.fromkeys(type(m) for m in module.modules())
    own = [kind for kind in kinds if not kind.__module__.startswith("torch.")]
    told = [repr(module), of_tensors(fixed)]
    told += [f"{kind.__qualname__} {of_code(vars(kind).get('forward'))}" for kind in own]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def of_code(thing: Any, depth: int = 0) -> str:
    """A function, callable object or plain value as text: what it does and what it holds, without
    addresses, which differ between processes.
    """
    if depth > DEEP:
        return ""
    if isinstance(thing, functools.partial):
        parts = [thing.func, *thing.args, *sorted(thing.keywords.items())]
        return "partial " + " ".join(of_code(part, depth + 1) for part in parts)
    if isinstance(thing, MethodType):
        return f"{of_code(thing.__func__, depth + 1)} of {of_code(thing.__self__, depth + 1)}"
    if isinstance(thing, FunctionType):
        held = [_held(cell, depth) for cell in thing.__closure__ or ()]
        held += [of_code(value, depth + 1) for value in thing.__defaults__ or ()]
        return f"{thing.__qualname__} {_code(thing.__code__)} {held}"
    if isinstance(thing, Tensor):
        return of_tensors({"": thing})
    if isinstance(thing, nn.Module):
        options = {k: v for k, v in vars(thing).items() if not k.startswith("_")}
        text = ", ".join(f"{k}={of_code(v, depth + 1)}" for k, v in sorted(options.items()))
        return f"{of_module(thing)} {text}"
    if isinstance(thing, list | tuple):
        return str([of_code(part, depth + 1) for part in thing])
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing)) + _fields(thing, depth)


def _fields(thing: Any, depth: int) -> str:
    """What a callable object holds in its own attributes."""
    if not isinstance(thing, Callable) or isinstance(thing, type):  # type: ignore[arg-type]
        return ""
    try:
        own = vars(thing)
    except TypeError:
        return ""
    return str({name: of_code(value, depth + 1) for name, value in sorted(own.items())})


def _held(cell: Any, depth: int) -> str:
    try:
        return of_code(cell.cell_contents, depth + 1)
    except ValueError:  # not bound yet
        return ""


def _code(code: CodeType) -> str:
    """The instructions of a function and of those defined in it."""
    consts = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {consts}"
