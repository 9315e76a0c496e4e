"""Can the answer be believed? The checks behind a verdict, and the rule that combines them.

    not supported   adding and removing players in order of credit matters no more than random
                    orders do, or a check that must hold is broken
    weak            it does matter, but a required check lies inside its band, outside by less than
                    its own standard error, or was not asked; or there are too few players for
                    any comparison with chance
    supported       it does matter, and so say all required checks

The thresholds have not been calibrated against questions with known answers; until they are, every
verdict says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Generator

from .attribution import Attribution
from .checks import (
    Absence,
    Check,
    Plan,
    adds_up,
    again,
    beside,
    order_matters,
    other_absence,
    precise,
    shuffled_weights,
    together,
    unasked,
    unseen,
)
from .games import Game, ModelGame
from .games.wrap import Store
from .types import BadRequest

State = Literal["supported", "weak", "not supported"]
CALIBRATED = False
GLYPHS = {"supported": "\u25cf", "weak": "\u25d0", "not supported": "\u2298"}


@dataclass(frozen=True, eq=False)
class Trust:
    """The verdict on one credit, the check that decided it, and all checks."""

    verdict: State
    decided_by: str  # name of a check
    reason: str  # one sentence
    checks: tuple[Check, ...]
    calibrated: bool = CALIBRATED

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise BadRequest(f"no check is called {name!r}; there are {[c.name for c in self.checks]}")

    def __str__(self) -> str:
        note = "" if self.calibrated else " (uncalibrated)"
        head = f"{GLYPHS[self.verdict]} {self.verdict}{note}, decided by {self.decided_by}"
        width = max(len(check.name) for check in self.checks)
        rows = [
            f"  {'*' if check.name == self.decided_by else ' '} {check.name:<{width}}  "
            f"{check.numbers:<52}  {check.state}"
            for check in self.checks
        ]
        return "\n".join([head, f"  {self.reason}", *rows])


def examine(
    credit: Attribution,
    game: Game,
    plan: Plan,
    *,
    seed: int = 0,
    store: Store | None = None,
) -> Trust:
    """Asks every check of the plan about a credit and combines them to a verdict.

    The most expensive parts are the second estimator and the changed games. Progress is shown;
    `store` shares evaluations with what was asked before. Errors of single checks (a shuffled
    network may overflow) do not stop the others: such a check says nothing, with the reason.
    """
    rng = Generator().manual_seed(seed)
    checks = []
    for make in _planned(credit, game, plan, rng, seed, store):
        start = time.perf_counter()
        check = make()
        checks.append(replace(check, seconds=time.perf_counter() - start))
    return decide(checks)


def _planned(
    credit: Attribution, game: Game, plan: Plan, rng: Generator, seed: int, store: Store | None
) -> Iterator[Callable[[], Check]]:
    """The checks of a plan, in the order in which they are reported."""
    if plan.orders:
        yield partial(order_matters, credit, game, rng, plan, store)
    if plan.together:
        yield partial(together, credit, game, rng, plan, store)
    if plan.samples:
        yield partial(unseen, credit, game, rng, plan, store)
    yield partial(precise, credit)
    if plan.again is not None or credit.error is None:
        yield partial(again, credit, game, plan.again, rng, seed)
    if isinstance(game, ModelGame) and plan.changed is not None:
        if plan.absence is not None:
            yield partial(other_absence, credit, game, plan.changed, plan.absence, rng, seed)
        if plan.shuffled:
            yield partial(shuffled_weights, credit, game, plan.changed, rng, seed)
    for name, (estimator, own) in plan.beside.items():
        yield partial(beside, credit, game if own is None else own, name, estimator, rng, seed)
    yield partial(adds_up, credit)
    for name in plan.unasked:
        yield partial(unasked, name)


def decide(checks: list[Check] | tuple[Check, ...]) -> Trust:
    """The rule: see the head of this module."""
    first = next((c for c in checks if c.role == "decides"), None)
    if first is None:
        raise BadRequest("a verdict needs the comparison with random orders, or with random sets")
    broken = [c for c in checks if c.role == "must hold" and c.passed is False]
    if broken:
        return Trust("not supported", broken[0].name, broken[0].can, tuple(checks))
    if first.passed is None:  # too few players for any comparison with chance
        return Trust("weak", first.name, first.can, tuple(checks))
    if first.passed is not True:
        return Trust("not supported", first.name, first.can, tuple(checks))
    failed = [c for c in checks if c.doubtful and c.passed is False]
    close = [c for c in checks if c.doubtful and c.passed]
    missing = [c for c in checks if c.doubtful and c.score is None]
    for doubtful in (failed, close, missing):
        if doubtful:
            barely = " Only just: by less than its own error." if doubtful is close else ""
            return Trust("weak", doubtful[0].name, doubtful[0].can + barely, tuple(checks))
    return Trust("supported", first.name, first.can, tuple(checks))


__all__ = ["Absence", "Check", "Plan", "Trust", "decide", "examine"]
