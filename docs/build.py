"""Writes docs/methods/*.md from the tables, so that pages cannot drift from the code.

python docs/build.py            write
python docs/build.py --check    fail if a page is out of date
"""

from __future__ import annotations

import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tree the pages belong to, not another one

from apportion import (
    backward,
    citations,
    compositions,
    estimators,
    evaluate,
    linear,
    players,
    removals,
    values,
    zoo,
)
from apportion.backward import response
from apportion.types import BadRequest, Cost

FOLDER = Path(__file__).parent / "methods"
PLAYERS = 49  # that the costs are quoted for
FEW = 10  # where an estimator refuses that many


def described(thing: Any) -> str:
    """A docstring as markdown: indented formulas become code."""
    text = inspect.getdoc(thing) or ""
    keys = set(re.findall(r"\[(\w+\d{4}[b-z]?)\]", text))
    for key in keys & set(citations.REFERENCES):
        text = text.replace(f"[{key}]", f"({citations.REFERENCES[key].authors.split(',')[0]} "
                                        f"{citations.REFERENCES[key].year})")  # fmt: skip
    return text


def comments(cls: type) -> dict[str, str]:
    """What is said about each field, at the field: on its line, or on the lines above."""
    said: dict[str, str] = {}
    above: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            field = re.match(r"\s+(\w+)\s*:", token.line)
            if field:
                said[field[1]] = text
            else:
                above.append(text)
        elif token.type == tokenize.NAME and above:
            said.setdefault(token.string, " ".join(above))
            above = []
    return said


def options(cls: Any) -> list[str]:
    """One line per option: name, default, meaning."""
    said = comments(cls)
    lines = []
    for f in fields(cls):
        default = "required" if f.default is MISSING else f"default `{f.default}`"
        if f.default_factory is not MISSING:
            default = f"default `{f.default_factory()}`"
        lines.append(f"- `{f.name}` ({default}): {said.get(f.name, '')}".rstrip(": "))
    return lines


def quoted(estimator: estimators.Method[Any]) -> tuple[Cost, int]:
    """What it costs, and for how many players."""
    try:
        return estimator.cost(PLAYERS), PLAYERS
    except BadRequest:
        return estimator.cost(FEW), FEW


def estimator_page(title: str, intro: str, table: Mapping[str, Any]) -> str:
    parts = [f"# {title}\n\n{intro}\n"]
    for name, cls in table.items():
        promises = ", ".join(sorted(axiom.value for axiom in cls.axioms)) or "nothing"
        cost, players = quoted(cls())
        parts += [
            f"## {name}\n",
            f"`ap.{cls.__name__}` · needs {cls.needs} · {cost} for {players} players at its "
            f"defaults · promises: {promises}\n",
            described(cls) + "\n",
            *options(cls),
            "",
            *[f"> {citations.REFERENCES[key]}" for key in cls.cites],
            "",
        ]
    return "\n".join(parts)


def rules_page() -> str:
    parts = [
        "# Backward rules\n\nTables that bend gradients, for `game.under(rules)`: the same values, "
        "another derivative. [Patents](../choose.md#patents) may cover some of them.\n"
    ]
    for name, rules in backward.TABLE.items():
        known = sorted({operation.__name__ for operation in rules.known()})
        parts += [f"## {name}\n", f"`{rules.name}`. {rules.claim}\n"]
        parts += ["Knows: " + ", ".join(known) + "\n"] if known else []
        if rules.at_input:
            first = sorted({operation.__name__ for operation in rules.at_input})
            parts += ["Own rule for the layer that reads the input: " + ", ".join(first) + "\n"]
        if rules.fallback:
            local = sorted({operation.__name__ for operation in rules.fallback})
            parts += ["Falls back to local rules for: " + ", ".join(local) + "\n"]
        if rules.at_site is not None:
            parts += [f"At the players' site: {described(rules.at_site)}\n"]
        parts += [*[f"> {citations.REFERENCES[key]}" for key in rules.cites], ""]
    first = plain_page(
        "Rules of the first layer",
        "Joined with a table: `backward.epsilon() | backward.z_box(low, high)`.",
        backward.AT_INPUT,
        "ap.backward.",
    )
    parts.append(first)
    return "\n".join(parts)


def plain_page(title: str, intro: str, table: Mapping[str, Any], prefix: str) -> str:
    """A page of functions or dataclasses: signature and description."""
    parts = [f"# {title}\n\n{intro}\n"]
    for name, thing in table.items():
        called = thing.__name__
        signature = re.sub(r" = Cost\(.*?\)", "", str(inspect.signature(thing)))
        signature = re.sub(r"'", "", signature)
        parts += [f"## {name}\n", f"```text\n{prefix}{called}{signature}\n```\n"]
        parts += [described(thing) + "\n"]
    return "\n".join(parts)


def names_page() -> str:
    """Usual names as code."""
    parts = [
        "# Methods by their usual names\n\nWhat the literature has a name for is here a choice of "
        "players, removal, rules and estimator. The code runs as it stands once `model`, `x`, a "
        "`value` and what else it names are given; `apportion methods NAME` prints it.\n"
    ]
    for family, rows in compositions.FAMILIES.items():
        parts.append(f"## {family.capitalize()}\n")
        for name, row in rows.items():
            cost, players = quoted(row.estimator)
            differs = f" ({row.differs})" if row.differs else ""
            parts += [
                f"### {name}\n",
                f"{row.means.capitalize()}{differs}.\n",
                f"```python\n{row.code}\n```\n",
                f"Needs {row.estimator.needs} · {cost} for {players} players · promises "
                f"{row.promises}\n",
                *[f"> {work}" for work in citations.references(row.works)],
                "",
            ]
    return "\n".join(parts)


def responses_page() -> str:
    """Responses, and the solvers that one of them takes."""
    parts = [
        "# Responses\n\nHow the end of a training answers a change of its rows' loss weights: "
        "`ap.ImplicitGame(game, response)` gives a game of training rows its gradient.\n"
    ]
    for name, cls in [*response.TABLE.items(), *response.SOLVERS.items()]:
        if name == next(iter(response.SOLVERS)):
            parts.append("# Solvers\n\nHow `Influence(solver=...)` inverts the curvature.\n")
        parts += [f"## {name}\n", f"`backward.response.{cls.__name__}`\n", described(cls) + "\n"]
        parts += ["\n".join(options(cls)) + "\n"] if fields(cls) else []
        keys = cls().cites
        if keys:
            parts.append(f"{citations.cite(keys)}\n")
    return "\n".join(parts)


def zoo_page() -> str:
    parts = ["# Zoo\n\nSmall real models from packages; nothing is downloaded at run time.\n"]
    for name, load in zoo.TABLE.items():
        module = inspect.getmodule(load)
        sample = zoo.samples.SUITS[name]
        parts += [f"## {name}\n", f"{described(module)}\n", f"{described(load)}\n"]
        parts += [f"Try it with `sample:{sample}`.\n"]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "names": names_page,
    "estimators": lambda: estimator_page(
        "Estimators",
        "How credit is computed from the values of coalitions. Each runs on every game that offers "
        "what it needs.",
        estimators.TABLE,
    ),
    "interactions": lambda: estimator_page(
        "Interactions",
        "Scores of sets of players, by the same verb: `ap.attribute(game, ap.NShapley())` returns "
        "`Interactions`, with `.top()`, `.matrix()`, `.of(order)` and `.gap`.",
        estimators.INTERACTIONS,
    ),
    "rules": rules_page,
    "players": lambda: plain_page("Players", "Who can be credited.", players.TABLE, "ap.players."),
    "values": lambda: plain_page("Values", "What is explained.", values.TABLE, "ap.values."),
    "removals": lambda: plain_page(
        "Removals",
        "What absence means: `ap.Blend(reference)` puts a reference where a player is absent. "
        "First the references, then the ways to remove.",
        removals.TABLE | removals.HOW,
        "ap.removals.",
    ),
    "linear": lambda: plain_page(
        "Linear models",
        "Shapley values in closed form, from coefficients and background rows.",
        linear.TABLE,
        "ap.linear.",
    ),
    "metrics": lambda: plain_page(
        "Metrics",
        "Is the credit right? Each returns a `Score` with the band where credit without "
        "information lands.",
        evaluate.TABLE,
        "ap.evaluate.",
    ),
    "responses": responses_page,
    "zoo": zoo_page,
}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / f"{name}.md", page().rstrip() + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python docs/build.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
