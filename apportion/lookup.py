"""Where a name is found: usual names, and the rows of every table, however they are spelled."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import backward, evaluate, linear, players, removals, values
from .backward import Rules, response
from .compositions import BY_NAME, plain
from .estimators import INTERACTIONS, TABLE, Method
from .types import BadRequest

RESPONSES = "responses, for gradient × ImplicitGame(game, response)"
LEAST = 4  # letters from which the beginning of one name is enough


@dataclass(frozen=True)
class Row:
    """A row of a table: how it is written, and what is said about it."""

    table: str  # "values"
    name: str  # "similarity"
    thing: Any
    spelled: str  # "ap.values.Similarity"
    needs: str  # of a game
    page: str  # below docs/methods

    @property
    def called(self) -> str:
        """The last word of its spelling: a class or a function."""
        return self.spelled.split("(")[0].rsplit(".", 1)[-1]

    @property
    def said(self) -> str:
        """Its description; of a table of rules that of the function that builds it."""
        thing = self.thing
        if isinstance(thing, Rules):
            built = vars(backward).get(self.called)
            told = inspect.getdoc(built) if inspect.isfunction(built) else None
            means = [row.means for row in BY_NAME.values() if row.rules is thing]
            return told or f"{(means or [thing.name])[0].capitalize()}. {thing.claim}"
        return inspect.getdoc(thing) or ""

    @property
    def works(self) -> tuple[str, ...]:
        """Keys of the works to cite, where the row has any of its own."""
        if self.page == "responses":  # theirs may depend on their options
            return tuple(self.thing().cites)
        cites = vars(self.thing).get("cites")
        return cites if isinstance(cites, tuple) else ()

    @property
    def signature(self) -> str:
        """How it is called; nothing for what is written without options."""
        if isinstance(self.thing, Rules):
            return self.spelled
        return f"{self.spelled}{inspect.signature(self.thing)}".replace("'", "")


def _rows() -> Iterator[Row]:
    for title, methods, page in (
        ("estimators", TABLE, "estimators"),
        ("estimators of sets", INTERACTIONS, "interactions"),
    ):
        rows: Mapping[str, type[Method[Any]]] = {**methods}
        for name, cls in rows.items():
            yield Row(title, name, cls, f"ap.{cls.__name__}", cls.needs, page)
    for name, rules in backward.TABLE.items():
        call = "()" if inspect.isfunction(vars(backward).get(rules.name)) else ""
        spelled = f"ap.backward.{rules.name}{call}"
        yield Row("backward rules", name, rules, spelled, "gradient", "rules")
    for name, made in backward.AT_INPUT.items():
        spelled = f"ap.backward.{made.__name__}"
        yield Row("backward rules of the first layer", name, made, spelled, "gradient", "rules")
    plainly: list[tuple[str, Mapping[str, Any], str, str]] = [
        ("players", players.TABLE, "ap.players.", "players"),
        ("values", values.TABLE, "ap.values.", "values"),
        ("references of removals", removals.TABLE, "ap.removals.", "removals"),
        ("removals", removals.HOW, "ap.removals.", "removals"),
        (
            "responses, for gradient × ImplicitGame(game, response)",
            response.TABLE,
            "ap.backward.response.",
            "responses",
        ),
        (
            "solvers of backward.response.Influence",
            response.SOLVERS,
            "ap.backward.response.",
            "responses",
        ),
        ("closed forms of linear models", linear.TABLE, "ap.linear.", "linear"),
        ("metrics", evaluate.TABLE, "ap.evaluate.", "metrics"),
    ]
    for title, table, prefix, page in plainly:
        needs = "gradient" if page == "responses" else ""
        for name, thing in table.items():
            yield Row(title, name, thing, f"{prefix}{thing.__name__}", needs, page)


ROWS: tuple[Row, ...] = tuple(_rows())


def rows_of(name: str) -> list[Row]:
    """Rows of tables of this name, or written so."""
    return [row for row in ROWS if plain(name) in (plain(row.name), plain(row.called))]


def found(name: str) -> tuple[str | None, list[Row]]:
    """The usual name that is meant, and the rows of tables that are; none at all is refused."""
    usual = {plain(known): known for known in BY_NAME}
    rows = rows_of(name)
    if plain(name) in usual or rows:
        return usual.get(plain(name)), rows
    known = {plain(known): known for known in [*(row.name for row in ROWS), *BY_NAME]}
    starts = [key for key in known if key.startswith(plain(name))]
    if len(starts) == 1 and len(plain(name)) >= LEAST:
        return usual.get(starts[0]), rows_of(known[starts[0]])
    near = [known[key] for key in nearest(plain(name), known)]
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    raise BadRequest(
        f"no method, and no row of a table, is called {name!r}{hint}. List all with: apportion "
        "methods, and the tables with: apportion methods --tables"
    )


def nearest(key: str, known: Mapping[str, str], most: int = 4) -> list[str]:
    """Keys that hold these letters, then those spelled almost so."""
    holding = [k for k in known if len(key) >= LEAST and (key in k or (len(k) > 4 and k in key))]
    alike = difflib.get_close_matches(key, known, n=most, cutoff=0.6)
    return list(dict.fromkeys([*alike, *holding]))[:most]
