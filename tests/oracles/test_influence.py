"""Influence: closed forms of ridge and logistic regression, and refits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as mean_loss

import apportion as ap
from apportion.backward.response import Dense, Influence, by_training
from apportion.training import SGD, Queries, Recipe, Rows, cross_entropy
from tests.oracles.trained import INPUTS, N, asked, ended, linear, ridge, ridge_data, trained
from tests.small import close, normal


def refit_ridge(weights: Tensor, decay: float = 0.2) -> Tensor:
    x, y = ridge_data()
    gram = (x.T * weights) @ x / N + decay * torch.eye(INPUTS, dtype=x.dtype)
    return torch.linalg.solve(gram, x.T @ (weights * y) / N)


def test_ridge_is_the_derivative_of_refits() -> None:
    run, queries = ridge()
    credit = Influence(damping=0.2)([run], queries)
    step = 1e-5
    for i in range(0, N, 7):
        up, down = torch.ones(2, N, dtype=torch.float64)
        up[i] += step
        down[i] -= step
        slope = (refit_ridge(up) - refit_ridge(down)) / (2 * step)
        close(credit[:, i], queries.input @ slope, atol=1e-9)


def test_ridge_in_closed_form_and_its_distance_to_leaving_one_out() -> None:
    """theta - theta_-i = A^-1 x e / (1 - h): influence lacks the factor 1 / (1 - h)."""
    run, queries = ridge()
    x, y = ridge_data()
    theta = run.final["weight"][0]
    inverse = torch.linalg.inv(x.T @ x + N * 0.2 * torch.eye(INPUTS, dtype=x.dtype))
    residual, leverage = y - x @ theta, ((x @ inverse) * x).sum(-1)
    credit = Influence(damping=0.2)([run], queries)
    close(credit, (queries.input @ inverse @ x.T) * residual, atol=1e-12)
    exact = []
    for i in range(N):
        weights = torch.ones(N, dtype=torch.float64)
        weights[i] = 0
        exact.append(queries.input @ (theta - refit_ridge(weights)))
    close(torch.stack(exact, -1), credit / (1 - leverage), atol=1e-12)


def test_squared_error_has_one_curvature() -> None:
    """For outputs linear in the parameters GGN and Hessian are the same matrix."""
    run, queries = ridge()
    ggn, hessian = (Influence(damping=0.2, curvature=c)([run], queries) for c in ("ggn", "hessian"))
    close(ggn, hessian, atol=1e-12)


def logistic(decay: float = 0.05) -> tuple[Recipe, Tensor, Tensor]:
    x = normal(N, INPUTS, seed=7)
    y = (x @ normal(INPUTS, 3, seed=8)).argmax(-1)
    recipe = Recipe(
        build=lambda: linear(3), rows=Rows(x, y), loss=cross_entropy,
        optimiser=SGD(weight_decay=decay),
    )  # fmt: skip
    return recipe, x, y


def minimum(x: Tensor, y: Tensor, weights: Tensor, decay: float) -> Tensor:
    """Weighted logistic regression by Newton's method."""
    theta = torch.zeros(3, INPUTS, dtype=torch.float64)

    def loss(flat: Tensor) -> Tensor:
        w = flat.reshape(3, INPUTS)
        losses = mean_loss(x @ w.T, y, reduction="none")
        return (weights * losses).sum() / N + decay / 2 * w.square().sum()

    flat = theta.flatten()
    for _ in range(30):
        slope = torch.func.grad(loss)(flat)
        flat = flat - torch.linalg.solve(torch.func.hessian(loss)(flat), slope)
    assert float(torch.func.grad(loss)(flat).norm()) < 1e-13
    return flat.reshape(3, INPUTS)


def test_logistic_regression_is_the_derivative_of_refits() -> None:
    recipe, x, y = logistic()
    run = ended(recipe, {"weight": minimum(x, y, torch.ones(N, dtype=torch.float64), 0.05)})
    queries = Queries(normal(4, INPUTS, seed=9), torch.tensor([0, 1, 2, 0]))
    credit = Influence(damping=0.05)([run], queries)
    step = 1e-4
    for i in (0, 11, 30):
        up, down = torch.ones(2, N, dtype=torch.float64)
        up[i] += step
        down[i] -= step
        above, below = (
            queries.measure(queries.input @ minimum(x, y, w, 0.05).T, queries.labels)
            for w in (up, down)
        )
        close(credit[:, i], (above - below) / (2 * step), atol=1e-8)


def test_large_damping_is_gradient_similarity() -> None:
    run, queries = trained(), asked()
    big = 1e8
    from_gradients = ap.backward.response.GradDot()([run], queries)
    close(big * Influence(damping=big)([run], queries), from_gradients, atol=1e-6)


def test_averaged_over_one_checkpoint_is_final() -> None:
    run, queries = trained(keep=1), asked()
    close(Influence(at="averaged")([run], queries), Influence()([run], queries), atol=1e-14)


def test_several_runs_are_averaged() -> None:
    queries = asked()
    runs = [trained(), trained(epochs=3)]
    each = [Influence()([run], queries) for run in runs]
    close(Influence()(runs, queries), torch.stack(each).mean(0))


def test_the_damping_rule_counts_the_way_travelled() -> None:
    """Weight decay + (1 - momentum) / sum of learning rates."""
    run = trained()
    assert by_training(run) == pytest.approx(1e-2 + (1 - 0.8) / (0.1 * run.steps))


def test_self_influence_is_the_influence_on_the_own_loss() -> None:
    run = trained()
    rows = run.recipe.rows
    lost = ap.training.Measure("minus loss", "nats", lambda out, y: -cross_entropy(out, y))
    every = Influence()([run], Queries(rows.input, rows.label, lost))
    close(Influence().self_influence(run), every.diagonal(), atol=1e-12)


def test_mislabelled_rows_influence_themselves_most() -> None:
    x = normal(200, INPUTS, seed=10)
    y = (x[:, 0] > 0).long()
    wrong = torch.zeros(200, dtype=torch.bool)
    wrong[::20] = True
    run = trained(rows=Rows(x, torch.where(wrong, 1 - y, y)), epochs=20)
    score = ap.evaluate.mislabel_detection(Influence().self_influence(run), wrong)
    assert score.outside
    assert score.p_value < 0.01


@pytest.mark.parametrize("damping", [-1.0, float("nan"), True])
def test_damping_must_be_a_number_of_at_least_zero(damping) -> None:
    with pytest.raises(ap.BadRequest, match="damping"):
        Influence(damping=damping)([trained()], asked())


def test_an_undamped_singular_curvature_is_refused() -> None:
    """More parameters than rows x outputs: no inverse."""
    x = normal(2, INPUTS, seed=11)
    run = trained(rows=Rows(x, torch.tensor([0, 1])), optimiser=SGD(), epochs=2)
    with pytest.raises(ap.BadRequest, match="singular or negative"):
        Influence(damping=0.0)([run], asked())


def test_gradients_that_vanish_are_refused() -> None:
    run = trained()
    still = ap.training.Measure("nothing", "", lambda out, y: 0 * out[:, 0], labelled=False)
    with pytest.raises(ap.BadRequest, match="exactly 0"):
        Influence()([run], Queries(asked().input, None, still))


def test_blocks_leave_out_the_curvature_between_modules() -> None:
    run, queries = trained(), asked()
    curvature = ap.training.curvature.Curvature.of(run, (run.steps,))
    full = curvature.dense()
    for start, stop in ((0, 24), (24, len(full))):
        full[start:stop, :start] = full[start:stop, stop:] = 0
    full += by_training(run) * torch.eye(len(full), dtype=full.dtype)
    q = ap.training.persample.of_queries(run.net, run.final, queries)
    g = ap.training.persample.each(
        run.net, run.final, cross_entropy, run.recipe.rows.input, run.recipe.rows.label
    )
    expected = -q @ torch.linalg.solve(full, g.T) / len(g)
    close(Influence(solver=Dense(blocks=True))([run], queries), expected, atol=1e-10)
