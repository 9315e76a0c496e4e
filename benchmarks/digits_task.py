"""The task of the benchmarks about training rows: a small model on a thousand digits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from apportion.games import RefitGame
from apportion.training import (
    SGD,
    Constant,
    Queries,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    train,
)
from apportion.zoo import digits

ROWS, QUERIES = 1000, 40


@dataclass(frozen=True)
class Task:
    """What is trained on what, and what is asked of it."""

    recipe: Recipe
    queries: Queries
    held_out: Queries  # for choices that may not look at the queries
    base: int  # seeds of the scored models count from here

    def runs(self, count: int, keep: int = 6) -> list[TrainingRun]:
        """Independent trainings: seeds base + 200, 201 ..."""
        return [train(self.recipe, seed=self.base + 200 + k, keep=keep) for k in range(count)]

    def truth(self, present: Tensor, seeds: list[int], semantics: str = "left out") -> Tensor:
        """Values after training on each subset, (set, seed, query)."""
        own = tuple(self.base + s for s in seeds)
        game = RefitGame(self.recipe, self.queries, seeds=own, semantics=semantics)
        gates = present.repeat_interleave(len(seeds), 0)
        draws = torch.arange(len(seeds)).repeat(len(present))
        return game.value(gates, draws).reshape(len(present), len(seeds), -1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GELU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.GELU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


def tiny() -> nn.Module:
    """For smoke runs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.GELU(), nn.Linear(6, 10))


MODELS = {"mlp": mlp, "cnn": cnn, "tiny": tiny}


def task(
    model: str, seed: int = 0, *, epochs: int = 30, rate: float = 0.1, rows: int = ROWS
) -> Task:
    """1000 digits to train on, 40 to ask about, 100 others to choose by; the split follows the
    seed.
    """
    x, y = digits.data()
    order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
    train_rows, asked = order[:rows], order[ROWS : ROWS + QUERIES]
    other = order[ROWS + QUERIES : ROWS + QUERIES + 100]
    recipe = Recipe(
        build=MODELS[model], rows=Rows(x[train_rows], y[train_rows]), loss=cross_entropy,
        optimiser=SGD(momentum=0.9, weight_decay=1e-3), schedule=Constant(rate), epochs=epochs,
        batch=50,
    )  # fmt: skip
    return Task(recipe, Queries(x[asked], y[asked]), Queries(x[other], y[other]), 10_000 * seed)
