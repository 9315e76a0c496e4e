"""Small trainings whose answers have closed forms, in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from apportion.training import (
    SGD,
    Constant,
    Queries,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    prediction,
    squared_error,
    train,
)
from tests.small import normal

N, INPUTS = 40, 5


def linear(outputs: int = 1) -> nn.Module:
    return nn.Linear(INPUTS, outputs, bias=False).double()


def tanh_net() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def ridge_data() -> tuple[Tensor, Tensor]:
    x = normal(N, INPUTS, seed=1)
    return x, x @ normal(INPUTS, seed=2) + 0.3 * normal(N, seed=3)


def ended(recipe: Recipe, params: dict[str, Tensor]) -> TrainingRun:
    """A run that ends at given parameters: a converged training, without its way there."""
    none = torch.zeros(0, dtype=torch.float64)
    return TrainingRun(recipe, 0, recipe.batches(0, torch.zeros(recipe.rows.n, dtype=torch.bool)),
                       none, none, {0: params})  # fmt: skip


def ridge(decay: float = 0.2) -> tuple[TrainingRun, Queries]:
    """Ridge regression at its minimum: (1/n) sum of squares / 2 + decay |theta|^2 / 2."""
    x, y = ridge_data()
    recipe = Recipe(
        build=linear, rows=Rows(x, y), loss=squared_error, optimiser=SGD(weight_decay=decay)
    )
    gram = x.T @ x / N + decay * torch.eye(INPUTS, dtype=x.dtype)
    theta = torch.linalg.solve(gram, x.T @ y / N)
    queries = Queries(normal(6, INPUTS, seed=4), None, prediction)
    return ended(recipe, {"weight": theta[None]}), queries


def classes(n: int = 24) -> Recipe:
    """A small classifier trained by momentum."""
    x = normal(n, INPUTS, seed=5)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    return Recipe(
        build=tanh_net, rows=Rows(x, y), loss=cross_entropy,
        optimiser=SGD(momentum=0.8, weight_decay=1e-2), schedule=Constant(0.1), epochs=4, batch=7,
    )  # fmt: skip


def trained(keep: int = 6, **changed: object) -> TrainingRun:
    return train(replace(classes(), **changed), seed=3, keep=keep)


def asked(count: int = 3) -> Queries:
    return Queries(normal(count, INPUTS, seed=6), torch.arange(count) % 3)
