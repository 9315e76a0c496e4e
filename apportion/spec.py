"""Methods as text: "kernel-shap:samples=512,until=topk(5)" <-> KernelShap(samples=512,
until=TopK(5)).
"""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from .estimators import INTERACTIONS, TABLE, Method, StandardError, TopK
from .types import BadRequest

ROWS: dict[str, type[Method[Any]]] = {**TABLE, **INTERACTIONS}


def parse(text: str) -> Method[Any]:
    """The estimator a text means; unknown names and options are refused with the nearest ones."""
    name, _, rest = text.strip().partition(":")
    if name not in ROWS:
        near = difflib.get_close_matches(name, ROWS, n=3, cutoff=0.3) or list(ROWS)
        raise BadRequest(
            f"no estimator is called {name!r}; the nearest are {', '.join(near)}. List all with: "
            "apportion methods"
        )
    cls: Any = ROWS[name]
    known = {f.name: f for f in fields(cls)}
    options = {}
    for item in re.split(r",(?=\s*\w+\s*=)|,(?=[^)]*$)", rest) if rest else []:
        key, given, value = item.partition("=")
        if not given or key.strip() not in known:
            raise BadRequest(
                f"{name} has no option {key.strip()!r}; its options are {', '.join(known)}, "
                "written name=value"
            )
        options[key.strip()] = _read(value.strip(), known[key.strip()], name)
    return cls(**options)


def spell(estimator: Method[Any]) -> str:
    """The text that `parse` turns into an equal estimator; options at their defaults are left
    out.
    """
    name = next((name for name, cls in ROWS.items() if type(estimator) is cls), None)
    if name is None:
        raise BadRequest(
            f"{type(estimator).__name__} is not in the table of estimators, so it has no spelling"
        )
    cls: Any = ROWS[name]
    default = {f.name: f.default for f in fields(cls)}
    changed = [(k, v) for k, v in vars(estimator).items() if v != default[k]]
    return (
        name
        + (":" if changed else "")
        + ",".join(f"{key}={_write(value)}" for key, value in changed)
    )


def _read(text: str, field: Field[Any], name: str) -> Any:
    """A value in the type of the option's default, or a stopping rule."""
    default = None if field.default is MISSING else field.default
    rule = re.fullmatch(r"(\w+)\(([^)]*)\)", text)
    try:
        if rule:
            if rule[1] == "topk":
                return TopK(int(rule[2]))
            return {"se": StandardError}[rule[1]](float(rule[2]))
        if text == "none":
            return None
        if isinstance(default, bool):
            return {"true": True, "false": False}[text]
        if isinstance(default, Enum):
            return type(default)(text)
        if text.startswith("("):
            return ast.literal_eval(text)
        return int(text) if isinstance(default, int) else float(text)
    except (KeyError, SyntaxError, ValueError) as failure:
        if isinstance(failure, BadRequest):
            raise
        raise BadRequest(
            f"{name}: {field.name}={text} cannot be read; write it like "
            f"{field.name}={_write(default)}"
        ) from failure


def _write(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, StandardError):
        return f"se({value.at_most!r})"
    if isinstance(value, TopK):
        return f"topk({value.k})"
    return repr(value)
