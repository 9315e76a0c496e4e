"""What `apportion methods` prints: usual names, the tables behind them, one method in full."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from .backward import response
from .citations import references
from .compositions import FAMILIES, Composition, composition
from .estimators import INTERACTIONS, TABLE, Method
from .games.base import Need
from .types import BadRequest

NEEDS: tuple[Need, ...] = ("hard", "soft", "gradient")
Line = tuple[str, str]  # text and style


def by_name(listed: tuple[Need, ...], players: int) -> Iterator[Line]:
    """Methods by their usual names, grouped: what the number means, needs, cost, promises and
    whom to cite.
    """
    for family, rows in FAMILIES.items():
        shown = {name: row for name, row in rows.items() if row.estimator.needs in listed}
        if shown:
            yield f"\n{family}", "bold"
        for name, row in shown.items():
            yield f"  {name}: {row.means}", ""
            yield f"      {facts(row.estimator, players, row.promises)}", "dim"
            yield f"      {cited(row)}", "dim"


def tables(listed: tuple[Need, ...], players: int) -> Iterator[Line]:
    """Every estimator and response, by its spelling."""
    for title, rows in (("estimators", TABLE), ("estimators of sets", INTERACTIONS)):
        kept = {name: cls for name, cls in rows.items() if cls.needs in listed}
        if kept:
            yield f"\n{title}", "bold"
        for name, cls in kept.items():
            yield f"  {name}: {summary(cls)}", ""
            yield f"      {facts(cls(), players)}", "dim"
    if "gradient" in listed:
        yield "\nof training rows, by gradient × ImplicitGame(game, response)", "bold"
        named: Mapping[str, Any] = {**response.TABLE, **response.SOLVERS}
        for name, cls in named.items():
            kind = "solver of influence" if name in response.SOLVERS else "response"
            yield f"  {name} ({kind}, backward.response.{cls.__name__}): {summary(cls)}", ""


def in_full(name: str, players: int) -> Iterator[Line]:
    """One method: code to copy, what it costs and promises, whom to cite."""
    if name in TABLE or name in INTERACTIONS:
        cls: type[Method[Any]] = {**TABLE, **INTERACTIONS}[name]
        yield f"{name}: ap.{cls.__name__}", "bold"
        yield textwrap.indent((cls.__doc__ or "").rstrip(), "").strip(), ""
        yield facts(cls(), players), ""
        yield from ((str(work), "dim") for work in references(cls.cites))
        return
    row = composition(name)
    yield f"{name}: {row.means}", "bold"
    if row.differs:
        yield f"({row.differs})", ""
    needed = ("run", "queries") if row.game else ("model", "x", "value", *row.given)
    yield f"\nwith {', '.join(needed)} given:\n", "dim"
    yield textwrap.indent(row.code, "    "), ""
    yield f"\n{facts(row.estimator, players, row.promises)}", ""
    yield from ((str(work), "dim") for work in references(row.works))


def facts(estimator: Method[Any], players: int, promises: str = "") -> str:
    """What an estimator needs, costs and promises, in one line."""
    own = ", ".join(sorted(axiom.value for axiom in estimator.axioms)) or "nothing"
    try:
        cost = f"{estimator.cost(players)} for {players} players"
    except BadRequest as refused:
        cost = str(refused)
    return f"needs {estimator.needs}; {cost}; promises {promises or own}"


def cited(row: Composition) -> str:
    """Whom to cite: first author and year."""
    works = references(row.works)
    return "; ".join(
        f"{work.authors.split(',')[0].split(' and ')[0]} {work.year}" for work in works
    )


def summary(cls: type) -> str:
    """The first sentence of what is said about a row."""
    return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())


def needs_listed(needs: str | None) -> tuple[Need, ...]:
    """The needs that are listed: all, or the one that was asked for."""
    if needs is None:
        return NEEDS
    for need in NEEDS:
        if need == needs:
            return (need,)
    raise BadRequest(f"--needs is one of {', '.join(NEEDS)}; got {needs!r}")
