"""A small convolutional network on scikit-learn's 8 x 8 digits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..subject import Subject
from ..training import AdamW, Cosine, Recipe, Rows, cross_entropy
from ..types import BadRequest
from ._cache import needs
from ._train import trained

TRAIN, TOP = 1297, 16.0  # rows trained on (the other 500 are for testing), largest grey value


def load() -> Subject:
    """At least 94 % right on the 500 digits it was not trained on (they are harder to read);
    trains in seconds, once.
    """
    x, y = data()
    recipe = Recipe(
        build=build, rows=Rows(x[:TRAIN], y[:TRAIN]), loss=cross_entropy,
        optimiser=AdamW(weight_decay=1e-2), schedule=Cosine(5e-3), epochs=12, batch=50,
    )  # fmt: skip
    run = trained("digits-cnn", recipe)
    return Subject(
        run.model(),
        "image",
        preprocess,
        picture,
        labels=tuple("0123456789"),
        background=x[:TRAIN],
        name="digits CNN",
        training=run,
    )


def build() -> nn.Module:
    """Three convolutions, one pooling, 10 scores."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip


def data() -> tuple[Tensor, Tensor]:
    """All 1,797 digits, (row, 1, 8, 8) scaled to 0..1, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise needs("scikit-learn", "pip install 'apportion[zoo]'") from missing
    raw = load_digits()
    return torch.tensor(raw.images, dtype=torch.float32)[:, None] / TOP, torch.tensor(raw.target)


def preprocess(raw: np.ndarray) -> Tensor:
    """An 8 x 8 picture, white on black, 0..255."""
    grey = np.asarray(raw, dtype=np.float32)
    grey = grey.mean(-1) if grey.ndim == 3 else grey
    if grey.shape != (8, 8):
        raise BadRequest(f"the digits model reads 8 x 8 pictures, white on black; got {grey.shape}")
    return torch.tensor(grey)[None, None] / 255


def picture(x: Tensor) -> np.ndarray:
    """The inverse of `preprocess`, for the first instance."""
    grey = (x[0, 0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.stack([grey] * 3, -1)
