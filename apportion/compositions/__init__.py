"""Methods by the names their users know, as compositions: players × value × removal × estimator.

Every row is code that runs as it stands once `model`, an input `x`, a `value` and what else it
names are given; `apportion methods NAME` prints it.
"""

from __future__ import annotations

import difflib

from ..types import BadRequest
from .base import Composition, plain, written
from .features import FAMILIES as FEATURES
from .further import FAMILIES as FURTHER

FAMILIES: dict[str, dict[str, Composition]] = {**FEATURES, **FURTHER}
BY_NAME: dict[str, Composition] = {
    name: row for rows in FAMILIES.values() for name, row in rows.items()
}


BY_PLAIN: dict[str, Composition] = {plain(name): row for name, row in BY_NAME.items()}


def composition(name: str) -> Composition:
    """The composition known by a name; unknown ones are refused with the nearest."""
    if plain(name) not in BY_PLAIN:
        near = difflib.get_close_matches(name.lower(), BY_NAME, n=4, cutoff=0.6)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise BadRequest(f"no method is called {name!r}{hint}. List all with: apportion methods")
    return BY_PLAIN[plain(name)]


__all__ = ["BY_NAME", "FAMILIES", "Composition", "composition", "plain", "written"]
