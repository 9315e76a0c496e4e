"""TracIn: first order in the learning rate, and a sum that telescopes."""

from __future__ import annotations

import torch

from apportion.backward.response import GradDot, TracIn
from apportion.training import SGD, Constant, Queries, TrainingRun, cross_entropy
from tests.oracles.trained import asked, trained
from tests.small import close


def test_one_checkpoint_is_the_distance_times_gradient_similarity() -> None:
    run, queries = trained(keep=1), asked()
    close(TracIn()([run], queries), run.reached() * GradDot()([run], queries), atol=1e-12)


def test_credits_of_a_step_add_up_to_what_it_gained() -> None:
    """Full batch, a checkpoint at the start of every step: the sum over rows of the credit is the
    change of the value, up to the square of the rate.
    """
    gaps = []
    for rate in (1e-2, 1e-3):
        run = trained(keep=4, epochs=4, batch=24, schedule=Constant(rate), optimiser=SGD())
        queries = asked()
        before = {t + 1: run.checkpoints[t] for t in range(run.steps)} | {0: run.checkpoints[0]}
        shifted = TrainingRun(run.recipe, 0, run.batches, run.rates, run.reaches, before)
        told = TracIn()([shifted], queries).sum(-1)
        ends = [queries.measure(run.net(run.checkpoints[t], queries.input), queries.labels)
                for t in (0, run.steps)]  # fmt: skip
        gaps.append(float((ends[1] - ends[0] - told).abs().max()))
    assert 50 < gaps[0] / gaps[1] < 200  # quadratic: a tenth of the rate, a hundredth of the gap


def test_a_row_repeated_as_a_query_helps_itself() -> None:
    run = trained()
    rows = run.recipe.rows
    less = Queries(rows.input, rows.label, measure_of_minus_loss())
    assert bool((TracIn()([run], less).diagonal() >= 0).all())


def measure_of_minus_loss():
    from apportion.training import Measure

    return Measure("minus loss", "nats", lambda out, y: -cross_entropy(out, y))


def test_checkpoints_are_weighted_by_the_way_to_them() -> None:
    run, queries = trained(keep=3), asked()
    parts = []
    for start, stop in zip((0, *run.spaced), run.spaced, strict=False):
        only = TrainingRun(
            run.recipe, 0, run.batches, run.rates, run.reaches, {run.steps: run.checkpoints[stop]}
        )
        parts.append(run.reached(start, stop) * GradDot()([only], queries))
    close(TracIn()([run], queries), torch.stack(parts).sum(0), atol=1e-12)
