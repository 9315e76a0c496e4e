"""What a response is: how the end of a training answers a change of its rows' loss weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ...training.data import Queries
from ...training.optim import Params
from ...training.persample import along
from ...training.run import TrainingRun
from ...types import BadRequest

Ingredient = Literal["final", "checkpoints", "states", "independent runs"]


@runtime_checkable
class Response(Protocol):
    """A frozen dataclass: the options are fields."""

    exact: ClassVar[bool]  # whether it is the derivative itself, not an approximation
    needs: ClassVar[frozenset[Ingredient]]

    @property
    def cites(self) -> tuple[str, ...]:
        """Works it comes from."""

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        """D value / d loss weight of each training row, at weights 1: positive = the row raises
        the value. Averaged over the runs.
        """

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        """What a reader of the report must know: damping, parameters left out, warnings."""

    def passes(self, run: TrainingRun) -> float:
        """Backward passes over one training row that the answer takes, for the price."""


# directions in parameter space, one row per query, and the parameters where they are read
Directions = Sequence[tuple[Params, Float[Tensor, "query p"]]]


def read_along(run: TrainingRun, directions: Directions) -> Float[Tensor, "query row"]:
    """Credit from directions: tau_i = -(1/n) sum over checkpoints of u . gradient of loss_i.

    Nearly every response is of this form; they differ in u alone.
    """
    n, net, loss = run.recipe.rows.n, run.net, run.recipe.loss
    parts = [along(net, params, loss, run.recipe.rows, u) for params, u in directions]
    return finite(-torch.stack(parts).sum(0) / n)


def over_runs(
    runs: Sequence[TrainingRun], one: Callable[[TrainingRun], Float[Tensor, "query row"]]
) -> Float[Tensor, "query row"]:
    """The mean of a response over independent runs."""
    if not runs:
        raise BadRequest("there is no training run; give at least one: training.train(recipe)")
    total: Tensor | None = None
    for run in runs:
        part = one(run)
        total = part if total is None else total + part
    assert total is not None
    return total / len(runs)


def finite(scores: Tensor) -> Tensor:
    """Scores without NaN that are not all zero, or a BadRequest."""
    if not bool(torch.isfinite(scores).all()):
        raise BadRequest(
            "the response gave NaN or infinite scores: the curvature may be singular or negative. "
            "Raise damping=, or use curvature='ggn', which is never negative"
        )
    if scores.numel() and not bool((scores != 0).any()):
        raise BadRequest(
            "every score is exactly 0: the gradients of the queries or of the training losses "
            "vanish at these parameters. Explain Margin(target) in place of a probability, which "
            "saturates, or look at an earlier checkpoint"
        )
    return scores


def averaged_gradient(
    run: TrainingRun, steps: Sequence[int], read: Callable[[Params], Tensor]
) -> Tensor:
    """The mean of a gradient over checkpoints."""
    return torch.stack([read(run.checkpoints[s]) for s in steps]).mean(0)
