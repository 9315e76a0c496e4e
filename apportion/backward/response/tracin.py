"""Similarity of gradients along the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ...training.data import Queries
from ...training.persample import of_queries
from ...training.run import TrainingRun
from .base import Ingredient, over_runs, read_along


@dataclass(frozen=True, kw_only=True)
class TracIn:
    """tau_i = -(1/n) sum over checkpoints of c_k grad value . grad loss_i, there.

    c_k is how far the steps up to checkpoint k carry: the sum of their learning rates, over 1 -
    momentum. First order in that distance: later steps do not undo earlier ones. One backward pass
    per row and checkpoint.
    """

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"checkpoints"})
    cites: ClassVar[tuple[str, ...]] = ("pruthi2020",)

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        return ()

    def passes(self, run: TrainingRun) -> float:
        return len(run.spaced)

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        def one(run: TrainingRun) -> Float[Tensor, "query row"]:
            spans = pairwise((0, *run.spaced))
            return read_along(run, [
                (run.checkpoints[stop], run.reached(start, stop)
                 * of_queries(run.net, run.checkpoints[stop], queries))
                for start, stop in spans
            ])  # fmt: skip

        return over_runs(runs, one)
