"""Inputs to try the zoo with. They come with scikit-learn and scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..types import BadRequest
from . import breast_cancer, digits
from ._cache import needs

TEXT = "When Mary and John went to the store, John gave a drink to"
DIGIT, ROW = 1500, 450  # neither was trained on


def sample(name: str) -> Any:
    """A raw input by name: cat, coffee, text, digit or row."""
    if name not in TABLE:
        raise BadRequest(f"there is no sample {name!r}; there are {', '.join(TABLE)}")
    return TABLE[name]()


def cat() -> Any:
    """Chelsea the cat, 451 x 300 pixels (Stefan van der Walt, CC0)."""
    return _pictures().chelsea()


def coffee() -> Any:
    """A cup of espresso (Rachel Michetti, CC0)."""
    return _pictures().coffee()


def text() -> str:
    """The indirect object: who gets the drink?"""
    return TEXT


def digit() -> Any:
    """One of scikit-learn's digits, as the digits model takes it."""
    x, _ = digits.data()
    return x[DIGIT : DIGIT + 1]


def row() -> Any:
    """One row of the breast-cancer table, unscaled."""
    x, _, _ = breast_cancer.data()
    return x[ROW]


def _pictures() -> Any:
    try:
        from skimage import data
    except ImportError as missing:
        raise needs("scikit-image", "pip install 'apportion[zoo]'") from missing
    return data


TABLE: dict[str, Callable[[], Any]] = {
    "cat": cat,
    "coffee": coffee,
    "text": text,
    "digit": digit,
    "row": row,
}
SUITS = {  # the sample a zoo model is tried with
    "efficientnet-lite0": "cat",
    "smollm2": "text",
    "minilm": "text",
    "digits": "digit",
    "breast-cancer": "row",
}
