"""README and pages: short, true, and runnable."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import apportion as ap
from apportion.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [p for p in PAGES if "out" not in p.parts]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_readme_is_short_and_opens_with_a_report() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    picture = re.search(r"!\[[^\]]+\]\(([^)]+)\)", "\n".join(text.splitlines()[:25]))
    assert picture
    assert (ROOT / picture[1]).exists()


def test_contributing_is_short() -> None:
    assert (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").count("\n") < 60


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_python_in_pages_uses_names_that_exist(path: Path) -> None:
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ap."):
                thing = ap
                for part in ast.unparse(node).split(".")[1:]:
                    assert part in dir(thing), ast.unparse(node)
                    thing = vars(thing).get(part, thing)
                    if not isinstance(thing, type(ap)):
                        break


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_commands_in_pages_exist(path: Path) -> None:
    commands = re.findall(r"^(?:\$ )?apportion (\w+)((?: --[a-z]+)*)", "\n".join(
        [*blocks(path, "sh"), *blocks(path, "console")]), re.MULTILINE)  # fmt: skip
    for command, _ in commands:
        done = CliRunner().invoke(app, [command, "--help"])
        assert done.exit_code == 0, command


def test_patents_are_mentioned_where_people_choose_a_method() -> None:
    assert "patent" in (ROOT / "docs" / "choose.md").read_text(encoding="utf-8")


def test_changelog_names_this_version() -> None:
    assert f"## {ap.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
