"""SOURCE: its limits, and unrolled gradient descent."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.backward.response import Influence, Source, TracIn, Unrolled
from apportion.training import (
    SGD,
    AdamW,
    Constant,
    Queries,
    Recipe,
    Rows,
    prediction,
    squared_error,
    train,
)
from tests.oracles.trained import INPUTS, asked, linear, ridge_data, trained
from tests.small import close, normal


def test_a_short_training_is_tracin() -> None:
    """c -> 0: (1 - exp(-c s)) / s -> c."""
    run, queries = trained(schedule=Constant(1e-7)), asked()
    source, tracin = Source()([run], queries), TracIn()([run], queries)
    # TracIn reads each checkpoint at its own value gradient; in a short run they are all the same
    close(source, tracin, rtol=1e-4, atol=1e-12)


def test_one_long_segment_is_influence() -> None:
    """c -> infinity with weight decay: (1 - exp(-c s)) / s -> 1 / s."""
    run, queries = trained(keep=1), asked()
    long = ap.training.TrainingRun(
        run.recipe, 0, run.batches, run.rates, run.reaches * 1e6, run.checkpoints
    )
    close(Source(segments=1)([long], queries), Influence(damping=1e-2)([run], queries), atol=1e-9)


def descent(rate: float) -> tuple[ap.training.TrainingRun, Queries]:
    """Full-batch gradient descent on least squares, a segment per step, fixed rate x steps."""
    x, y = ridge_data()
    steps = round(0.4 / rate)
    recipe = Recipe(
        build=linear, rows=Rows(x, y), loss=squared_error, optimiser=SGD(weight_decay=0.1),
        schedule=Constant(rate), epochs=steps, batch=len(x),
    )  # fmt: skip
    return train(recipe, seed=0, keep=steps), Queries(normal(3, INPUTS, seed=4), None, prediction)


def test_a_segment_per_step_converges_to_unrolling_with_the_rate() -> None:
    off = []
    for rate in (0.05, 0.005):
        run, queries = descent(rate)
        exact = Unrolled()([run], queries)
        # gradients are read at the end of a step where unrolling reads its start: first order, too
        told = Source(segments=run.steps)([run], queries)
        off.append(float((told - exact).norm() / exact.norm()))
    assert 7 < off[0] / off[1] < 14  # a tenth of the rate, a tenth of the error
    assert off[1] < 0.01


def test_other_optimisers_and_uneven_segments_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match="SGD"):
        Source()([trained(optimiser=AdamW())], asked())
    with pytest.raises(ap.BadRequest, match="keep=8"):
        Source(segments=4)([trained(keep=6)], asked())


def test_a_flat_curvature_needs_no_damping() -> None:
    """s = 0 is the limit c, not a division by zero."""
    from apportion.backward.response.source import inside

    s = torch.tensor([0.0, 1e-14, 1e-3], dtype=torch.float64)
    expected = torch.tensor([5.0, 5.0, (1 - torch.e**-5e-3) / 1e-3], dtype=torch.float64)
    close(inside(s, 0.0, 5.0), expected, atol=1e-9)
