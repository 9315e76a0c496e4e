"""Models and inputs by name, as the command line takes them."""

from __future__ import annotations

import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import zoo
from .subject import Subject
from .types import BadRequest
from .zoo._text import BACKGROUND
from .zoo.samples import SUITS, sample

FORMS = "zoo:NAME, hf:PATH or py:MODULE:FACTORY"


def model_named(name: str) -> Subject:
    """A subject: from the zoo, from a Hugging Face folder, or from a factory of the user's own.

    `py:module:factory` imports that module (also from the current directory, or by the path of its
    file) and calls factory(), which returns a Subject.
    """
    kind, _, rest = name.partition(":")
    if not rest or kind not in ("zoo", "hf", "py"):
        raise BadRequest(f"MODEL is {FORMS}; got {name!r}. The zoo has {', '.join(zoo.TABLE)}")
    if kind == "zoo":
        return zoo.load(rest)
    return _from_folder(rest) if kind == "hf" else _from_factory(rest)


def input_named(subject: Subject, given: str | None, model: str = "") -> Any:
    """The input that a word on the command line means: a sample, a file, numbers, or a text."""
    if given is None:
        own = SUITS.get(model.removeprefix("zoo:"))
        if own is None:
            raise BadRequest(
                "give an INPUT: a picture file, a text, or numbers with commas between"
            )
        return sample(own)
    if given.startswith("sample:"):
        return sample(given.removeprefix("sample:"))
    if subject.kind == "text":
        path = Path(given)
        return path if given.endswith(".txt") and path.is_file() else given
    if subject.kind == "image":
        return given
    return _numbers(given)


def _numbers(given: str) -> list[float]:
    """Numbers with commas between, or the first row of a CSV file that holds any."""
    path = Path(given)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else [given]
    for line in lines:
        try:
            row = [float(cell) for cell in line.split(",")]
        except ValueError:
            continue  # a header
        if not np.isfinite(row).all():
            raise BadRequest(f"the row holds numbers that are not finite: {line[:80]!r}")
        return row
    raise BadRequest(
        f"{given[:80]!r} holds no row of numbers; give numbers with commas between, a CSV file, or "
        "sample:row"
    )


def _from_folder(path: str) -> Subject:
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as missing:
        raise BadRequest("hf: needs transformers: pip install 'apportion[text]'") from missing
    try:
        model = AutoModelForCausalLM.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as failure:
        raise BadRequest(
            f"cannot load a causal language model from {path!r}: {str(failure).splitlines()[0]}"
        ) from failure
    return Subject(
        model.eval(), "text", tokenizer=tokenizer, background=BACKGROUND, name=Path(path).name
    )


def _from_factory(rest: str) -> Subject:
    module_name, _, factory_name = rest.rpartition(":")
    if not module_name:
        raise BadRequest(f"py:{rest} names no factory; write py:MODULE:FACTORY")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = _imported(module_name)
    except (ImportError, OSError) as failure:
        raise BadRequest(f"cannot import {module_name!r}: {failure}") from failure
    if factory_name not in vars(module):
        raise BadRequest(f"{module_name} has no {factory_name!r}")
    made = vars(module)[factory_name]()
    if not isinstance(made, Subject):
        raise BadRequest(
            f"{rest}() returned a {type(made).__name__}; return apportion.Subject(model, 'image'), "
            "or 'text', 'table', 'function': what it reads"
        )
    return made


def _imported(name: str) -> ModuleType:
    """A module by its name, or by the path of its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is no file of Python code")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
