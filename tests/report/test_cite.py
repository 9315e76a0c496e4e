"""Every method can be cited, and every reference carries an identifier."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import apportion as ap
from apportion import backward, estimators
from apportion.backward import response
from apportion.citations import REFERENCES, TOPICS, cite, references
from apportion.pairs import PATHS, RULES
from apportion.report.case import CITED_BY
from tests.report import made

ROOT = Path(ap.__file__).parent


def keys() -> set[str]:
    methods = [*estimators.TABLE.values(), *estimators.INTERACTIONS.values()]
    found = {key for cls in methods for key in cls.cites}
    found |= {key for rules in backward.TABLE.values() for key in rules.cites}
    found |= {key for cls in response.SOLVERS.values() for key in cls.cites}
    for cls in response.TABLE.values():
        found |= set(cls().cites)
    for path in ROOT.rglob("*.py"):
        found |= set(re.findall(r"\[([a-z]+(?:19|20)\d\d[a-z]?)\]", path.read_text("utf-8")))
    return found | set(CITED_BY.values()) | {*PATHS, *RULES}


def test_the_table_holds_what_the_methods_cite_and_nothing_else() -> None:
    assert set(REFERENCES) == keys()


def test_a_work_is_kept_under_one_topic() -> None:
    kept = Counter(key for topic in TOPICS for key in topic.WORKS)
    assert [key for key, times in kept.items() if times > 1] == []


@pytest.mark.parametrize("key", list(REFERENCES))
def test_references_are_whole(key: str) -> None:
    work = REFERENCES[key]
    first = re.sub(r"\W", "", work.authors.split(",")[0].split(" and ")[0]).lower()
    assert re.fullmatch(f"{first}{work.year}[b-z]?", key)  # a letter for the second of a year
    assert work.ids
    for id in work.ids:
        assert re.fullmatch(r"doi:10\.\d{4,}/\S+|arXiv:\d{4}\.\d{4,5}", id)
    assert "http" not in str(work)


def test_one_line_for_each_work_in_order() -> None:
    lines = cite(["castro2009", "bach2015", "castro2009"]).splitlines()
    assert [line.split()[0] for line in lines] == ["Castro,", "Bach,"]
    assert made.plainly().features.cite().count("\n") == 1


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="nobody1900"):
        references(["nobody1900"])
