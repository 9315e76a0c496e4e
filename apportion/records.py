"""Frozen records as plain facts and named tensors, and back; only the classes that are listed can
be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from torch import Tensor

from .types import BadRequest

Facts = dict[str, Any]
Codec = tuple[
    Callable[[Any, str], tuple[Facts, dict[str, Tensor]]],
    Callable[[Facts, Mapping[str, Tensor], str], Any],
]


@dataclass
class Records:
    """Reads and writes nested records of the given classes."""

    classes: tuple[type, ...]  # dataclasses whose fields are records, tensors and plain facts
    own: Mapping[type, Codec] = field(default_factory=dict)  # classes that pack themselves

    def pack(self, record: Any) -> tuple[Any, dict[str, Tensor]]:
        """A record as plain facts, and the tensors they refer to by name."""
        tensors: dict[str, Tensor] = {}
        return self._pack(record, tensors), tensors

    def unpack(self, facts: Any, tensors: Mapping[str, Tensor]) -> Any:
        """The inverse of `pack`. Runs nothing but the constructors of the listed classes."""
        try:
            return self._unpack(facts, tensors)
        except (KeyError, TypeError, AttributeError) as failure:
            raise BadRequest(f"the saved record cannot be read: {failure!r}") from failure

    def _pack(self, x: Any, tensors: dict[str, Tensor]) -> Any:
        if isinstance(x, Tensor):
            name = f"t{len(tensors)}"
            tensors[name] = x.detach().cpu().contiguous()
            return {"tensor": name}
        if type(x) in self.own:
            prefix = f"r{len(tensors)}."
            facts, inner = self.own[type(x)][0](x, prefix)
            tensors.update(inner)
            return {"record": type(x).__name__, "prefix": prefix, "facts": facts}
        if is_dataclass(x) and type(x) in self.classes:
            inside = {f.name: self._pack(_field(x, f.name), tensors) for f in fields(x)}
            return {"record": type(x).__name__, "fields": inside}
        if isinstance(x, Mapping):
            return {"mapping": [[k, self._pack(v, tensors)] for k, v in x.items()]}
        if isinstance(x, tuple | list):
            return [self._pack(v, tensors) for v in x]
        if x is None or isinstance(x, str | bool | int):
            return x
        if isinstance(x, float):
            return x if math.isfinite(x) else {"float": repr(x)}
        raise BadRequest(f"a {type(x).__name__} cannot be saved")

    def _unpack(self, x: Any, tensors: Mapping[str, Tensor]) -> Any:
        if isinstance(x, list):
            return tuple(self._unpack(v, tensors) for v in x)
        if not isinstance(x, dict):
            return x
        if "tensor" in x:
            return tensors[x["tensor"]]
        if "mapping" in x:
            return {k: self._unpack(v, tensors) for k, v in x["mapping"]}
        if "float" in x:
            return float(x["float"])
        if "prefix" in x:
            codec = next(c for cls, c in self.own.items() if cls.__name__ == x["record"])
            return codec[1](x["facts"], tensors, x["prefix"])
        named = {cls.__name__: cls for cls in self.classes}
        if x["record"] not in named:
            raise BadRequest(f"the saved record holds a {x['record']!r}, which is not known here")
        inside = {k: self._unpack(v, tensors) for k, v in x["fields"].items()}
        return named[x["record"]](**inside)


def _field(record: Any, name: str) -> Any:
    return vars(record)[name]
