"""Games with exact Shapley values for benchmarks/error.py: every coalition's value in a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

import apportion as ap

COLUMNS = 12


@dataclass(frozen=True, eq=False)
class Table:
    """A game by its 2^n values; counts how often it is asked."""

    n: int
    worth: Tensor  # by the number whose bits say who is present
    truth: np.ndarray

    @classmethod
    def of(cls, n: int, worth: Tensor) -> Table:
        game = ap.FunctionGame(lambda g: worth[(g.long() << torch.arange(n)).sum(-1)], n)
        return cls(n, worth, ap.attribute(game, ap.ExactShapley()).scores.numpy())

    @property
    def game(self) -> ap.FunctionGame:
        return ap.FunctionGame(
            lambda g: self.worth[(g.long() << torch.arange(self.n)).sum(-1)], self.n
        )


def every(n: int) -> Tensor:
    return ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).bool()


def network(seed: int, rows: int) -> list[Table]:
    """The logit of "malignant" of a network on the first 12 standardised columns of the
    breast-cancer table, at rows it was not trained on; an absent column is 0.
    """
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    rng = Generator().manual_seed(seed)
    order = torch.randperm(len(raw.data), generator=rng)
    x, y = torch.tensor(raw.data[:, :COLUMNS])[order], torch.tensor(raw.target)[order]
    x = (x - x[:400].mean(0)) / x[:400].std(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(COLUMNS, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
        ).double()
    descent = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        descent.zero_grad()
        nn.functional.cross_entropy(model(x[:400]), y[:400]).backward()
        descent.step()
    present = every(COLUMNS)
    with torch.no_grad():
        return [Table.of(COLUMNS, model(present * x[400 + r])[:, 0]) for r in range(rows)]


def order_three(seed: int, rows: int) -> list[Table]:
    """Random games in which at most three of 14 players interact."""
    present = every(14)
    games = (ap.toy.moebius(14, 3, Generator().manual_seed(1000 * seed + r)) for r in range(rows))
    return [Table.of(14, game.value(present)) for game in games]


def unstructured(seed: int, rows: int) -> list[Table]:
    """A random number for each coalition of 12 players."""
    rngs = (Generator().manual_seed(1000 * seed + r) for r in range(rows))
    return [Table.of(12, torch.randn(2**12, generator=g, dtype=torch.float64)) for g in rngs]


TASKS = {"mlp": network, "toy": order_three, "random": unstructured}
