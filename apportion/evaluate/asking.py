"""Asking a game on behalf of a metric: as `attribute` does, and every evaluation counted."""

from __future__ import annotations

from torch import Tensor

from ..attribute import stacked
from ..games import Game
from ..games.wrap import Ledger, Store
from ..progress import watched
from ..types import BadRequest, Cost


def ask_all(game: Game, gates: Tensor, label: str, store: Store | None) -> tuple[Tensor, Cost]:
    """The values of these coalitions, (coalition, *out), and what they cost."""
    with watched(f"{label} on {game.players}", len(gates)) as tick:
        ledger = Ledger(asked_for=label, tick=tick)
        values = stacked(game, ledger, store=store).value(gates)
    return values.double(), ledger.spent


def ask(game: Game, gates: Tensor, label: str, store: Store | None) -> tuple[Tensor, Cost]:
    """The values of these coalitions, one number each, and what they cost."""
    values, cost = ask_all(game, gates, label, store)
    if values.ndim != 1:
        raise BadRequest(
            f"{label} needs one output, the game has {tuple(values.shape[1:])}; choose with "
            "ap.picked(game, ...)"
        )
    return values, cost
