"""Where in a model an operation runs, for tables whose rules depend on it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..types import BadRequest, whole


@dataclass(frozen=True)
class Place:
    """Where one operation runs."""

    path: str  # of the module whose forward calls it, as in model.named_modules()
    layer: int  # how many operations with weights (linear, convolutions) ran before it


Where = Callable[[Place], bool]


@dataclass(frozen=True)
class Inside:
    """Operations of a module whose name matches, and of everything inside it. `*` matches any
    part of a name: "features.*", "layers.1?", "*.mlp".
    """

    pattern: str

    def __str__(self) -> str:
        return self.pattern

    def __call__(self, place: Place) -> bool:
        steps = place.path.split(".")
        names = (".".join(steps[: k + 1]) for k in range(len(steps)))
        return any(fnmatchcase(name, self.pattern) for name in names)


@dataclass(frozen=True)
class Layers:
    """Operations with weights by the order in which they run: from `start` up to, not with,
    `stop`.
    """

    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f"layers({self.start}, {self.stop})"

    def __call__(self, place: Place) -> bool:
        return self.start <= place.layer and (self.stop is None or place.layer < self.stop)


def both(one: Where, other: Where) -> Where:
    """Places that fit two descriptions."""
    return lambda place: one(place) and other(place)


def layers(start: int = 0, stop: int | None = None) -> Layers:
    """The first layer with weights is 0; counted along the forward pass."""
    if isinstance(start, str):
        raise BadRequest(
            f"layers({start!r}): layers are counted here, from 0; for the modules of that name "
            f"write rules.within({start!r})"
        )
    whole(start, "start", "layers", 0)
    if stop is not None:
        whole(stop, "stop", "layers", start + 1)
    if start < 0 or (stop is not None and stop <= start):
        raise BadRequest(
            f"layers({start}, {stop}) holds no layer; they count from 0, up to and not with stop"
        )
    return Layers(start, stop)


@contextmanager
def followed(model: nn.Module, wheres: Sequence[Where]) -> Iterator[list[str]]:
    """A list whose last element is the path of the running module; hooks are gone afterwards, and
    there are none where no rule asks for a place.
    """
    running = [""]
    with ExitStack() as stack:
        if wheres:
            _refuse_unmatched(model, wheres)
            for path, module in model.named_modules():

                def enter(_module: nn.Module, _args: Any, path: str = path) -> None:
                    running.append(path)

                def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
                    running.pop()

                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        yield running


def _refuse_unmatched(model: nn.Module, wheres: Sequence[Where]) -> None:
    paths = [path for path, _ in model.named_modules()]
    for where in wheres:
        if isinstance(where, Inside) and not any(where(Place(path, 0)) for path in paths):
            near = difflib.get_close_matches(where.pattern, paths, n=4, cutoff=0.3) or paths[1:5]
            raise BadRequest(
                f"no module of {type(model).__name__} matches {where.pattern!r}, so these rules "
                f"would never count; the nearest are {', '.join(map(repr, near))}"
            )
