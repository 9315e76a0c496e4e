"""How much is added to the curvature before it is inverted."""

from __future__ import annotations

import math

from ...training.run import TrainingRun
from ...types import BadRequest


def by_training(run: TrainingRun) -> float:
    """Damping by what the training could reach: weight decay + 1 / c, c = sum of rates / (1 -
    momentum).

    A direction whose curvature is below 1 / c has not converged when the training ends; gradient
    descent of that length acts there like an inverse damped by 1 / c. Total damping: the weight
    decay is part of it; the curvature is a mean over rows.
    """
    return run.recipe.optimiser.weight_decay + 1 / max(run.reached(), 1e-12)


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
