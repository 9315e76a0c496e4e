"""Addresses of activations in one forward pass: look, read, write, and always put the model
back.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .types import BadRequest

Part = int | str | None


@dataclass(frozen=True)
class Site:
    """Address of one tensor in one forward pass."""

    path: str  # module path as in `model.named_modules()`; "" = the model itself
    io: Literal["in", "out", "row"] = "out"  # "row": loss weight of a training row
    # element of the arguments, or of a tuple or dict output; None = the only tensor
    part: Part = None
    call: int | None = None  # which call of that module, from 0; None = it must run exactly once

    def __str__(self) -> str:
        if self.io == "row":
            return "loss weights of the training rows"
        words = [f"{self.io}put of {self.path or 'the model'!s}"]
        words += [f"part {self.part!r}"] if self.part is not None else []
        words += [f"call {self.call}"] if self.call is not None else []
        return ", ".join(words)


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one forward pass."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> Call:
        """A tensor becomes `model(x)`, a tuple or list `model(*x)`, a mapping `model(**x)`."""
        if isinstance(given, Call):
            return given
        if isinstance(given, Tensor):
            return cls((given,))
        if isinstance(given, Mapping):
            return cls((), dict(given))
        if isinstance(given, tuple | list):
            return cls(tuple(given))
        raise BadRequest(
            f"the input is a {type(given).__name__}; pass a tensor, a tuple (model(*x)) or a "
            "mapping (model(**x))"
        )

    def items(self) -> list[tuple[int | str, Any]]:
        """Every argument with its name: positions for positional ones."""
        return [*enumerate(self.args), *self.kwargs.items()]

    def tensors(self) -> dict[int | str, Tensor]:
        """The tensor arguments by name, in the order they were given."""
        return {name: value for name, value in self.items() if isinstance(value, Tensor)}

    def first(self) -> int | str:
        """Name of the first tensor argument: the one players and references mean by default."""
        for name in self.tensors():
            return name
        raise BadRequest("the input holds no tensor; pass at least one")

    def map(self, change: Callable[[int | str, Tensor], Tensor]) -> Call:
        """The same call with every tensor argument replaced."""
        new = {n: change(n, v) if isinstance(v, Tensor) else v for n, v in self.items()}
        return Call(tuple(new[i] for i in range(len(self.args))), {k: new[k] for k in self.kwargs})

    def replacing(self, name: int | str, tensor: Tensor) -> Call:
        """The same call with one tensor argument replaced."""
        return self.map(lambda n, v: tensor if n == name else v)


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module of that name; a BadRequest lists the nearest names."""
    modules = dict(model.named_modules())
    if path in modules:
        return modules[path]
    near = difflib.get_close_matches(path, list(modules), n=4, cutoff=0.3) or list(modules)[1:5]
    raise BadRequest(
        f"{type(model).__name__} has no layer {path!r}; the nearest are "
        f"{', '.join(map(repr, near))}. List all with [name for name, _ in model.named_modules()]."
    )


Edit = Callable[[Tensor], Tensor]


@contextmanager
def edited(model: nn.Module, edits: Mapping[Site, Edit]) -> Iterator[None]:
    """Inside, every tensor at a site is replaced by its edit as the model runs; hooks are gone
    afterwards.

    One forward pass per entry: when the body ends without an error, each site must have been met as
    often as its address says, else a BadRequest tells which calls there were.
    """
    with ExitStack() as stack:
        taps = [_Tap(site, edit) for site, edit in edits.items()]
        for tap in taps:
            module = module_at(model, tap.site.path)
            if tap.site.io == "in":
                handle = module.register_forward_pre_hook(tap.before, with_kwargs=True)
            else:
                handle = module.register_forward_hook(tap.after, with_kwargs=True)
            stack.callback(handle.remove)
        yield
        for tap in taps:
            tap.check()


@contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Inside, layers in training mode may move their running statistics and draw at random; both
    are put back.
    """
    moving = [m for m in model.modules() if m.training]
    kept = [(b, b.clone()) for m in moving for b in m.buffers(recurse=False)]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[], enabled=bool(moving)))
        for buffer, before in kept:
            stack.callback(_put_back, buffer, before)
        yield


def _put_back(buffer: Tensor, before: Tensor) -> None:
    with torch.no_grad():
        buffer.copy_(before)


class EarlyStop(Exception):
    """Raised inside a read once every site has been seen, so the rest of the model need not run."""


def run(model: nn.Module, call: Call, weights: Mapping[str, Tensor] | None = None) -> Any:
    """One forward pass, with stand-ins for the parameters if there are any."""
    if weights is None:
        return model(*call.args, **call.kwargs)
    return functional_call(model, dict(weights), call.args, dict(call.kwargs))


def read(
    model: nn.Module,
    call: Call,
    sites: Sequence[Site],
    *,
    whole: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[Site, Tensor]:
    """The tensors at these sites in one forward pass, detached; runs no further than needed unless
    `whole`. The model sees copies, as it may write into its input.
    """
    seen: dict[Site, Tensor] = {}

    def keep(site: Site) -> Edit:
        def look(x: Tensor) -> Tensor:
            seen[site] = x.detach().clone()
            if not whole and len(seen) == len(sites):
                raise EarlyStop
            return x

        return look

    looks = {site: keep(site) for site in sites}
    with torch.no_grad(), unmoved(model), edited(model, looks):
        try:
            run(model, call.map(lambda _, x: x.clone()), weights)
        except EarlyStop:
            return seen
    return seen


@dataclass
class _Tap:
    """One site while the model runs: counts the calls of its module and applies the edit at the
    right one.
    """

    site: Site
    edit: Edit
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # one per call

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        call = Call(args, kwargs)
        name = call.first() if self.site.part is None else self.site.part
        tensors = call.tensors()
        if name not in tensors:
            raise BadRequest(
                f"{self.site}: its tensor arguments are {', '.join(map(repr, tensors))}; name one "
                "as part="
            )
        new = self._meet(tensors[name])
        out = call.replacing(name, new)
        return out.args, dict(out.kwargs)

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        name, tensor = _part(output, self.site)
        return _with_part(output, name, self._meet(tensor))

    def _meet(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        asked = self.site.call
        return self.edit(x) if asked is None or asked == len(self.shapes) - 1 else x

    def check(self) -> None:
        ran, asked = len(self.shapes), self.site.call
        if ran == 0:
            raise BadRequest(
                f"{self.site}: the layer exists but never ran in this forward pass (its parent may "
                "read its weights directly, as nn.MultiheadAttention does). Choose a layer that "
                "runs; their names: [name for name, _ in model.named_modules()]."
            )
        if asked is None and ran > 1:
            calls = ", ".join(f"call={i} has shape {s}" for i, s in enumerate(self.shapes))
            raise BadRequest(
                f"{self.site} ran {ran} times in one forward pass ({calls}); say which with call= "
                "(heads and mlps of layers that share weights: how many with calls=)."
            )
        if asked is not None and asked >= ran:
            raise BadRequest(
                f"{self.site} was asked, but the layer ran {ran} time(s); calls count from 0."
            )


def _part(output: Any, site: Site) -> tuple[Part, Tensor]:
    """The tensor a site means inside a module's output, with the name to put it back under."""
    if isinstance(output, Tensor):
        if site.part is not None:
            raise BadRequest(
                f"{site}: the output is one tensor, it has no part {site.part!r}; leave part= out."
            )
        return None, output
    named: dict[Part, Tensor] = {
        n: v for n, v in _elements(output).items() if isinstance(v, Tensor)
    }
    if site.part is None and len(named) == 1:
        return next(iter(named.items()))
    if site.part in named:
        return site.part, named[site.part]
    raise BadRequest(
        f"{site}: the output holds the tensors {', '.join(map(repr, named)) or 'none'}; name one "
        "as part="
    )


def _elements(output: Any) -> dict[Part, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    return {}


def _with_part(output: Any, name: Part, tensor: Tensor) -> Any:
    """The same output with one element replaced; mappings and tuples are copied, not changed in
    place.
    """
    if name is None:
        return tensor
    if isinstance(output, Mapping):
        return type(output)(**{**output, name: tensor})
    elements = [tensor if i == name else v for i, v in enumerate(output)]
    named = (
        isinstance(output, tuple) and type(output) is not tuple
    )  # a NamedTuple takes its fields one by one
    return type(output)(*elements) if named else type(output)(elements)
