"""What `apportion methods` prints: usual names, the tables behind them, one method in full."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from .citations import references
from .compositions import FAMILIES, Composition, composition
from .estimators import INTERACTIONS, TABLE, ExactShapley, Method
from .games.base import Need
from .lookup import ROWS, Row, found
from .types import BadRequest

NEEDS: tuple[Need, ...] = ("hard", "soft", "gradient")
METHODS: dict[str, type[Method[Any]]] = {**TABLE, **INTERACTIONS}
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
    """The rows of every table by their names; those that need nothing of a game are listed where
    no need was asked for.
    """
    everything, title = listed == NEEDS, ""
    for row in ROWS:
        if not (row.needs in listed or (everything and not row.needs)):
            continue
        if row.table != title:
            title = row.table
            yield f"\n{title}", "bold"
        yield f"  {row.name}: {first(row.said)}", ""
        yield f"      {told(row, players)}", "dim"


def told(row: Row, players: int) -> str:
    """How a row is written, and what it needs and costs where it is an estimator."""
    needed = asked(row, players)
    return f"{row.spelled}; {needed}" if needed else row.spelled


def asked(row: Row, players: int) -> str:
    """What a row needs of a game and, of an estimator, costs; nothing for a part of a game."""
    if row.page in ("estimators", "interactions"):
        return facts(METHODS[row.name](), players)
    return f"needs {row.needs}" if row.needs else ""


def in_full(name: str, players: int) -> Iterator[Line]:
    """One method: code to copy, what it costs and promises, whom to cite. Then the rows of tables
    of that name.
    """
    usual, rows = found(name)
    if usual is not None:
        yield from _composed(usual, players)
    for i, row in enumerate(rows):
        yield ("\n" if usual is not None or i else "") + f"{row.name}, of the {row.table}", "bold"
        yield row.signature, ""
        yield f"\n{row.said}\n", ""
        if row.needs:
            yield asked(row, players), ""
        yield f"docs/methods/{row.page}.md", "dim"
        if usual is None:
            yield from ((str(work), "dim") for work in references(row.works))


def _composed(name: str, players: int) -> Iterator[Line]:
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
    return f"needs {estimator.needs}; {priced(estimator, players)}; promises {promises or own}"


def priced(estimator: Method[Any], players: int) -> str:
    """Its cost in a few words, also where it cannot be asked about that many players."""
    many = f"{players:,} player{'' if players == 1 else 's'}"
    if _fits(estimator, players):
        return f"{estimator.cost(players)} for {many}"
    if not any(_fits(estimator, fewer) for fewer in range(1, players)):
        return f"needs more than {many}"
    size = "2^n evaluations" if isinstance(estimator, ExactShapley) else "evaluations"
    return f"{size}, too many for {many}"


def _fits(estimator: Method[Any], players: int) -> bool:
    try:
        estimator.cost(players)
    except BadRequest:
        return False
    return True


def cited(row: Composition) -> str:
    """Whom to cite: first author and year."""
    works = references(row.works)
    return "; ".join(
        f"{work.authors.split(',')[0].split(' and ')[0]} {work.year}" for work in works
    )


def first(said: str) -> str:
    """The first sentence of what is said about a row, or its first paragraph."""
    return re.split(r"(?<=[\w)][\w)][.!?])\s", " ".join(said.split("\n\n", maxsplit=1)[0].split()))[
        0
    ].rstrip(":")


def needs_listed(needs: str | None) -> tuple[Need, ...]:
    """The needs that are listed: all, or the one that was asked for."""
    if needs is None:
        return NEEDS
    for need in NEEDS:
        if need == needs:
            return (need,)
    raise BadRequest(f"--needs is one of {', '.join(NEEDS)}; got {needs!r}")
