"""The report: complete, self-contained, escaped, and silent where there is no answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import apportion as ap
from apportion.explanation import Explanation
from apportion.report import page, report
from apportion.wording import signed
from tests.report import made

KINDS: dict[str, Callable[..., Explanation]] = {
    "image": made.image,
    "digit": made.digit,
    "text": made.text,
    "table": made.table,
    "function": made.plainly,
}


def drawn(tmp_path: Path, *asked: Explanation) -> str:
    return report(asked, tmp_path / "why.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_page_is_well_formed_and_needs_nothing_from_elsewhere(
    kind: str, tmp_path: Path
) -> None:
    html = drawn(tmp_path, KINDS[kind]())
    read = made.Page(html)
    for _, attributes in read.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert re.match(
                r"(data:image/(png|jpeg);base64,[\w+/=]+|#\w+)?$", attributes.get(name, "")
            )
    assert all(re.match(r"(data:image/|#)", url) for url in re.findall(r"url\(\"?'?([^)]*)", html))
    assert "@import" not in html
    assert [a for a in read.all("link") if a.get("rel") != "x"] == []
    policy = next(a for a in read.all("meta") if "http-equiv" in a)["content"]
    assert "default-src 'none'" in policy
    assert len(html.encode()) < 400_000


@pytest.mark.parametrize("kind", list(KINDS))
def test_headings_pictures_and_numbers_can_be_reached_without_eyes(
    kind: str, tmp_path: Path
) -> None:
    read = made.Page(drawn(tmp_path, KINDS[kind](), made.table()))
    assert len(read.all("h1")) == 1
    assert len([a for a in read.all("h2") if "ans" in a.get("class", "")]) == 1
    assert all(a.get("aria-label") for _, a in read.elements if a.get("role") == "img")
    assert all("alt" in a for a in read.all("img"))
    svgs = read.all("svg")
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in svgs)
    ids = [a["id"] for _, a in read.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    assert read.with_class("skip")[0]["href"] == "#q1"
    assert {a["href"].removeprefix("#") for a in read.all("a")} <= set(ids)
    labelled = [a["aria-labelledby"] for a in read.all("section")]
    assert set(labelled) <= set(ids)


@pytest.mark.parametrize("kind", list(KINDS))
def test_everything_that_is_known_is_said(kind: str, tmp_path: Path) -> None:
    asked = KINDS[kind]()
    said = made.Page(drawn(tmp_path, asked)).text
    assert asked.question in said
    assert asked.answer in said
    for text in (asked.trust.reason, asked.value, asked.absent, asked.model, *asked.left_out):
        assert (text.partition(": ")[2] or text)[1:] in said
    for check in (*asked.trust.checks, *asked.other_checks.values()):
        assert check.name[1:] in said
        assert check.state[1:] in said
        assert check.can in said
        assert check.cannot in said
        score = check.score
        if score is not None and score.unit == "rank correlation":
            assert f"{signed(score.value)} rank correlation" in said
            assert f"p = {score.p_value:.2g}" in said
            if check.wants != "nothing":
                assert f"{signed(score.chance[0])} to {signed(score.chance[1])}" in said
    for part in asked.parts:
        assert f"{part.name} {part.forwards:,.0f} {part.backwards:,.0f}" in said
    assert " ".join(asked.code.split()) in said
    assert "Seed 5." in said
    assert "torch 2.13.0" in said
    assert "doi:10.1016/j.cor.2008.04.004" in said
    assert "uncalibrated" in said
    for label, _ in asked.prediction.others:
        assert label in said


@pytest.mark.parametrize("kind", ["image", "text", "table", "function"])
def test_every_credit_of_a_short_list_stands_there_with_its_interval(
    kind: str, tmp_path: Path
) -> None:
    asked = KINDS[kind]()
    said = made.Page(drawn(tmp_path, asked)).text
    for i in range(asked.features.players.n):
        name, score, _, _ = asked.features[i]
        assert f"{name}" in said
        assert f"{signed(score)} ± 0.10" in said


def test_a_long_list_keeps_the_first_nine_and_the_last_two(tmp_path: Path) -> None:
    asked = made.plainly(500)
    read = made.Page(drawn(tmp_path, asked))
    ranked = asked.features.top(500, signed=True)
    shown = [a["title"] for a in read.with_class("nm") if "title" in a]
    assert shown == [c.name for c in (*ranked[:9], *ranked[-2:])]
    between = sum(c.score for c in ranked[9:-2])
    assert f"489 players between, together {signed(between)}" in read.text


def test_components_show_the_largest_and_what_the_rest_sums_to(tmp_path: Path) -> None:
    asked = made.image()
    said = made.Page(drawn(tmp_path, asked)).text
    largest = asked.components.top(8)
    assert all(f"{c.name} {signed(c.score)}" in said for c in largest)
    rest = float(asked.components.sum()) - sum(c.score for c in largest)
    assert f"32 others, together {signed(rest)}" in said
    assert "+3.21" in said


def test_heads_and_mlps_become_one_map_for_screens_and_an_upright_one_for_phones(
    tmp_path: Path,
) -> None:
    asked = made.text()
    read = made.Page(drawn(tmp_path, asked))
    maps = read.with_class("map")
    assert len(maps) == 2
    assert sum("phone" in a["class"] for a in maps) == 1
    assert len(read.with_class("cell")) == 2 * asked.components.players.n
    titles = "".join(t for tag, t in read.texts if tag == "title")
    for i in range(asked.components.players.n):
        name, score, _, _ = asked.components[i]
        assert f"{name}: {signed(score)}" in titles


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_support_there_is_no_answer_and_the_credit_waits_to_be_asked_for(
    kind: str, tmp_path: Path
) -> None:
    asked = KINDS[kind](value=0.3)
    assert asked.trust.verdict == "not supported"
    html = drawn(tmp_path, asked)
    read = made.Page(html)
    assert "No answer can be given" in read.text
    assert "hiefly" not in read.text
    assert "Not supported" in read.text
    held = html.index('<details class="held">')
    first_bar = html.index('<ol class="bars')
    assert held < first_bar < html.index("</details>", first_bar)
    assert "which is not supported" in html[held:first_bar]


def test_unsupported_pixels_say_so_where_they_are_shown(tmp_path: Path) -> None:
    asked = made.image()
    html = drawn(tmp_path, asked)
    caption = html[html.index('class="cap c1"') : html.index('class="cap c2"')]
    assert "Not supported." in caption
    assert "+0.40 nats" in caption


def test_several_questions_share_one_page_and_an_index(tmp_path: Path) -> None:
    asked = [make() for make in KINDS.values()]
    read = made.Page(drawn(tmp_path, *asked))
    assert len(read.all("section")) == len(asked)
    assert [a["href"] for a in read.all("a")][1:] == [f"#q{i}" for i in range(1, len(asked) + 1)]
    assert "Five questions: a picture, a picture, a text, a table row and a function" in read.text
    names = [a["name"] for a in read.all("input") if a.get("type") == "radio"]
    assert len(set(names)) == 2  # one group for each picture


HOSTILE = made.HOSTILE


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(lambda: made.table([HOSTILE, f"{HOSTILE}2", "fine"]), id="columns"),
        pytest.param(lambda: made.text([HOSTILE, "\" onload='x'", "\ud800 half"]), id="tokens"),
        pytest.param(lambda: made.image(label=HOSTILE, model=HOSTILE, value=2.4), id="labels"),
        pytest.param(lambda: made.digit(code=HOSTILE, left_out=(HOSTILE,)), id="code"),
        pytest.param(lambda: made.text(absent=HOSTILE, absent_component=HOSTILE), id="absence"),
    ],
)
def test_somebody_elses_text_stays_text(asked: Callable[[], Explanation], tmp_path: Path) -> None:
    plain, hostile = drawn(tmp_path, made.image()), drawn(tmp_path, asked())
    read = made.Page(hostile)
    assert len(read.all("script")) == len(made.Page(plain).all("script"))
    assert len(read.all("style")) == 1
    known = {name for _, attributes in made.Page(plain).elements for name in attributes}
    assert not {n for _, a in read.elements for n in a if n.startswith("on")}
    new = {name for _, attributes in read.elements for name in attributes} - known
    assert new <= {"colspan"}
    assert "<script>alert(1)</script>\"'</style>" in read.text
    assert "alert" not in "".join(t for tag, t in read.texts if tag in ("script", "style"))
    assert "\u202e" not in hostile  # would turn round what stands beside it
    assert "\u732b\U0001f408" in hostile


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ap.BadRequest, match=r"file.*choose a file in a folder you may write"):
        report([made.plainly()], blocked / "why.html")
    with pytest.raises(ap.BadRequest, match="at least one"):
        report([], tmp_path / "why.html")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    target = made.plainly().report(tmp_path / "a" / "b" / "why.html")
    assert target.exists()


def test_photographs_without_pillow_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ap.BadRequest, match=r"apportion\[vision\]"):
        report([made.image()], tmp_path / "why.html")
    assert report([made.digit(), made.text()], tmp_path / "why.html").exists()


def test_a_large_photograph_stays_a_small_report(tmp_path: Path) -> None:
    asked = made.image(shown=1400)
    assert len(drawn(tmp_path, asked).encode()) < 400_000


def test_templates_mark_nothing_as_safe() -> None:
    folder = Path(page.__file__).parent / "templates"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text


def test_saved_and_loaded_answers_draw_the_same_page(tmp_path: Path) -> None:
    asked = made.image()
    again = ap.load(asked.save(tmp_path / "saved"))
    assert drawn(tmp_path, asked) == drawn(tmp_path, again)
