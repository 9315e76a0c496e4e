"""Models, gates and games that the contract tests of games share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.games import Ledger, counted, toy
from apportion.removals import Reference
from tests.small import mlp, normal, seeded, table_game

ZEROS = ap.Blend(ap.removals.zeros())
X = normal(1, 6, seed=1)
HIDDEN = "0"  # the first layer of `mlp`, eight units wide


class Plainly(nn.Module):
    """A function of the input as a module."""

    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Any:
        return self.f(x)


class Counting(nn.Module):
    """Remembers how many rows each forward pass held; above `most` of them memory runs out."""

    def __init__(self, most: int = 10**9, failure: Exception | None = None) -> None:
        super().__init__()
        self.inner = mlp()
        self.most, self.rows = most, []
        self.failure = failure or torch.OutOfMemoryError("CUDA out of memory (pretended)")

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.failure
        self.rows.append(len(x))
        return self.inner(x)


@dataclass(frozen=True)
class Hard:
    """A removal that knows no fractions, as infilling does."""

    reference: Reference
    domain: Literal["binary", "unit"] = "binary"
    draws: int | None = 1

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        assert keep.dtype == torch.bool
        return torch.where(keep, x, absent)


def asking(model: nn.Module, x: Any = X, removal: Any = ZEROS, **more: Any) -> ap.ModelGame:
    """A game about the first output, by default with the columns of the input as players."""
    value = more.pop("value", ap.values.Logit(0))
    players = more.pop("players", None)
    players = ap.players.columns(x) if players is None else players
    return ap.ModelGame(model, x, value, players, removal, **more)


def hard(*rows: str) -> Tensor:
    """Coalitions spelt as rows of 0 and 1."""
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def some(n: int, rows: int = 5, seed: int = 3) -> Tensor:
    """Random coalitions."""
    return torch.rand(rows, n, generator=Generator().manual_seed(seed)) < 0.5


def soft(n: int, rows: int = 3, seed: int = 4) -> Tensor:
    """Random fractional gates in float64, a step away from both ends."""
    inner = torch.rand(rows, n, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return 0.01 + 0.98 * inner


def mixed(model: nn.Module | None = None, removal: Any = ZEROS) -> ap.ModelGame:
    """Six columns and eight hidden units in one game."""
    model = mlp() if model is None else model
    both = ap.players.columns(X) | ap.players.neurons(model, HIDDEN)
    return asking(model, X, removal, players=both)


def stochastic(draws: int = 4) -> toy.MoebiusGame:
    return toy.moebius(5, 2, Generator().manual_seed(2), draws=draws)


def marginal(rows: int = 4) -> ap.ModelGame:
    """Columns replaced by those of a background row, one per draw."""
    return table_game(removal=ap.Blend(ap.removals.rows(normal(rows, 6, seed=9))))


def curve(gates: Tensor) -> Tensor:
    g = gates.double()
    return torch.stack([(g**2).sum(1), (g[:, :2].prod(1) - g[:, 2]).exp()], 1)


def function() -> ap.FunctionGame:
    return ap.FunctionGame(curve, 4, domain="unit", differentiable=True)


PLAIN = {
    "features": table_game,
    "components": lambda: asking(model := mlp(), players=ap.players.neurons(model, HIDDEN)),
    "features and components": mixed,
    "several outputs": lambda: table_game(ap.values.Probability((0, 2))),
    "several instances": lambda: table_game(instances=3),
    "function": function,
    "moebius": lambda: toy.moebius(5, 3, Generator().manual_seed(0)),
    "additive": lambda: toy.additive(normal(2, 4), base=0.3),
}
WRAPPED = {
    "counted": lambda: counted(table_game(), Ledger()),
    "cached": lambda: ap.cached(table_game()),
    "chunked": lambda: ap.chunked(table_game(), 2),
    "chunked as measured": lambda: ap.chunked(table_game()),
    "averaged": lambda: ap.averaged(marginal()),
    "averaged toy": lambda: ap.averaged(stochastic(), 2, seed=1),
    "picked": lambda: ap.picked(table_game(ap.values.Logit((0, 2))), 1),
    "all of them": lambda: ap.averaged(
        counted(ap.cached(ap.chunked(ap.picked(marginal()), 3)), Ledger())
    ),
}
EVERY = {**PLAIN, **WRAPPED}


def tiny(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> nn.Module:
    return seeded(build, dtype=dtype)
