"""A plain function as an estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, Cost


@dataclass(frozen=True)
class FromFunction:
    """What `from_function` returns."""

    f: Callable[[Game, Generator], Attribution]
    cost: Callable[[int], Cost]
    needs: Need = "hard"
    axioms: frozenset[Axiom] = frozenset()
    cites: tuple[str, ...] = ()
    own_draws: bool = False

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        return self.f(game, rng)


def from_function(
    f: Callable[[Game, Generator], Attribution],
    cost: Callable[[int], Cost],
    *,
    needs: Need = "hard",
    cites: tuple[str, ...] = (),
) -> FromFunction:
    """Lifts f(game, rng) -> Attribution into an estimator; `cost(n)` is an upper bound on what it
    asks.
    """
    return FromFunction(f, cost, needs, frozenset(), cites)
