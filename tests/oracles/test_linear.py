"""Shapley values of linear models: closed forms, enumeration, games, and the rate of sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.contracts.made import asking
from tests.oracles.slow import shapley, within_noise
from tests.small import close, normal

N = 5
ROWS = normal(40, N, seed=1) @ normal(N, N, seed=2) + torch.arange(N)
X = normal(3, N, seed=3) + torch.arange(N)
WEIGHTS = normal(N, seed=4)


def brute_force(weights: Tensor, x: Tensor, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """All orders of arrival, E[x | x_S] by numpy's inverse."""
    beta, row = weights.numpy(), x.numpy()

    def value(s: frozenset[int]) -> float:
        present = sorted(s)
        absent = [i for i in range(len(row)) if i not in s]
        at = row.copy()
        k = cov[np.ix_(absent, present)] @ np.linalg.inv(cov[np.ix_(present, present)])
        at[absent] = mean[absent] + k @ (row[present] - mean[present])
        return float(beta @ at)

    return shapley(value, len(row))


def moments(rows: Tensor = ROWS) -> tuple[Tensor, Tensor]:
    return rows.mean(0), torch.from_numpy(np.cov(rows.numpy().T))


def linear(weights: Tensor, bias: float = 0.0) -> nn.Module:
    layer = nn.utils.skip_init(nn.Linear, weights.shape[-1], 1).double()
    with torch.no_grad():
        layer.weight.copy_(weights[None])
        layer.bias.fill_(bias)
    return layer


def game(removal: object, x: Tensor = X) -> ap.ModelGame:
    return asking(linear(WEIGHTS, 0.5), x, removal)


def test_observational_credit_equals_the_sum_over_all_orders() -> None:
    mean, cov = moments()
    credit = ap.linear.observational(WEIGHTS, X, ROWS, bias=0.5)
    for x, got in zip(X, credit.scores, strict=True):
        close(got, torch.from_numpy(brute_force(WEIGHTS, x, mean.numpy(), cov.numpy())))
    close(ap.linear.observational(WEIGHTS, X, (mean, cov)).scores, credit.scores, atol=1e-9)
    close(credit.gap, torch.zeros(3), atol=1e-10)
    assert credit.error is None and "nothing is sampled" in credit.provenance.error_note


def test_observational_credit_is_that_of_the_game_with_conditional_means() -> None:
    credit = ap.linear.observational(WEIGHTS, X, ROWS, bias=0.5)
    asked = ap.attribute(game(ap.removals.conditional_mean(ROWS)), ap.ExactShapley())
    close(credit.scores, asked.scores, atol=1e-10)
    close(credit.none, asked.none, atol=1e-10)
    close(credit.full, asked.full, atol=1e-10)
    shrunk = ap.linear.observational(WEIGHTS, X, ROWS, shrinkage=0.3)
    other = ap.attribute(game(ap.removals.conditional_mean(ROWS, shrinkage=0.3)), ap.ExactShapley())
    close(shrunk.scores, other.scores, atol=1e-10)


def test_sampling_the_conditional_in_the_game_converges_to_it() -> None:
    """Unbiased for a linear model: runs with their own draws scatter around the closed form."""
    credit = ap.linear.observational(WEIGHTS, X[:1], ROWS)
    sampled = game(ap.removals.conditional(ROWS), X[:1])
    runs = [
        ap.attribute(ap.averaged(sampled, 20, seed=s), ap.ExactShapley()).scores for s in range(30)
    ]
    within_noise(torch.stack(runs) - credit.scores)


def test_interventional_credit_is_that_of_the_game_with_background_rows() -> None:
    credit = ap.linear.interventional(WEIGHTS, X, ROWS, bias=0.5)
    close(credit.scores, WEIGHTS * (X - ROWS.mean(0)), atol=1e-12)
    for estimator in (ap.ExactShapley(), ap.KernelShap(samples=2**N)):
        asked = ap.attribute(game(ap.Blend(ap.removals.rows(ROWS))), estimator)
        close(credit.scores, asked.scores, atol=1e-8)
    close(credit.none, asked.none, atol=1e-10)
    close(credit.gap, torch.zeros(3), atol=1e-10)


def test_without_correlations_both_are_the_same() -> None:
    mean, cov = moments()
    apart = (mean, torch.diag(cov.diagonal()))
    both = [
        f(WEIGHTS, X, apart).scores for f in (ap.linear.interventional, ap.linear.observational)
    ]
    close(both[0], both[1], atol=1e-12)


def test_a_column_that_is_ignored_earns_credit_only_observationally() -> None:
    """Two columns of correlation r, only the first with a weight b: the other earns half of what
    it tells alone, b r z_2, as it tells nothing once the first is known.
    """
    r, x = 0.8, torch.tensor([[1.5, -0.5]]).double()
    moments = torch.zeros(2).double(), torch.tensor([[1.0, r], [r, 1.0]]).double()
    weights = torch.tensor([2.0, 0.0]).double()
    told = ap.linear.observational(weights, x, moments).scores
    close(told[1], 2 * r * x[0, 1] / 2, atol=1e-6)
    assert float(ap.linear.interventional(weights, x, moments).scores[1]) == 0.0


@pytest.mark.parametrize("outputs", [1, 2])
def test_several_outputs_and_instances_are_each_as_alone(outputs) -> None:
    weights = normal(outputs, N, seed=7)
    for f in (ap.linear.interventional, ap.linear.observational):
        together = f(weights, X, ROWS, bias=torch.arange(outputs))
        assert together.scores.shape == (3, outputs, N)
        for i in range(3):
            for o in range(outputs):
                alone = f(weights[o], X[i : i + 1], ROWS, bias=float(o))
                close(together.pick(i, o).scores, alone.scores, atol=1e-12)
                close(together.full[i, o], alone.full, atol=1e-12)


def wide(n: int = 14) -> tuple[Tensor, Tensor, Tensor]:
    return normal(n, seed=5), normal(2, n, seed=6), normal(60, n, seed=7) @ normal(n, n, seed=8)


def test_random_orders_scatter_around_the_enumeration_by_their_error() -> None:
    exact = ap.linear.observational(WEIGHTS, X, ROWS)
    runs = [ap.linear.observational(WEIGHTS, X, ROWS, orders=40, seed=s) for s in range(60)]
    off = torch.stack([run.scores for run in runs]) - exact.scores
    within_noise(off.flatten(1))
    told = torch.stack([run.error for run in runs]).pow(2).mean(0)
    # variances over 60 runs are known to 4 sqrt(2 / 59), and told ones better
    ratio = off.pow(2).mean(0) / told
    assert bool(((ratio - 1).abs() < 5 * (2 / 59) ** 0.5).all())
    assert runs[0].freedom == 19


def test_errors_fall_with_the_square_root_of_the_orders() -> None:
    weights, x, rows = wide()
    few = ap.linear.observational(weights, x, rows, orders=200)
    many = ap.linear.observational(weights, x, rows, orders=3200)
    ratio = (few.error / many.error).median()
    assert 3.2 < float(ratio) < 4.8
    close(many.gap, torch.zeros(2), atol=1e-9)  # each order adds up
    off = (few.scores - many.scores) / (few.error**2 + many.error**2).sqrt()
    assert float(off.abs().max()) < 4.5
    again = ap.linear.observational(weights, x, rows, orders=200)
    assert torch.equal(again.scores, few.scores)
    default = ap.linear.observational(weights, x, rows)  # 14 columns are too many to enumerate
    assert default.freedom == 499


def test_columns_that_never_vary_earn_what_their_distance_from_the_mean_brings() -> None:
    rows = torch.cat([ROWS, torch.full((40, 1), 2.0)], 1)
    x = torch.cat([X, torch.full((3, 1), 5.0)], 1)
    weights = torch.cat([WEIGHTS, torch.tensor([0.5]).double()])
    credit = ap.linear.observational(weights, x, rows)
    close(credit.scores[:, 5], torch.full((3,), 1.5), atol=1e-10)
    close(credit.scores[:, :5], ap.linear.observational(WEIGHTS, X, ROWS).scores, atol=1e-10)


def test_one_column_takes_everything_and_its_name_is_kept() -> None:
    credit = ap.linear.observational(
        torch.tensor([2.0]), torch.tensor([[3.0]]), torch.tensor([[0.0], [2.0]]), names=["age"]
    )
    close(credit.scores, torch.tensor([4.0]))
    assert credit["age"].score == 4.0
    assert "True to the model" in credit.cite() and str(credit).startswith("linear.observational")


ONE = torch.ones(N).double()


@pytest.mark.parametrize("f", [ap.linear.interventional, ap.linear.observational])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": WEIGHTS[:4]}, "weights are"),
        ({"x": X[0]}, r"x\[None\]"),
        ({"x": X[:0]}, "no rows"),
        ({"x": X * float("nan")}, "NaN"),
        ({"weights": WEIGHTS * float("inf")}, "NaN or infinite"),
        ({"rows": ROWS[:, :4]}, "the background 4"),
        ({"rows": ROWS * float("nan")}, "NaN"),
        ({"bias": torch.ones(2)}, "2 biases for 1"),
        ({"names": ["a"]}, "1 names"),
    ],
)
def test_what_means_nothing_is_refused(f, change, message) -> None:
    given = {"weights": WEIGHTS, "x": X, "rows": ROWS} | change
    with pytest.raises(ap.BadRequest, match=message):
        f(given.pop("weights"), given.pop("x"), given.pop("rows"), **given)


def test_options_that_mean_nothing_are_refused() -> None:
    for covariance, message in (
        (torch.ones(N, N).double(), "singular"),
        (-torch.eye(N).double(), "negative"),
        (torch.eye(N - 1).double(), "column, column"),
    ):
        with pytest.raises(ap.BadRequest, match=message):
            ap.linear.observational(WEIGHTS, X, (ONE, covariance))
    for options, message in (
        ({"orders": 2}, "two pairs"),
        ({"shrinkage": 2.0}, "between 0 and 1"),
    ):
        with pytest.raises(ap.BadRequest, match=message):
            ap.linear.observational(WEIGHTS, X, ROWS, **options)
    with pytest.raises(ap.BadRequest, match="not a covariance"):
        ap.linear.observational(WEIGHTS, X, moments(), shrinkage=0.1)
    double = torch.cat([ROWS, ROWS[:, :1]], 1)
    with pytest.raises(ap.BadRequest, match=r"columns 0 and 5 correlate .*shrinkage=0\.01"):
        ap.linear.observational(normal(6), normal(1, 6), double)
