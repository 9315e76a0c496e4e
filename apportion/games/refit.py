"""Training rows as players: what a coalition is worth is told by training on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..players import Players
from ..players.base import spread
from ..players.rows import ROW, training_rows
from ..training.data import Queries
from ..training.refit import BlackBox, Refits, Semantics
from ..training.run import Recipe, TrainingRun
from ..types import BadRequest, Work
from .base import Description, Domain, admit, checked, no_gradient

HOW = {
    "left out": "left out: trained anew without the row, batches drawn anew from the rest",
    "reweighted": "reweighted: same start, order and denominators, the row's loss weighted",
}


@dataclass(frozen=True, eq=False)
class RefitGame:
    """The value of queries after training on the rows that are present. Gates are loss weights.

        v(g) = value of the model trained with row i weighted by g_i

    Every evaluation is a training; draws are training seeds, so averaging over them takes the luck
    of start and order out. Trainings are stepped together in batches and kept: asking again, also
    about other queries, or after an interruption with `folder`, trains only what is missing.
    """

    run: TrainingRun | Recipe | BlackBox  # whose training is repeated
    queries: Queries  # one query: a number per coalition; several: an axis of queries
    players: Players = None  # type: ignore[assignment]  # rows or groups of them; None = every row
    # training seeds, averaged over; () = 0 and 1, or the run's own where reweighted; None = each
    # coalition is trained once, with a seed of its own
    seeds: Sequence[int] | None = ()
    semantics: Semantics = "left out"
    folder: str | Path | None = None  # where finished trainings are kept; None = in memory
    refits: Refits = field(init=False)

    domain: Domain = field(default="weight", init=False)
    price: Work = field(default=Work(0, 0, 1), init=False)
    grad_price: Work | None = field(default=None, init=False)
    exact: bool = field(default=True, init=False)
    batch_key: object | None = field(default=None, init=False)
    setup: Work = field(default=Work(0), init=False)

    def __post_init__(self) -> None:
        recipe = self.run.recipe if isinstance(self.run, TrainingRun) else self.run
        rows = recipe.rows if isinstance(recipe, BlackBox) else recipe.rows.n
        if self.players is None:
            object.__setattr__(self, "players", training_rows(rows))
        if set(self.players.owner) != {ROW} or len(self.players.owner[ROW]) != rows:
            raise BadRequest(
                f"RefitGame(players=...) needs owners of the {rows} training rows; make them: "
                f"players.training_rows({rows}, groups=...)"
            )
        if self.seeds == ():
            object.__setattr__(self, "seeds", self._usual())
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise BadRequest(f"RefitGame(seeds={self.seeds}): each training seed only once")
        folder = None if self.folder is None else Path(self.folder)
        object.__setattr__(self, "refits", Refits(recipe, self.semantics, folder))

    def _usual(self) -> tuple[int, ...]:
        """Two seeds; those of one run are its own."""
        if self.semantics == "reweighted" and isinstance(self.run, TrainingRun):
            return (self.run.seed,)
        return (0, 1)

    @property
    def draws(self) -> int | None:
        """Training seeds."""
        return 1 if self.seeds is None else len(self.seeds)

    @property
    def seconds_each(self) -> float | None:
        """What one training took when it was recorded; several are stepped together and take
        less.
        """
        return self.run.seconds if isinstance(self.run, TrainingRun) else None

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        state = admit(self, gates, draw)
        weights = spread(gates.float(), self.players.owner[ROW])
        self._admit_nobody(weights)
        seeds = _own(weights) if self.seeds is None else torch.tensor(self.seeds)[state]
        values = self.refits.values(weights, seeds, self.queries)
        return checked(values[:, 0] if self.queries.n == 1 else values, gates, "the value")

    def _admit_nobody(self, weights: Tensor) -> None:
        nobody = ~(weights > 0).any(-1)
        if bool(nobody.any()) and isinstance(self.run, BlackBox):
            raise BadRequest(
                "a coalition of no training row was asked of a black box; own some rows by no "
                "player (-1), or use an estimator that keeps half of them: "
                "LinearSurrogate(keep=0.5)"
            )

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise no_gradient(self)

    def describe(self) -> Description:
        count = 0 if self.seeds is None else len(self.seeds)
        seeds = f"{count} training seed{'s' if count > 1 else ''}" if count else "a seed each"
        return Description(
            str(self.players),
            self.queries.measure.name,
            self.queries.measure.unit,
            f"{HOW[self.semantics]} ({seeds})",
            type(self.refits.recipe.net.module).__name__,
        )


def _own(weights: Tensor) -> Tensor:
    """A training seed per coalition that depends on who is present alone."""
    bits = [hashlib.sha256(w.numpy().tobytes()).digest()[:4] for w in weights.double()]
    return torch.tensor([int.from_bytes(b, "little") for b in bits])
