"""The verb: asks a game with an estimator, counts, checks, and stamps where the answer came
from.
"""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch
from torch import Generator

from .estimators import Estimator, Method, Result
from .games import Game, Wrapped, averaged, cached, chunked, counted, require
from .games.base import Trains
from .games.wrap import Ledger, Store, chunk_of, draws_each
from .progress import say, watched
from .types import BadRequest, Cost, OverBudget, whole
from .wording import span

R = TypeVar("R", bound=Result)


def attribute(
    game: Game,
    estimator: Method[R],
    *,
    seed: int = 0,
    budget: Cost | None = None,
    chunk: int | None = None,
    store: Store | None = None,
) -> R:
    """Credit of each player of a game, by an estimator; of sets of players, by one that scores
    sets.

    The game is asked in batches of the fastest measured size (or `chunk`), repeats come from a
    cache (share one by passing the same `store`), several draws are averaged, every request is
    counted. `budget` refuses what would cost more. The same seed and chunk give the same bits; the
    global random state is neither read nor changed.
    """
    _admit(game, estimator, budget, store, seed)
    name = type(estimator).__name__
    require(game, estimator.needs, for_=name)
    bound = estimator.cost(game.players.n) * draws_each(game)
    if not estimator.own_draws and game.draws != 1:
        draws = averaged(game).share if game.draws is not None else 1
        bound = bound * int(draws)
    if budget is not None and not bound.within(budget):
        raise OverBudget(
            f"{estimator} needs up to {bound} for {game.players}, the budget is {budget}. Lower "
            "its samples, or coarsen the players."
        )
    _announce(game, bound, name)
    start = time.perf_counter()
    with watched(f"{name} on {game.players}", bound.evaluations + bound.gradients) as tick:
        ledger = Ledger(bound, asked_for=name, tick=tick)
        final = stacked(game, ledger, chunk=chunk, store=store, average=not estimator.own_draws)
        credit = estimator(final, Generator().manual_seed(seed))
    used = chunk_of(game, "value"), chunk_of(game, "grad")
    sizes = {
        kind: size
        for kind, size in zip(("value", "grad"), used, strict=True)
        if size is not None and chunk is None
    }
    stamp = replace(
        credit.provenance,
        game=game.describe(),
        estimator=repr(estimator),
        seed=seed,
        cites=tuple(estimator.cites) + game.describe().cites,
        claims=tuple(sorted(axiom.value for axiom in estimator.axioms)),
        exact=game.exact,
        draws=game.draws,
        setup_forwards=game.setup.forwards,
        chunk=sizes if chunk is None else {"value": chunk, "grad": chunk},
        seconds=time.perf_counter() - start,
        notes=credit.provenance.notes + game.describe().notes,
        versions=versions(),
    )
    _finite(credit, name)
    return credit.stamped(ledger.spent, stamp)


def _announce(game: Game, bound: Cost, name: str) -> None:
    """What trainings will cost, before the first of them."""
    while isinstance(game, Wrapped):
        game = game.inner
    if not game.price.fits or not bound.evaluations:
        return
    fits = round(game.price.fits * bound.evaluations)
    each = game.seconds_each if isinstance(game, Trains) else None
    took = "" if each is None else f", {span(fits * each)} one after the other"
    say(f"{name}: up to {fits:,} trainings{took}; those kept are not run again")


def _admit(game: object, estimator: object, budget: object, store: object, seed: object) -> None:
    """Each argument is what it is called."""
    whole(seed, "seed", "attribute", 0)
    if isinstance(estimator, type):
        raise BadRequest(f"the estimator is a class; make one: {estimator.__name__}()")
    if isinstance(estimator, str):
        raise BadRequest(
            f"the estimator is the text {estimator!r}; make one, such as ap.Gradient(), or read "
            f"it: apportion.spec.parse({estimator!r})"
        )
    if isinstance(game, Estimator) and isinstance(estimator, Game):
        raise BadRequest(
            f"the game comes first: attribute(game, {game!r}), not attribute({game!r}, game)"
        )
    if isinstance(game, type) or not isinstance(game, Game):
        raise BadRequest(
            f"the game is a {type(game).__name__}; ask one: ap.ModelGame(model, input, value, "
            "players, removal) or ap.FunctionGame(f, n)"
        )
    if not isinstance(estimator, Estimator):
        raise BadRequest(
            f"the estimator is a {type(estimator).__name__}; give one, such as ap.Gradient() or "
            "ap.KernelShap(samples=512), or lift a function with ap.from_function(f, cost)"
        )
    if budget is not None and not isinstance(budget, Cost):
        raise BadRequest(
            f"budget={budget!r} does not say what it counts; write budget=ap.Cost(evaluations="
            f"{budget if isinstance(budget, int) else 1000}), with gradients= for estimators that "
            "take derivatives"
        )
    if store is not None and not isinstance(store, Store):
        raise BadRequest(
            f"store is a {type(store).__name__}; share one apportion.games.Store() between calls"
        )


def stacked(
    game: Game,
    ledger: Ledger,
    *,
    chunk: int | None = None,
    store: Store | None = None,
    average: bool = True,
) -> Game:
    """The game as everything asks it: average over draws, ledger, cache, batches, game; outside
    in.
    """
    known = None if store is None else store.of(game)
    asked = counted(cached(chunked(game, chunk), known), ledger)
    return averaged(asked) if average and game.draws != 1 else asked


def versions() -> dict[str, str]:
    """What the answer was computed with."""
    return dict(_versions())


@cache  # reading a package's metadata takes longer than many an answer
def _versions() -> tuple[tuple[str, str], ...]:
    try:
        own = version("apportion")
    except PackageNotFoundError:
        own = "unknown"
    return (
        ("apportion", own),
        ("torch", torch.__version__),
        ("python", platform.python_version()),
    )


def _finite(credit: Result, name: str) -> None:
    if not bool(torch.isfinite(credit.scores).all()):
        raise BadRequest(
            f"{name} gave NaN or infinite scores; look at the game's values with game.value(...)"
        )
