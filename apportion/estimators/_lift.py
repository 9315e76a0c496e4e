"""A plain function as an estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType

from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, Cost


@dataclass(frozen=True)
class FromFunction:
    """What `from_function` returns."""

    name: str
    f: Callable[[Game, Generator], Attribution]
    cost: Callable[[int], Cost]
    needs: Need = "hard"
    axioms: frozenset[Axiom] = frozenset()
    cites: tuple[str, ...] = ()
    own_draws: bool = False

    def __repr__(self) -> str:  # without addresses, which differ from run to run
        return self.name

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        return self.f(game, rng)


def from_function(
    f: Callable[[Game, Generator], Attribution],
    cost: Callable[[int], Cost],
    *,
    needs: Need = "hard",
    cites: tuple[str, ...] = (),
    name: str | None = None,
) -> FromFunction:
    """Lifts f(game, rng) -> Attribution into an estimator; `cost(n)` is an upper bound on what it
    asks, `name` what the answer is called, or the function's own name.
    """
    return FromFunction(name or _called(f), f, cost, needs, frozenset(), cites)


def _called(f: Callable) -> str:
    """The name of a function or method; of another callable that of its class."""
    return f.__name__ if isinstance(f, FunctionType | MethodType) else type(f).__name__
