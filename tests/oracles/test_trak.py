"""TRAK: closed forms on least squares, influence where the loss bends in one direction, both forms
of the inverse, and what must not matter.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.backward.response import TRAK, Influence, Response
from apportion.backward.response.trak import shrunk, slopes_of, solved
from apportion.training import (
    SGD,
    Constant,
    Queries,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    margin,
    prediction,
    squared_error,
    train,
)
from apportion.training.persample import each, of_queries
from apportion.training.store import Origin, Store
from tests.small import close, normal, seeded

NO_ORIGIN = Origin(
    rows="", checkpoint="", model="", parameters=(), projection="", measure=""
)  # fmt: skip


def ridge(x: torch.Tensor, y: torch.Tensor, decay: float) -> TrainingRun:
    """A run that stands at the minimum of the mean of squared errors / 2 + decay |theta|^2 / 2."""
    at = solution(x, y, decay, torch.ones(len(y), dtype=x.dtype))
    recipe = Recipe(
        build=lambda: nn.Linear(x.shape[1], 1, bias=False).double(), rows=Rows(x, y),
        loss=squared_error, schedule=Constant(0.0), epochs=1, start={"weight": at[None]},
        optimiser=SGD(weight_decay=decay),
    )  # fmt: skip
    return train(recipe, keep=1)


def solution(x: torch.Tensor, y: torch.Tensor, decay: float, w: torch.Tensor) -> torch.Tensor:
    a = x.T @ (w[:, None] * x) + len(y) * decay * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(a, x.T @ (w * y))


def network(
    classes: int, loss, rows: int = 20, seed: int = 0, dtype: torch.dtype = torch.float64
) -> TrainingRun:
    x = normal(rows, 4, seed=1, dtype=dtype)
    y = x[:, 0] if classes == 1 else (x[:, 0] > 0).long() + (x[:, 1] > 1).long() * (classes > 2)
    recipe = Recipe(
        build=lambda: seeded(
            lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, classes)), seed, dtype
        ),
        rows=Rows(x, y), loss=loss, schedule=Constant(0.1), epochs=3, batch=5,
        optimiser=SGD(momentum=0.5, weight_decay=1e-2),
    )  # fmt: skip
    return train(recipe, seed=seed, keep=1)


def asked(classes: int, dtype: torch.dtype = torch.float64) -> Queries:
    x = normal(6, 4, seed=9, dtype=dtype)
    if classes == 1:
        return Queries(x, None, prediction)
    return Queries(x, torch.arange(6) % classes, margin)


def table(features: torch.Tensor, block: int = 3) -> Store:
    store = Store(len(features), features.shape[1], block, NO_ORIGIN)
    return store.fill(lambda own: features[own])


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_least_squares_equals_the_derivative_of_refits(decay) -> None:
    x, noise = normal(15, 4, seed=1), normal(15, seed=2)
    y, q = x.sum(-1) + noise, normal(3, 4, seed=3)
    run = ridge(x, y, decay)
    trak = TRAK(k=None, output=prediction, damping=decay)
    tau = trak([run], Queries(q, None, prediction))
    a = x.T @ x + 15 * decay * torch.eye(4, dtype=x.dtype)
    residual = y - x @ solution(x, y, decay, torch.ones_like(y))
    close(tau, q @ torch.linalg.inv(a) @ x.T * residual, atol=1e-12)
    for i in (0, 7):
        h = 1e-5 * torch.eye(15, dtype=x.dtype)[i]
        up, down = (solution(x, y, decay, torch.ones_like(y) + s * h) for s in (1, -1))
        close(tau[:, i], q @ (up - down) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("kernel", ["weighted", "plain"])
@pytest.mark.parametrize("damping", [None, 0.3])
def test_squared_error_equals_influence_of_any_network(kernel, damping) -> None:
    """The loss bends in one direction, by 1 everywhere; no minimum is needed."""
    run, queries = network(1, squared_error), asked(1)
    trak = TRAK(k=None, output=prediction, kernel=kernel, damping=damping)
    close(trak([run], queries), Influence(damping=damping)([run], queries), atol=1e-10)


@pytest.mark.parametrize("rows", [20, 60])
def test_two_classes_weighted_equals_influence(rows) -> None:
    """Softmax of two classes is a function of the margin, so R phi phi' is the whole curvature."""
    run, queries = network(2, cross_entropy, rows), asked(2)
    assert (rows < run.net.size) == (rows == 20)  # both forms of the inverse
    close(TRAK(k=None)([run], queries), Influence()([run], queries), atol=1e-10)


@pytest.mark.parametrize("kernel", ["weighted", "plain"])
def test_three_classes_equal_the_formula_written_out(kernel) -> None:
    run, queries, damping = network(3, cross_entropy), asked(3), 0.02
    x, y = run.recipe.rows.take(slice(None))
    phi = each(run.net, run.final, margin, x, y)
    p = run.net(run.final, x).softmax(-1).gather(1, y[:, None])[:, 0].detach()
    r = p * (1 - p) if kernel == "weighted" else (p * (1 - p)).mean().expand(20)
    full = phi.T @ (r[:, None] * phi) + 20 * damping * torch.eye(run.net.size, dtype=phi.dtype)
    want = of_queries(run.net, run.final, queries) @ torch.linalg.solve(full, phi.T) * (1 - p)
    close(TRAK(k=None, kernel=kernel, damping=damping)([run], queries), want, atol=1e-10)


@pytest.mark.parametrize(("loss", "output", "classes"), [
    (cross_entropy, margin, 3), (squared_error, prediction, 1)
])  # fmt: skip
def test_slope_and_bend_are_derivatives_of_the_loss_by_the_output(loss, output, classes) -> None:
    """L as a function of f, by stepping the logits along a line on which f changes by one."""
    run = network(classes, loss)
    slope, bend = slopes_of(run, output)
    x, y = run.recipe.rows.take(slice(None))
    out = run.net(run.final, x).detach()
    step = torch.zeros_like(out)
    step[torch.arange(20), y if classes > 1 else torch.zeros(20, dtype=torch.long)] = 1e-4
    up, mid, down = (loss(out + s * step, y) for s in (1, 0, -1))
    moved = output(out + step, y) - output(out, y)
    close(moved, torch.full_like(moved, 1e-4), atol=1e-12)
    close(slope, -(up - down) / 2e-4, atol=1e-7)
    close(bend, (up - 2 * mid + down) / 1e-8, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7)])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_both_forms_equal_the_inverse(shape, block) -> None:
    phi, v, w = normal(*shape, seed=1), normal(4, shape[1], seed=2), normal(shape[0]).square()
    full = phi.T @ (w[:, None] * phi) + 0.7 * torch.eye(shape[1], dtype=phi.dtype)
    close(solved(table(phi, block), w, 0.7, v), torch.linalg.solve(full, v.T).T, atol=1e-10)


def test_an_invertible_change_of_basis_changes_nothing() -> None:
    phi, v, w = normal(12, 5, seed=1), normal(4, 5, seed=2), normal(12).square()
    turn = normal(5, 5, seed=3) + 3 * torch.eye(5, dtype=phi.dtype)
    plain, turned = table(phi), table(phi @ turn)
    close(
        turned.scores(solved(turned, w, 0.0, v @ turn)), plain.scores(solved(plain, w, 0.0, v)),
        atol=1e-9,
    )  # fmt: skip


def test_a_model_on_other_columns_gives_the_same_scores() -> None:
    x, y, q = normal(15, 4, seed=1), normal(15, seed=2), normal(3, 4, seed=3)
    turn = normal(4, 4, seed=4) + 3 * torch.eye(4, dtype=x.dtype)
    trak = TRAK(k=None, output=prediction, damping=0.0)
    tau = trak([ridge(x, y, 0.0)], Queries(q, None, prediction))
    other = trak([ridge(x @ turn, y, 0.0)], Queries(q @ turn, None, prediction))
    close(other, tau, atol=1e-9)


def test_runs_are_combined_as_the_product_of_means() -> None:
    runs, queries, trak = [network(3, cross_entropy, seed=s) for s in (0, 1)], asked(3), TRAK()
    q = [slopes_of(run, margin)[0] for run in runs]
    kernels = [trak([run], queries) / own for run, own in zip(runs, q, strict=True)]
    close(trak(runs, queries), (kernels[0] + kernels[1]) / 2 * (q[0] + q[1]) / 2, atol=1e-12)
    close(trak(runs[:1] * 3, queries), trak(runs[:1], queries), atol=1e-12)


@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
def test_projected_scores_approach_the_unprojected_ones(kind) -> None:
    """The kernel is a smooth function of inner products of gradients."""
    run, queries = network(3, cross_entropy), asked(3)
    exact = TRAK(k=None, damping=0.5)([run], queries)
    errors = []
    for k in (5, 10, 20, 40):  # of 43 parameters
        gaps = [
            TRAK(k=k, damping=0.5, projection=kind, seed=s)([run], queries) - exact
            for s in range(40)
        ]
        errors.append(float(torch.stack(gaps).square().mean().sqrt()))
    slope = math.log(errors[-1] / errors[0]) / math.log(8)
    assert -0.75 < slope < -0.25


def test_no_less_than_all_parameters_is_no_projection() -> None:
    run, queries = network(3, cross_entropy), asked(3)
    assert torch.equal(TRAK(k=43)([run], queries), TRAK(k=None)([run], queries))
    kept = TRAK(k=30, projection="kronecker")([run], queries)
    assert kept.shape == (6, 20)


def test_the_threshold_moves_scores_towards_zero() -> None:
    run, queries = network(3, cross_entropy), asked(3)
    tau = TRAK()([run], queries)
    by = float(tau.abs().median())
    cut = TRAK(threshold=by)([run], queries)
    big = tau.abs() > by
    close(tau[big] - cut[big], by * tau[big].sign(), atol=1e-12)
    assert not cut[~big].any()
    assert torch.equal(shrunk(tau, 0.0), tau)


def test_a_folder_gives_the_same_bits_and_is_used_again(tmp_path, monkeypatch) -> None:
    runs = [network(3, cross_entropy, seed=s, dtype=torch.float32) for s in (0, 1)]
    queries = asked(3, torch.float32)
    plain = TRAK(k=20)(runs, queries)
    kept = TRAK(k=20, folder=tmp_path)
    assert torch.equal(kept(runs, queries), plain)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-0", "run-1"]
    monkeypatch.setattr("apportion.training.store.each", None)  # rows are not featurised again
    assert torch.equal(kept(runs, queries), plain)
    with pytest.raises(ap.BadRequest, match="another projection"):
        TRAK(k=21, folder=tmp_path)(runs, queries)


def test_it_is_a_response() -> None:
    assert isinstance(TRAK(), Response)
    run = network(3, cross_entropy)
    assert TRAK().passes(run) == 1
    assert "damping" in " ".join(TRAK().notes([run]))


def own_loss(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return cross_entropy(output, label) ** 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: TRAK(threshold=-1.0), "at least 0"),
        (lambda: TRAK()([], asked(3)), "train"),
        (lambda: TRAK()([network(3, own_loss)], asked(3)), "Influence"),
        (lambda: TRAK(output=prediction)([network(3, cross_entropy)], asked(3)), "margin"),
        (lambda: TRAK(k=None, damping=0.0)([network(3, cross_entropy)], asked(3)), "damping="),
        (lambda: TRAK(damping=-1.0)([network(3, cross_entropy)], asked(3)), "damping"),
        (
            lambda: TRAK()([network(3, cross_entropy), network(3, cross_entropy, 21)], asked(3)),
            "different rows",
        ),
    ],
)
def test_refusals_name_the_next_step(wrong, told) -> None:
    with pytest.raises(ap.BadRequest, match=told):
        wrong()


def test_several_outputs_are_no_prediction() -> None:
    x = normal(8, 4)
    recipe = Recipe(
        build=lambda: nn.Linear(4, 2).double(), rows=Rows(x, x[:, :2]), loss=squared_error,
        schedule=Constant(0.1), epochs=1,
    )  # fmt: skip
    with pytest.raises(ap.BadRequest, match="reads one number"):
        TRAK(output=prediction)([train(recipe, keep=1)], Queries(x, None, prediction))
