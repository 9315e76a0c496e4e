"""Similarity of gradients at the end of training: no curvature at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ...training.data import Queries
from ...training.persample import of_queries
from ...training.run import TrainingRun
from .base import Ingredient, over_runs, read_along


@dataclass(frozen=True, kw_only=True)
class GradDot:
    """tau_i = -(1/n) grad value . grad loss_i, at the final parameters.

    The limit of influence for large damping, times that damping; in units of the value only after
    one step of gradient descent at rate 1. One backward pass per row.
    """

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"final"})
    cites: ClassVar[tuple[str, ...]] = ("charpiat2019",)

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        return ()

    def passes(self, run: TrainingRun) -> float:
        return 1

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        return over_runs(
            runs, lambda r: read_along(r, [(r.final, of_queries(r.net, r.final, queries))])
        )
