"""GAMES: who plays and what any coalition is worth. The only folder that runs a model."""

from . import toy
from .base import Description, FunctionGame, Game, require
from .continuation import Continued, continuation
from .implicit import ImplicitGame
from .model import ModelGame
from .refit import RefitGame
from .wrap import Ledger, Store, Wrapped, averaged, cached, chunked, counted, picked

__all__ = [
    "Continued",
    "Description",
    "FunctionGame",
    "Game",
    "ImplicitGame",
    "Ledger",
    "ModelGame",
    "RefitGame",
    "Store",
    "Wrapped",
    "averaged",
]
__all__ += ["cached", "chunked", "continuation", "counted", "picked", "require", "toy"]
