"""Training small classifiers in seconds, the same way every time, without touching the global
random state.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from ._cache import kept


def trained(
    name: str,
    build: Callable[[], nn.Module],
    data: Callable[[], tuple[Tensor, Tensor]],
    epochs: int,
) -> nn.Module:
    """The model, trained once and kept in the cache as safetensors; in evaluation mode."""

    def make(folder: Path) -> None:
        model = seeded(build)
        fit(model, *data(), epochs=epochs)
        save_file(model.state_dict(), folder / "model.safetensors")

    model = seeded(build)
    model.load_state_dict(load_file(kept(name, make) / "model.safetensors"))
    return model.eval()


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A freshly initialised model that depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch: int = 64,
    rate: float = 3e-3,
    seed: int = 0,
) -> None:
    """Adam with a cosine schedule on shuffled batches."""
    rng = Generator().manual_seed(seed)
    steps = epochs * -(-len(x) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(batch):
            optimiser.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
