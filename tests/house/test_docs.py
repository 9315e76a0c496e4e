"""Pages are generated from the tables, their code runs, and so do the gallery scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import apportion as ap
from apportion.games import toy
from tests.oracles.trained import asked, trained
from tests.small import close, normal

DOCS = Path(__file__).parents[2] / "docs"
GALLERY = sorted((DOCS / "gallery").glob("*.py"))


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words], capture_output=True, text=True, check=False
    )


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_generated_pages_are_up_to_date() -> None:
    done = run(str(DOCS / "build.py"), "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", GALLERY, ids=lambda p: p.stem)
def test_gallery_script_runs(script: Path) -> None:
    done = run(str(script), "--fast")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_estimator_of_the_extension_page_works_as_it_claims(monkeypatch) -> None:
    module = ModuleType("extension")
    monkeypatch.setitem(sys.modules, "extension", module)  # dataclasses look their module up
    scope = vars(module)
    exec(blocks("extend.md")[0], scope)
    weights = normal(5)
    credit = ap.attribute(toy.additive(weights), scope["BothEnds"]())
    close(credit.scores, weights)
    game = toy.moebius(5, 3, torch.Generator().manual_seed(0))
    both = ap.attribute(game, scope["BothEnds"]())
    first, last = (ap.attribute(game, one()).scores for one in (ap.AddOneIn, ap.LeaveOneOut))
    close(both.scores, (first + last) / 2)
    pairs = toy.moebius(5, 2, torch.Generator().manual_seed(1))
    close(ap.attribute(pairs, scope["BothEnds"]()).scores, pairs.shapley())
    assert "both-ends" not in ap.estimators.TABLE  # the example is one that is not there yet


def test_the_estimator_of_the_extension_page_joins_the_library_as_told(tmp_path) -> None:
    """In a copy: one file, its row and names, small settings; then the contract suite passes."""
    root = DOCS.parent
    for folder in ("apportion", "tests"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / folder, tmp_path / folder, ignore=skip)
    shutil.copy(root / "pyproject.toml", tmp_path)

    def edit(file: str, old: str, new: str) -> None:
        path = tmp_path / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    table, all_of_it = "apportion/estimators/__init__.py", "apportion/__init__.py"
    (tmp_path / "apportion/estimators/both_ends.py").write_text(blocks("extend.md")[0])
    edit(table, "from .c_lime", "from .both_ends import BothEnds\nfrom .c_lime")
    edit(table, '    "owen": Owen,\n', '    "owen": Owen,\n    "both-ends": BothEnds,\n')
    edit(table, '    "CLime",\n', '    "CLime",\n    "BothEnds",\n')
    edit(all_of_it, "    CLime,\n", "    CLime,\n    BothEnds,\n")
    edit(all_of_it, '    "CLime",\n', '    "CLime",\n    "BothEnds",\n')
    settings = "tests/contracts/settings.py"
    edit(settings, '    "owen": ', '    "both-ends": ap.BothEnds(),\n    "owen": ')
    edit(settings, "DETERMINISTIC = (", "DETERMINISTIC = (\n    ap.BothEnds,")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/contracts/test_estimators.py",
         "-k", "both-ends or small_setting"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert len(re.findall(r"\.", done.stdout.splitlines()[0])) > 15


def test_the_other_examples_of_the_extension_page_run(monkeypatch) -> None:
    players, rules, answer = blocks("extend.md")[1:]
    scope: dict = {}
    exec(players, scope)
    assert scope["halves"](normal(1, 6)).n == 2
    exec(rules, scope)
    assert "mine" in scope["mine"].name
    module = ModuleType("answering")
    monkeypatch.setitem(sys.modules, "answering", module)
    exec(answer, vars(module))
    run, queries = trained(), asked()
    expected = 0.1 * ap.backward.response.GradDot()([run], queries)
    close(vars(module)["OneStep"]()([run], queries), expected, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("block", [2, 3])
def test_the_examples_of_the_first_page_run(block: int) -> None:
    scope: dict = {}
    exec(blocks("start.md")[block], scope)
    assert scope["credit"].scores.isfinite().all()


def test_the_page_about_training_examples_runs() -> None:
    scope: dict = {}
    with torch.random.fork_rng(devices=[]):  # a loop of one's own starts from the global generator
        for block in blocks("training.md"):
            exec(block.replace("budget=60", "budget=20").replace("epochs=30", "epochs=4"), scope)
    assert scope["why"].examples.players.n == 1000
    assert scope["credit"].scores.shape == (5, 1000)
