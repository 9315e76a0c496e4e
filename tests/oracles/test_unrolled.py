"""The metagradient against finite differences of whole trainings."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from apportion.backward.response import Unrolled, smoothness
from apportion.backward.response.unrolled import backwards
from apportion.training import SGD, Adam, AdamW, Constant, Cosine, TrainingRun
from tests.oracles.trained import asked, trained
from tests.small import close

OPTIMISERS = [
    SGD(),
    SGD(momentum=0.8, weight_decay=1e-2),
    Adam(eps_root=1e-6, weight_decay=1e-2),
    AdamW(eps_root=1e-6),
]


def values(run: TrainingRun, weights: torch.Tensor) -> torch.Tensor:
    q = asked()
    return q.measure(run.net(run.replay(weights), q.input), q.labels)


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=repr)
@pytest.mark.parametrize("at", [1.0, 0.5])
def test_central_differences_of_trainings(optimiser, at) -> None:
    run = trained(optimiser=optimiser, schedule=Cosine(0.05))
    credit, step = Unrolled(at=at)([run], asked()), 1e-5
    for i in (0, 5, 23):
        up, down = torch.full((2, run.recipe.rows.n), at, dtype=torch.float64)
        up[i] += step
        down[i] -= step
        slope = (values(run, up) - values(run, down)) / (2 * step)
        close(credit[:, i], slope, rtol=1e-6, atol=1e-8)


def test_replaying_stretches_gives_the_same_states_as_keeping_all() -> None:
    run = trained()
    weights = torch.ones(run.recipe.rows.n, dtype=torch.float64)
    kept, replayed = (list(backwards(run, weights, limit)) for limit in (2**30, 1))
    assert [t for t, _, _ in kept] == [t for t, _, _ in replayed]
    for (_, a, b), (_, c, d) in zip(kept, replayed, strict=True):
        for one, other in ((a, c), (b, d)):
            assert all(torch.equal(one.params[k], other.params[k]) for k in one.params)


def test_one_step_in_closed_form() -> None:
    """One full-batch step: d value / d w_i = -(rate / n) grad value(end) . grad loss_i(start)."""
    run = trained(optimiser=SGD(), epochs=1, batch=24, schedule=Constant(0.3), keep=1)
    queries, rows = asked(), run.recipe.rows
    q = ap.training.persample.of_queries(run.net, run.final, queries)
    g = ap.training.persample.each(
        run.net, run.checkpoints[0], run.recipe.loss, rows.input, rows.label
    )
    close(Unrolled()([run], queries), -0.3 / rows.n * q @ g.T, atol=1e-12)


def test_a_training_at_a_huge_rate_is_called_rough() -> None:
    calm, wild = trained(), trained(schedule=Constant(4.0), epochs=12)
    assert smoothness(calm) > 0.95
    assert smoothness(wild) < 0.9
    assert "rough" in Unrolled().notes([wild])[0]
    assert "rough" not in Unrolled().notes([calm])[0]
