"""Names are found however they are spelled, in usual names and in the tables alike."""

from __future__ import annotations

from pathlib import Path

import pytest

import apportion as ap
from apportion.compositions import BY_NAME, plain
from apportion.listing import facts, first, in_full, tables
from apportion.lookup import ROWS, found, rows_of

ROOT = Path(__file__).parents[2]
ALL = ("hard", "soft", "gradient")


def shown(name: str) -> str:
    return "\n".join(text for text, _ in in_full(name, 49))


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("Grad-CAM", "grad-cam"),
        ("gradcam", "grad-cam"),
        ("GradCAM++", "grad-cam++"),
        ("integrated gradients", "integrated-gradients"),
        ("IntegratedGradients", "integrated-gradients"),
        ("KernelShap", "kernel-shap"),
        ("kernel_shap", "kernel-shap"),
    ],
)
def test_hyphens_spaces_and_capitals_make_no_difference(asked: str, known: str) -> None:
    assert found(asked)[0] == known
    assert shown(asked) == shown(known)


def test_usual_names_stay_distinct_without_them() -> None:
    assert len({plain(name) for name in BY_NAME}) == len(BY_NAME)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.page}:{row.name}")
def test_every_row_is_found_by_its_name_and_by_its_spelling(row) -> None:
    assert row in rows_of(row.name) and row in rows_of(row.called)
    text = shown(row.name)
    assert row.spelled in text and row.said in text
    page = (ROOT / "docs" / "methods" / f"{row.page}.md").read_text(encoding="utf-8")
    assert f"## {row.name}\n" in page and f"docs/methods/{row.page}.md" in text
    assert first(row.said) and "\n" not in first(row.said)


def test_the_tables_list_every_row_and_by_need_what_has_one() -> None:
    listed = [text for text, _ in tables(ALL, 49)]
    assert all(f"  {row.name}: {first(row.said)}" in listed for row in ROWS)
    soft = "\n".join(text for text, _ in tables(("soft",), 49))
    assert "  rise: " in soft and "  kernel-shap: " not in soft and "  tokens: " not in soft


def test_the_beginning_of_a_single_name_is_enough() -> None:
    assert "ap.ControlVariateShapley" in shown("control-variates")
    with pytest.raises(ap.BadRequest, match=r"nearest are .*permutation"):
        found("perm")


def test_nonsense_has_no_nearest() -> None:
    with pytest.raises(ap.BadRequest, match="apportion methods") as refused:
        found("xqzzy")
    assert "nearest" not in str(refused.value)


def test_costs_that_cannot_be_told_are_a_few_words() -> None:
    assert "2^n evaluations, too many for 49 players;" in facts(ap.ExactShapley(), 49)
    assert "; evaluations, too many for 200 players;" in facts(ap.NShapley(), 200)
    assert "; needs more than 1 player;" in facts(ap.NShapley(), 1)
