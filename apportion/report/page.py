"""The report: one file that answers one or several questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..citations import references
from ..explanation import Explanation
from ..types import BadRequest
from ..wording import MINUS, clock, listed
from .case import Case, case
from .words import number

THINGS = {"image": "a picture", "text": "a text", "table": "a table row", "function": "a function"}


# characters that turn the reading direction of what follows, controls, halves of characters
UNSEEN = re.compile("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(x: object) -> object:
    """Text without characters that would hide or turn round what stands beside them."""
    return UNSEEN.sub("\ufffd", x) if type(x) is str else x


def environment() -> Environment:
    """The templates: everything that is written into them is made visible and escaped."""
    made = Environment(
        loader=PackageLoader("apportion.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": clock,
        "chance": lambda p: f"{p:.2f}" if p >= 0.1 else f"{p:#.2g}",
        "count": lambda x: f"{x:,.0f}",
        "seconds": lambda x: f"{x:,.1f}" if x < 10 else f"{x:,.0f}",
        "first_number": lambda x: x.partition(" ")[0].removeprefix(MINUS),
    }
    return made


ENVIRONMENT = environment()


def report(explanations: Sequence[Explanation], path: str | Path) -> Path:
    """Writes one self-contained HTML file: nothing in it is loaded from elsewhere."""
    if not explanations:
        raise BadRequest("a report needs at least one explanation; give [ap.why(...)]")
    html = page([case(asked, f"q{i}") for i, asked in enumerate(explanations, 1)])
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html, encoding="utf-8")
    except OSError as failure:
        raise BadRequest(
            f"cannot write the report to {target}: {failure.strerror or failure}; choose a file in "
            "a folder you may write to, such as why.report('why.html')"
        ) from failure
    return target


def page(cases: Sequence[Case]) -> str:
    """The page of some cases."""
    things = listed([THINGS.get(c.kind, "an input") for c in cases])
    several = len(cases) > 1
    return ENVIRONMENT.get_template("page.html").render(
        cases=cases,
        title="Why the model did that" if several else cases[0].question,
        subtitle=f"{number(len(cases))} questions: {things}" if several else cases[0].model,
        references=sorted(
            references(key for c in cases for key in c.cites), key=lambda r: (r.authors, r.year)
        ),
    )
