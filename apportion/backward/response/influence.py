"""Influence: the end of training moves by the inverse curvature times the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature, Kind
from ...training.data import Queries
from ...training.persample import blocks, of_queries
from ...training.run import TrainingRun
from ...types import BadRequest
from .base import Ingredient, averaged_gradient, finite, over_runs, read_along
from .damping import chosen
from .dense import Dense


@runtime_checkable
class Solver(Protocol):
    """(C + damping)^-1 times vectors, exactly or nearly."""

    cites: ClassVar[tuple[str, ...]]

    def passes(self, run: TrainingRun) -> float:
        """Backward passes over one training row that a solve takes."""

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]: ...


@runtime_checkable
class Noted(Protocol):
    """A solver that does not cover every parameter alike, and says so."""

    def notes(self, run: TrainingRun) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Influence:
    """tau_i = -(1/n) grad value' (C + damping)^-1 grad loss_i: the derivative of the value by the
    row's loss weight, if training ends at a minimum.

    at="final"     everything at the final parameters
    at="averaged"  gradients of queries, gradients of rows and curvature averaged over the
                   checkpoints of the run, each with its share of the rows; then one solve. Steadier
                   than the final parameters, which are one point of a noisy path.

    Exact where the loss is convex with weight decay, the training converged, the curvature is the
    full Hessian and damping is the weight decay.
    """

    solver: Solver = field(default_factory=Dense)  # how the curvature is inverted
    curvature: Kind = "ggn"  # "ggn", never negative, or the full "hessian"
    # added to the curvature, weight decay included; None = weight decay + (1 - momentum) / sum of
    # learning rates
    damping: float | None = None
    at: Literal["final", "averaged"] = "final"  # which parameters
    seed: int = 0  # of solvers that draw at random

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"final"})
    own_cites: ClassVar[tuple[str, ...]] = ("koh2017",)

    def __post_init__(self) -> None:
        if self.at not in ("final", "averaged"):
            raise BadRequest(f"Influence(at={self.at!r}); write at='final' or at='averaged'")
        if self.curvature not in ("ggn", "hessian"):
            raise BadRequest(
                f"Influence(curvature={self.curvature!r}); write curvature='ggn' or 'hessian'"
            )

    @property
    def cites(self) -> tuple[str, ...]:
        """Influence and its solver."""
        return self.own_cites + self.solver.cites

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        how = "asked for" if self.damping is not None else "by weight decay + 1 / reach of the run"
        told = self.solver.notes(runs[0]) if isinstance(self.solver, Noted) else ()
        return (f"damping {chosen(self.damping, runs[0]):.3g}, {how}", *told)

    def passes(self, run: TrainingRun) -> float:
        return self.solver.passes(run) + (len(run.spaced) if self.at == "averaged" else 1)

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        return over_runs(runs, lambda run: self._one(run, queries))

    def _one(self, run: TrainingRun, queries: Queries) -> Float[Tensor, "query row"]:
        steps = run.spaced if self.at == "averaged" else (run.steps,)
        asked = averaged_gradient(run, steps, lambda p: of_queries(run.net, p, queries))
        curvature = Curvature.of(run, steps, self.curvature)
        damping = chosen(self.damping, run)
        u = self.solver(curvature, asked, damping, Generator().manual_seed(self.seed))
        return read_along(run, [(run.checkpoints[s], u / len(steps)) for s in steps])

    def self_influence(self, run: TrainingRun, limit: int = 4096) -> Float[Tensor, "row"]:
        """What each row's own loss gains from it: tau_i of the value -loss_i. Large for rows that
        the rest contradicts, such as mislabelled ones. Solves once per row.
        """
        if run.recipe.rows.n > limit:
            raise BadRequest(
                f"self-influence solves once per row, and there are {run.recipe.rows.n:,}; raise "
                "limit= if that is meant"
            )
        steps = run.spaced if self.at == "averaged" else (run.steps,)
        curvature = Curvature.of(run, steps, self.curvature)
        rng = Generator().manual_seed(self.seed)
        damping = chosen(self.damping, run)
        loss, rows = run.recipe.loss, run.recipe.rows
        g = averaged_gradient(
            run, steps, lambda p: torch.cat([own for _, own in blocks(run.net, p, loss, rows)])
        )
        u = self.solver(curvature, g, damping, rng)
        return finite((u * g).sum(-1) / run.recipe.rows.n)
