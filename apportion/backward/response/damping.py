"""How much is added to the curvature before it is inverted."""

from __future__ import annotations

import math

from ...training.optim import AdamW
from ...training.run import TrainingRun
from ...types import BadRequest


def by_training(run: TrainingRun) -> float:
    """Damping by what the training could reach: weight decay + 1 / c, c = sum of rates / (1 -
    momentum).

    A direction whose curvature is below 1 / c has not converged when the training ends; gradient
    descent of that length acts there like an inverse damped by 1 / c. Total damping: the weight
    decay is part of it; the curvature is a mean over rows. AdamW's decay does not pass through the
    preconditioner; in units of the loss it is decay x sum of rates / c.
    """
    optimiser, reach = run.recipe.optimiser, max(run.reached(), 1e-12)
    decay = optimiser.weight_decay
    if isinstance(optimiser, AdamW):  # shrinks by rate x decay, past the preconditioner
        decay = decay * float(run.rates.sum()) / reach
    return decay + 1 / reach


def count(given: int, name: str) -> None:
    """An option that counts something: at least one."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise BadRequest(f"{name}={given!r}: a whole number of at least 1 is needed")


def chosen(damping: float | None, run: TrainingRun) -> float:
    """The damping asked for, or the one by the rule."""
    if damping is None:
        return by_training(run)
    if isinstance(damping, bool) or not math.isfinite(damping) or damping < 0:
        raise BadRequest(
            f"damping={damping!r}: a finite number of at least 0 is needed, or None for weight "
            "decay + 1 / (sum of learning rates / (1 - momentum))"
        )
    return float(damping)
