"""Blocks for notebooks: self-contained, scoped, escaped, and apart from each other."""

from __future__ import annotations

import re

import pytest

import apportion as ap
from tests.report import made
from tests.report.test_page import KINDS


@pytest.mark.parametrize("kind", list(KINDS))
def test_blocks_style_nothing_but_themselves_and_run_nothing(kind: str) -> None:
    asked = KINDS[kind]()
    for html in (asked._repr_html_(), asked.features._repr_html_()):
        read = made.Page(html)
        assert not read.all("script")
        assert not read.all("h1")
        style = "".join(t for tag, t in read.texts if tag == "style")
        depth, outer = 0, ""
        for char in style:  # selectors that stand outside every block of their own
            depth += {"{": 1, "}": -1}.get(char, 0)
            outer += char if depth == 0 else ""
        assert depth == 0
        assert set(re.sub(r"@media \([^)]*\)|}", "", outer).split()) == {".ap-fragment"}
        assert not re.search(r"(src|href)=\"(?!data:|#)", html)


def test_an_answer_comes_with_its_verdict_and_its_cost() -> None:
    asked = made.text()
    said = made.Page(asked._repr_html_()).text
    for words in (asked.question, asked.answer, "Supported", "uncalibrated", "4,267 forwards"):
        assert words in said


def test_without_support_a_block_gives_no_answer() -> None:
    html = made.image(value=0.1)._repr_html_()
    assert "No answer can be given" in html
    assert html.index("<details") < html.index('<ol class="bars')


def test_a_credit_shows_numbers_but_no_verdict() -> None:
    credit = made.image().features
    said = made.Page(credit._repr_html_()).text
    assert all(c.name in said for c in credit.top(5))
    assert "1,234 evaluations and 7 gradients" in said
    assert "Supported" not in said


def test_blocks_of_the_same_credit_do_not_share_buttons() -> None:
    credit = made.image().features
    pages = [made.Page(credit._repr_html_()) for _ in range(2)]
    names = [{a["name"] for a in p.all("input")} for p in pages]
    assert not names[0] & names[1]


def test_several_outputs_ask_for_a_choice() -> None:
    credit = made.credit(made.plain(4))
    double = ap.Attribution(credit.scores.repeat(2, 1), credit.players)
    assert "credit.pick(...)" in double._repr_html_()


def test_names_are_escaped() -> None:
    credit = made.table([made.HOSTILE, "fine"]).features
    read = made.Page(credit._repr_html_())
    assert not read.all("script")
    assert "<script>alert(1)</script>" in read.text
