"""Every solver against the inverse of the matrix it never forms."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.backward.response import CG, SOLVERS, Arnoldi, Dense, Influence, LiSSA
from apportion.training.curvature import Curvature
from apportion.training.persample import each
from tests.oracles.trained import asked, trained
from tests.small import close, normal

DAMPING = 0.05


def rng() -> Generator:
    return Generator().manual_seed(0)


def inverse_times(curvature: Curvature, v: torch.Tensor) -> torch.Tensor:
    c = curvature.dense()
    return torch.linalg.solve(c + DAMPING * torch.eye(len(c), dtype=c.dtype), v.T).T


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_products_are_those_of_the_dense_matrix(kind) -> None:
    run = trained()
    curvature = Curvature.of(run, run.spaced, kind)
    v = normal(3, run.net.size, seed=1)
    close(curvature.times(v), v @ curvature.dense().T, atol=1e-12)


def test_the_hessian_is_that_of_autograd() -> None:
    run = trained()
    rows = run.recipe.rows

    def mean(flat: torch.Tensor) -> torch.Tensor:
        return run.recipe.loss(run.net(run.net.named(flat), rows.input), rows.label).mean()

    expected = torch.func.hessian(mean)(run.net.flat(run.final))
    close(Curvature.of(run, (run.steps,), "hessian").dense(), expected, atol=1e-12)


def test_the_ggn_of_cross_entropy_is_the_fisher_matrix() -> None:
    """E over labels drawn from the model of the outer product of gradients."""
    run = trained()
    rows, net = run.recipe.rows, run.net
    chance = net(run.final, rows.input).softmax(-1)
    fisher = torch.zeros(net.size, net.size, dtype=torch.float64)
    for label in range(3):
        y = torch.full((rows.n,), label)
        g = each(net, run.final, run.recipe.loss, rows.input, y)
        fisher += (g.T * chance[:, label]) @ g / rows.n
    close(Curvature.of(run, (run.steps,)).dense(), fisher, atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        (Dense(), 1e-10),
        (CG(tolerance=1e-11), 1e-9),
        (Arnoldi(iterations=200, keep=200, rest=True), 1e-7),
        (LiSSA(steps=700, batch=24), 1e-3),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else "",
)
def test_solves_as_the_dense_matrix_does(solver, tolerance) -> None:
    run = trained()
    curvature = Curvature.of(run, (run.steps,))
    v = normal(4, run.net.size, seed=2)
    close(solver(curvature, v, DAMPING, rng()), inverse_times(curvature, v), atol=tolerance)


def test_every_solver_is_tried() -> None:
    assert {Dense, CG, Arnoldi, LiSSA} <= set(SOLVERS.values())


def test_arnoldi_keeps_the_leading_eigenvectors() -> None:
    run = trained()
    curvature = Curvature.of(run, (run.steps,))
    values, vectors = torch.linalg.eigh(curvature.dense())
    top, v = vectors[:, -3:], normal(2, run.net.size, seed=3)
    expected = (v @ top / (values[-3:] + DAMPING)) @ top.T
    got = Arnoldi(iterations=run.net.size, keep=3)(curvature, v, DAMPING, rng())
    close(got, expected, atol=1e-7)


def test_lissa_on_batches_converges_like_one_over_root_of_the_steps() -> None:
    run = trained()
    curvature, heavy = Curvature.of(run, (run.steps,)), 1.0
    v, c = normal(1, run.net.size, seed=4), curvature.dense()
    exact = torch.linalg.solve(c + heavy * torch.eye(len(c), dtype=c.dtype), v.T).T

    def error(steps: int) -> float:
        how = LiSSA(steps=steps, batch=8, scale=3.0)
        off = [
            (how(curvature, v, heavy, Generator().manual_seed(s)) - exact).square().mean()
            for s in range(4)
        ]
        return float(torch.stack(off).mean().sqrt())

    assert 2.0 < error(30) / error(480) < 8.0  # 16 times the steps: 4 where the noise rules


def test_conjugate_gradients_say_when_they_have_not_arrived() -> None:
    with pytest.raises(ap.BadRequest, match="residual"):
        Influence(solver=CG(iterations=1, tolerance=1e-9))([trained()], asked())


def test_a_negative_curvature_is_refused() -> None:
    run = trained(epochs=1)
    start = ap.training.TrainingRun(
        run.recipe,
        0,
        run.batches,
        run.rates,
        run.reaches,
        {0: run.final, run.steps: run.checkpoints[0]},
    )
    for solver in (Dense(), CG()):
        with pytest.raises(ap.BadRequest, match=r"not positive|negative"):
            Influence(solver=solver, curvature="hessian", damping=0.0)([start], asked())


def test_lissa_at_too_small_a_scale_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="scale"):
        Influence(solver=LiSSA(scale=1e-4, steps=300))([trained()], asked())
