"""Small real models, from packages: nothing is downloaded at run time. One row per model."""

from __future__ import annotations

import difflib

from ..subject import Subject
from ..types import BadRequest
from . import breast_cancer, digits, efficientnet_lite0, minilm, samples, smollm2

TABLE = {
    "efficientnet-lite0": efficientnet_lite0.load,
    "smollm2": smollm2.load,
    "minilm": minilm.load,
    "digits": digits.load,
    "breast-cancer": breast_cancer.load,
}


def load(name: str) -> Subject:
    """A subject by name: `.model`, and `.tokenizer` or `.preprocess` and `.labels` where they
    exist.
    """
    if name not in TABLE:
        near = difflib.get_close_matches(name, TABLE, n=2, cutoff=0.3)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BadRequest(f"the zoo has no {name!r}.{hint} It has {', '.join(TABLE)}.")
    return TABLE[name]()


__all__ = ["TABLE", "load", "samples"]
