"""The command line: one line per refusal, exit codes, examples that exist."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from apportion.cli import _seconds, app

COMMANDS = ("why", "methods", "doctor", "report", "demo")


def run(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_uses_the_command(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"apportion {command}" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("why", "zoo:lenet"), "the zoo has no 'lenet'"),
        (("why", "zoo:digts"), "Did you mean 'digits'"),
        (("why", "lenet"), "zoo:NAME, hf:PATH or py:MODULE:FACTORY"),
        (("why", "py:json"), "py:MODULE:FACTORY"),
        (("why", "py:json:loadz"), "has no 'loadz'"),
        (("why", "py:no_such_module_at_all:f"), "cannot import"),
        (("why", "hf:/no/such/folder"), "cannot load"),
        (("why", "zoo:digits", "no-such-picture.png"), "cannot read no-such-picture.png"),
        (("why", "zoo:digits", "sample:horse"), "no sample 'horse'"),
        (("why", "zoo:breast-cancer", "1,2,3"), "3 values"),
        (("why", "zoo:breast-cancer", "one,two"), "no row of numbers"),
        (("why", "zoo:digits", "--target", "12"), "out of range"),
        (("why", "zoo:digits", "--out", "/proc/nowhere/why.html"), "cannot write"),
        (("methods", "--needs", "magic"), "hard, soft, gradient"),
        (("methods", "rise", "--needs", "gradient"), "shows one method in full"),
        (("methods", "rise", "--tables"), "shows one method in full"),
        (("doctor", "zoo:digits", "--rules", "magic"), "cp-lrp"),
        (("report", "/no/such/folder"), "holds neither"),
    ],
)
def test_refusals_are_one_line_with_exit_code_two(words: tuple, message: str, tmp_path) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_misspelt_options_are_refused_with_the_right_one() -> None:
    done = run("why", "zoo:digits", "--budgt", "3")
    assert done.exit_code == 2
    assert "--budget" in done.output


def test_a_picture_that_is_none_is_refused(tmp_path) -> None:
    fake = tmp_path / "cat.png"
    fake.write_text("not a picture")
    done = run("why", "zoo:digits", str(fake))
    assert done.exit_code == 2
    assert "as a picture" in done.output


def test_why_prints_the_answer_writes_the_report_and_saves(tmp_path) -> None:
    page, folder = tmp_path / "deep" / "why.html", tmp_path / "answer"
    done = run("why", "zoo:digits", "--budget", "3", "--out", str(page), "--save", str(folder))
    assert done.exit_code == 0, done.output
    assert "Why does digits CNN call this picture" in done.output
    assert re.search(r"(supported|weak|not supported) \(uncalibrated\), decided by", done.output)
    assert page.stat().st_size > 10_000
    again = tmp_path / "again.html"
    assert run("report", str(folder), "--out", str(again)).exit_code == 0
    assert again.read_text() == page.read_text()


def test_times_are_seconds_or_minutes() -> None:
    times = ("90", "90s", "1.5m", " 90S ", 90.0)
    assert {_seconds(given) for given in times} == {90.0}
    done = run("why", "zoo:digits", "--budget", "soon")
    assert done.exit_code == 2
    assert "60, 60s or 2m" in done.output


def test_a_factory_of_the_users_own(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np, torch\n"
        "from apportion import Subject\n"
        "def make():\n"
        "    f = lambda rows: np.stack([rows[:, 0], -rows[:, 1]], -1)\n"
        "    return Subject(f, 'function', background=torch.zeros(3, 2), labels=('up', 'down'))\n"
        "def wrong():\n"
        "    return 7\n"
    )
    words = [sys.executable, "-m", "apportion", "why", "py:mine:make", "1,2", "--budget", "2s"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "up" in done.stdout
    words[4] = "py:mine:wrong"
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "returned a int" in done.stderr


FACTORIES = """
import torch
from apportion import Subject
class Words:
    def decode(self, ids): return " ".join(map(str, ids))
    def __call__(self, text, return_tensors=None):
        return {"input_ids": torch.tensor([[int(word) for word in text.split()]])}
class Sided(torch.nn.Embedding):
    def __init__(self):
        super().__init__(9, 3)
        self.config = type("Config", (), {})()
        self.config.is_encoder_decoder = True
    def forward(self, input_ids, decoder_input_ids=None):
        if decoder_input_ids is None:
            raise ValueError("give decoder_input_ids")
        return super().forward(decoder_input_ids)[:, -1]
table = lambda: Subject(torch.nn.Linear(2, 3), "table")
words = lambda: Subject(torch.nn.Embedding(9, 3), "text", tokenizer=Words())
sided = lambda: Subject(Sided(), "text", tokenizer=Words())
silent = lambda: Subject(torch.nn.Embedding(9, 3), "text")
picture = lambda: Subject(torch.nn.Conv2d(3, 2, 1), "image")
bare = lambda: torch.nn.Linear(2, 3)
"""


@pytest.mark.parametrize(
    ("factory", "given", "message"),
    [
        ("table", "1,2,3", "could not run on this input (input: float32 (1, 3))"),
        ("words", "3 40", "could not run on this input (input: int64 (1, 2)): index out of range"),
        ("sided", "3 4", "reads two texts; ask about both"),
        ("silent", "3 4", "needs tokenizer=, such as AutoTokenizer.from_pretrained(path)"),
        ("picture", "x.png", "give Subject(preprocess=f), where f turns uint8 (height, width, 3)"),
        ("bare", "1,2", "returned a Linear; return apportion.Subject(model, 'image'), or 'text'"),
    ],
)
def test_doctor_tells_a_newcomer_what_to_write(factory, given, message, tmp_path) -> None:
    """Factories are also found by the path of their file."""
    (tmp_path / "mine.py").write_text(FACTORIES)
    if factory == "picture":
        given = str(tmp_path / given)
        from PIL import Image

        Image.new("RGB", (4, 4)).save(given)
    with torch.random.fork_rng(devices=[]):  # as a factory may draw its weights
        done = run("doctor", f"py:{tmp_path / 'mine.py'}:{factory}", given)
        assert run("doctor", f"py:{tmp_path / 'mine.py'}:table", "1,2").exit_code == 0
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert message in " ".join(done.output.split())
    assert "cannot import" in run("doctor", f"py:{tmp_path / 'other.py'}:table", "1,2").output


def test_interruption_exits_with_130(monkeypatch) -> None:
    from apportion import cli

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "ask", interrupted)
    done = run("why", "zoo:digits")
    assert done.exit_code == 130
    assert "interrupted" in done.output


def test_methods_lists_usual_names_every_row_and_one_in_full() -> None:
    from apportion.compositions import BY_NAME
    from apportion.estimators import INTERACTIONS, TABLE

    usual = run("methods").stdout
    assert all(f"  {name}: " in usual for name in BY_NAME)
    assert "Sundararajan 2017" in usual
    everything = run("methods", "--tables").stdout
    assert all(f"  {name}: " in everything for name in [*TABLE, *INTERACTIONS])
    some = run("methods", "--needs", "gradient").stdout
    assert "integrated-gradients" in some
    assert "kernel-shap" not in some
    one = run("methods", "grad-cam").stdout
    assert BY_NAME["grad-cam"].code.splitlines()[0] in one
    assert "Selvaraju" in one
    assert "ap.KernelShap" in run("methods", "kernel-shap").stdout
    refused = run("methods", "gradcma")
    assert refused.exit_code == 2
    assert "grad-cam" in refused.output


def test_doctor_says_what_can_be_asked_and_what_has_no_rule() -> None:
    done = run("doctor", "zoo:digits", "--rules", "guided")
    assert done.exit_code == 0
    assert "without a rule" in done.stdout
    assert "conv2d" in done.stdout
    assert "every operation" in run("doctor", "zoo:digits").stdout
