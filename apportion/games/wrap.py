"""Wrappers that change how a game is asked, never what it answers: counted, cached, chunked,
averaged, picked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..players import Players
from ..types import BadRequest, Cost, OverBudget, Work, whole
from .base import Description, Domain, Game, admit
from .batches import Fixed, Search, out_of_memory

Ask = Callable[[Tensor, Tensor], Tensor]
AskGrad = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Key = tuple[bytes, int, int]  # who is present, eight players a byte; how many there are; the draw


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A game asked in another way. Everything that is not asked about is the inner game's."""

    inner: Game
    ask: Ask
    ask_grad: AskGrad
    draws: int | None
    share: float = 1  # how many inner requests one request makes, for the price
    batch_key: object | None = None

    @property
    def players(self) -> Players:
        return self.inner.players

    @property
    def domain(self) -> Domain:
        return self.inner.domain

    @property
    def price(self) -> Work:
        return self.inner.price * self.share

    @property
    def grad_price(self) -> Work | None:
        inner = self.inner.grad_price
        return None if inner is None else inner * self.share

    @property
    def exact(self) -> bool:
        return self.inner.exact

    @property
    def setup(self) -> Work:
        return self.inner.setup

    def describe(self) -> Description:
        return self.inner.describe()

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        return self.ask(gates, admit(self, gates, draw))

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.ask_grad(gates, admit(self, gates, draw))


@dataclass
class Ledger:
    """What has been asked so far, and what may be."""

    bound: Cost | None = None
    spent: Cost = Cost()
    asked_for: str = "this"
    tick: Callable[[int], None] | None = None  # told how many rows were answered, for progress

    def charge(self, cost: Cost) -> None:
        """Adds a request before it is made; over the bound nothing is asked."""
        total = self.spent + cost
        if self.bound is not None and not total.within(self.bound):
            raise OverBudget(
                f"{self.asked_for} would take more than {self.bound}; {self.spent} were spent. "
                "Raise budget= or lower samples=."
            )
        self.spent = total

    def done(self, rows: int) -> None:
        """Reports answered rows."""
        if self.tick is not None:
            self.tick(rows)


def draws_each(game: Game) -> int:
    """How many draws of the innermost game one request for a gate row makes."""
    each = 1.0
    while isinstance(game, Wrapped):
        each, game = each * game.share, game.inner
    return int(each)


def counted(game: Game, ledger: Ledger) -> Wrapped:
    """Every gate row is entered in the ledger before it is asked."""
    each = draws_each(game)

    def ask(gates: Tensor, draw: Tensor) -> Tensor:
        ledger.charge(Cost(evaluations=each * len(gates)))
        return game.value(gates, draw)

    def ask_grad(gates: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        ledger.charge(Cost(gradients=each * len(gates)))
        return game.grad(gates, draw)

    return Wrapped(game, ask, ask_grad, game.draws, batch_key=game.batch_key)


def averaged(game: Game, draws: int | None = None, *, seed: int = 0) -> Wrapped:
    """The mean over the game's draws: all of them, or `draws` drawn at random (the same ones for
    every coalition).

    Using the same draws throughout makes the average a fixed function, so gains between coalitions
    are compared under the same circumstances (common random numbers).
    """
    if draws is None and game.draws is None:
        raise BadRequest(
            "the game has an unlimited supply of draws; say how many to average: ap.averaged(game, "
            "draws=20)"
        )
    if draws is not None and draws < 1:
        raise BadRequest(f"averaged(draws={draws}): at least one draw is needed")
    if draws is not None and game.draws is not None and draws > game.draws:
        raise BadRequest(
            f"averaged(draws={draws}): the game has {game.draws}; leave draws= out to average all"
        )
    if draws is None or draws == game.draws:
        states = torch.arange(game.draws or 1)
    else:
        rng = Generator().manual_seed(seed)
        top = game.draws if game.draws is not None else 2**31
        states = (
            torch.randint(top, (draws,), generator=rng)
            if game.draws is None
            else torch.randperm(top, generator=rng)[:draws]
        )
    k = len(states)
    # rows x draws may not fit into memory together, even where one row is asked
    inside = game if game.batch_key is None else chunked(game)
    block = max(PIECE // (k * game.players.n), 1)  # rows of gates repeated at once

    def spread(gates: Tensor) -> tuple[Tensor, Tensor]:
        return gates.repeat_interleave(k, 0), states.repeat(len(gates))

    def ask(gates: Tensor, draw: Tensor) -> Tensor:
        parts = [
            inside.value(*spread(part)).unflatten(0, (len(part), k)).mean(1)
            for part in gates.split(block)
        ]
        return torch.cat(parts)

    def ask_grad(gates: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        parts = [inside.grad(*spread(part)) for part in gates.split(block)]
        values, grads = (
            torch.cat(list(both)).unflatten(0, (len(gates), k)).mean(1)
            for both in zip(*parts, strict=True)
        )
        return values, grads

    return Wrapped(game, ask, ask_grad, 1, share=k)


def picked(game: Game, *index: int) -> Wrapped:
    """One output of a game with several: 2 is output 2; 0, 2 is output 2 of instance 0."""
    for i in index:
        if isinstance(i, bool) or not isinstance(i, int):
            raise BadRequest(
                f"picked(game, {i!r}): an output is a whole number, this is a {type(i).__name__}; "
                "write picked(game, 2), or picked(game, 0, 2) for output 2 of instance 0"
            )

    def pick(x: Tensor, shape: tuple[int, ...]) -> Tensor:
        for k, i in enumerate(index):
            if x.ndim < 2 or not -x.shape[1] <= i < x.shape[1]:
                raise BadRequest(
                    f"picked{index}: the game has outputs of shape {shape}; there is no {i} on "
                    f"axis {k}"
                )
            x = x.select(1, i)
        return x

    def ask(gates: Tensor, draw: Tensor) -> Tensor:
        values = game.value(gates, draw)
        return pick(values, tuple(values.shape[1:]))

    def ask_grad(gates: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        values, grads = game.grad(gates, draw)
        shape = tuple(values.shape[1:])
        return pick(values, shape), pick(grads, shape)

    return Wrapped(game, ask, ask_grad, game.draws, batch_key=game.batch_key)


@dataclass
class Store:
    """Values of hard coalitions of one game already known, by packed bits, players and draw."""

    known: dict[Key, Tensor] = field(default_factory=dict)
    hits: int = 0
    game: Game | None = None  # whose values these are

    def of(self, game: Game) -> Store:
        """The same store, for this game and no other: coalitions of two games look alike."""
        if self.game is None:
            self.game = game
        if self.game is not game:
            raise BadRequest(
                "store= holds values of another game; give every game a store of its own, also "
                "game.removing(...), game.at(...) and game.randomised(...)"
            )
        return self


def cached(game: Game, store: Store | None = None) -> Wrapped:
    """Hard coalitions are asked once; repeats, also within one request, come from memory. Soft
    gates pass through.
    """
    store = store if store is not None else Store()
    known = store.known

    def ask(gates: Tensor, draw: Tensor) -> Tensor:
        if gates.dtype != torch.bool or not len(gates):
            return game.value(gates, draw)
        keys = _keys(gates, draw)
        fresh = {key: row for row, key in enumerate(keys) if key not in known}
        store.hits += len(keys) - len(fresh)
        if fresh:
            where = torch.tensor(list(fresh.values()))
            for key, value in zip(
                fresh, game.value(gates[where], draw[where]).unbind(), strict=True
            ):
                known[key] = value
        return torch.stack([known[key] for key in keys])

    return Wrapped(game, ask, game.grad, game.draws, batch_key=game.batch_key)


def _keys(gates: Tensor, draw: Tensor) -> list[Key]:
    n = gates.shape[1]  # the last byte is filled up with zeros
    packed = np.packbits(gates.cpu().numpy(), axis=1)
    return [(row.tobytes(), n, state) for row, state in zip(packed, draw.tolist(), strict=True)]


PIECE = 2**24  # gate elements handed at once to a game that takes any number of rows


def chunked(game: Game, rows: int | None = None) -> Wrapped:
    """Long requests are cut into batches: of `rows`, or of the size measured to be fastest.

    Where a batch does not fit into memory its size is halved, down to one row.
    """
    if rows is not None and whole(rows, "chunk") < 1:
        raise BadRequest(f"chunk={rows}: a batch has at least one row")

    def ask(gates: Tensor, draw: Tensor) -> Tensor:
        parts = _in_batches(game, game.value, "value", rows, gates, draw)
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def ask_grad(gates: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        parts = _in_batches(game, game.grad, "grad", rows, gates, draw)
        values, grads = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(grads)

    return Wrapped(game, ask, ask_grad, game.draws)


def chunk_of(game: Game, kind: str) -> int | None:
    """The batch size in use for "value" or "grad" requests of this game, if one has been
    measured.
    """
    search = _SEARCHES.get((game.batch_key, kind))
    return search.size if search is not None and search.times else None


def _in_batches(
    game: Game, ask: Callable[..., Any], kind: str, rows: int | None, gates: Tensor, draw: Tensor
) -> list[Any]:
    if rows is None and game.batch_key is None:
        rows = max(PIECE // game.players.n, 1)
    search = (
        Fixed(rows) if rows is not None else _SEARCHES.setdefault((game.batch_key, kind), Search())
    )
    parts: list[Any] = []
    at = 0
    while at < len(gates) or not parts:
        size = min(search.size, len(gates) - at)
        begin = time.perf_counter()
        try:
            parts.append(ask(gates[at : at + size], draw[at : at + size]))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as failure:
            if not out_of_memory(failure):
                raise
            search.halve(size, failure)
            continue
        search.took(size, time.perf_counter() - begin)
        at += size
    return parts


# by (batch_key, kind), for the life of the process
_SEARCHES: dict[tuple[object, str], Search] = {}


def with_notes(description: Description, *notes: str) -> Description:
    """The same description with further notes."""
    return replace(description, notes=description.notes + notes)
