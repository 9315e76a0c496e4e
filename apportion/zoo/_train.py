"""Training small classifiers in seconds, the same way every time, without touching the global
random state; the training is recorded.
"""

from __future__ import annotations

from pathlib import Path

from ..training import Recipe, TrainingRun, train
from ..training.keeping import load, save
from ..training.refit import Refits
from ._cache import kept


def trained(name: str, recipe: Recipe) -> TrainingRun:
    """The recorded training, run once and kept in the cache by its recipe."""

    def make(folder: Path) -> None:
        save(train(recipe), folder)

    return load(kept(f"{name}-{Refits(recipe).digest[:8]}", make), recipe)
