"""Columns that stand in are what one expects there, given those that are present."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.removals import Removal
from apportion.removals.gaussian import fit, of_covariance
from tests.contracts.made import Plainly, asking, hard, soft, some
from tests.small import close, normal

N = 5
MIX = normal(N, N, seed=11)
ROWS = normal(60, N, seed=12) @ MIX + torch.arange(N)  # correlated, of different means
X = normal(2, N, seed=13) @ MIX  # two instances
BUILD = {
    "conditional_mean": ap.removals.conditional_mean,
    "conditional": ap.removals.conditional,
    "conditional_neighbours": lambda rows: ap.removals.conditional_neighbours(rows, 3),
}
EACH = pytest.mark.parametrize("name", list(BUILD))


def look(removal: object, x: Tensor = X, players: object = None) -> ap.ModelGame:
    """A game whose value is the row that reaches the model."""
    value = ap.values.Logit(tuple(range(x.shape[1])))
    return asking(Plainly(lambda x: x), x, removal, value=value, players=players)


def expected(x: np.ndarray, present: list[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the absent columns given the present ones, by numpy's inverse."""
    mean, s = rows.mean(0), np.cov(rows.T)
    a = [i for i in range(len(mean)) if i not in present]
    if not present:
        return mean, s
    k = s[np.ix_(a, present)] @ np.linalg.inv(s[np.ix_(present, present)])
    left = s[np.ix_(a, a)] - k @ s[np.ix_(present, a)]
    return mean[a] + k @ (x[present] - mean[present]), left


@EACH
def test_present_columns_stay_and_gates_are_hard(name) -> None:
    removal = BUILD[name](ROWS)
    game = look(removal)
    assert isinstance(removal, Removal)
    assert game.domain == "binary" and game.grad_price is None
    assert game.draws == {"conditional_mean": 1, "conditional": None}.get(name, 3)
    gates = some(N, rows=8)
    draw = None if game.draws == 1 else torch.arange(8) % 3
    values = game.value(gates, draw)
    there = gates[:, None].expand(-1, 2, -1)
    assert torch.equal(values[there], X.expand(8, -1, -1)[there])
    assert values.isfinite().all()
    with pytest.raises(ap.NotSoft):
        game.value(soft(N), draw)
    assert "aas2021" in game.describe().cites and name in game.describe().removal


def test_the_mean_is_that_of_the_conditional_gaussian() -> None:
    gates = hard("00000", "10000", "01101", "11110", "11111", "01101")
    values = look(ap.removals.conditional_mean(ROWS)).value(gates)
    for row, got in zip(gates, values, strict=True):
        present = row.nonzero().flatten().tolist()
        for x, out in zip(X, got, strict=True):
            mean, _ = expected(x.numpy(), present, ROWS.numpy())
            close(out[~row], torch.from_numpy(mean)[: int((~row).sum())], atol=1e-9)


@pytest.mark.parametrize("present", [[], [1], [0, 2, 3]])
def test_samples_have_the_mean_and_covariance_of_the_conditional_gaussian(present) -> None:
    draws, row = 4000, torch.zeros(N, dtype=torch.bool)
    row[present] = True
    game = look(ap.removals.conditional(ROWS), X[:1])
    out = game.value(row.expand(draws, -1), torch.arange(draws))[:, ~row].numpy()
    mean, cov = expected(X[0].numpy(), present, ROWS.numpy())
    sd = np.sqrt(np.diag(cov))
    assert (np.abs(out.mean(0) - mean) < 4 * sd / draws**0.5).all()
    # a sample covariance has variance (s_ij^2 + s_ii s_jj) / draws
    spread = np.sqrt((cov**2 + np.outer(sd**2, sd**2)) / draws)
    assert (np.abs(np.cov(out.T) - cov) < 4.5 * spread).all()


def test_a_draw_is_one_noise_for_instances_and_repeats() -> None:
    game = look(ap.removals.conditional(ROWS))
    gates = hard("10100", "10100", "10100")
    values = game.value(gates, torch.tensor([7, 7, 8]))
    middle = look(ap.removals.conditional_mean(ROWS)).value(gates)
    noise = values - middle
    close(noise[0], noise[1], atol=1e-12)
    close(noise[:, 0], noise[:, 1], atol=1e-9)
    assert float((noise[0] - noise[2]).abs().max()) > 0.1


def test_neighbours_are_the_nearest_rows_in_the_present_columns() -> None:
    k = 4
    game = look(ap.removals.conditional_neighbours(ROWS, k))
    gates = some(N, rows=6)
    sd = ROWS.std(0, correction=0)
    every = torch.stack([game.value(gates, torch.full((6,), d)) for d in range(k)])
    for g, row in enumerate(gates):
        for i, x in enumerate(X):
            off = ((ROWS - x) / sd)[:, row].pow(2).sum(1)
            nearest = ROWS[off.argsort(stable=True)[:k]][:, ~row]
            # draws take the neighbours in some order, each once
            got = every[:, g, i][:, ~row]
            match = (got[:, None] == nearest).all(-1)
            assert bool((match.sum(0) >= 1).all()) and bool((match.sum(1) >= 1).all())


def test_called_directly_seed_j_is_the_jth_neighbour() -> None:
    removal = ap.removals.conditional_neighbours(ROWS, 3)
    keep = hard("11000").reshape(1, 1, N)
    off = ((ROWS - X[0]) / ROWS.std(0, correction=0))[:, :2].pow(2).sum(1).argsort()
    for j in range(3):
        out = removal(X[None, :1], keep, X[None, :1], torch.tensor([j]))
        close(out[0, 0, 2:], ROWS[off[j], 2:])


@EACH
def test_players_may_own_several_columns(name) -> None:
    columns = ap.players.columns(X)
    pairs = columns.merge([[0, 3], [1], [2, 4]])
    fine, coarse = look(BUILD[name](ROWS)), look(BUILD[name](ROWS), players=pairs)
    gates = some(3)
    wide = gates[:, [0, 1, 2, 0, 2]]
    draw = None if fine.draws == 1 else torch.zeros(len(gates), dtype=torch.long)
    close(coarse.value(gates, draw), fine.value(wide, draw), atol=1e-12)


def test_independent_columns_tell_nothing_about_each_other() -> None:
    """With shrinkage 1 every absent column is its mean."""
    game = look(ap.removals.conditional_mean(ROWS, shrinkage=1.0))
    gates = some(N)
    mean = ROWS.mean(0).expand(len(gates), 2, N)
    close(game.value(gates), torch.where(gates[:, None], X, mean), atol=1e-12)


def test_shrinkage_scales_correlations_and_keeps_variances() -> None:
    plain, shrunk = fit(ROWS, 0.0, "x"), fit(ROWS, 0.25, "x")
    close(plain.covariance, torch.from_numpy(np.cov(ROWS.numpy().T)), atol=1e-9)
    close(shrunk.covariance.diagonal(), plain.covariance.diagonal(), atol=1e-9)
    off = ~torch.eye(N, dtype=torch.bool)
    close(shrunk.covariance[off], 0.75 * plain.covariance[off], atol=1e-9)
    again = of_covariance(plain.mean, plain.covariance, "x")
    close(again.correlation, plain.correlation, atol=1e-12)


def test_a_column_that_never_varies_is_its_value_and_tells_nothing() -> None:
    rows = torch.cat([ROWS, torch.full((60, 1), 3.0)], 1)
    x = torch.cat([X, torch.full((2, 1), 9.0)], 1)
    gates = hard("101000", "101001", "111110")
    wide, narrow = look(BUILD["conditional_mean"](rows), x), look(BUILD["conditional_mean"](ROWS))
    values = wide.value(gates)
    close(values[..., :5], narrow.value(gates[:, :5]), atol=1e-9)
    close(values[0, :, 5], torch.full((2,), 3.0), atol=1e-12)
    close(values[1, :, 5], torch.full((2,), 9.0), atol=1e-12)
    sampled = look(ap.removals.conditional(rows), x).value(gates, torch.arange(3))
    close(sampled[0, :, 5], torch.full((2,), 3.0), atol=1e-12)


def test_float32_and_half_rows_come_back_in_their_own_precision() -> None:
    for dtype in (torch.float32, torch.float16):
        keep = hard("10100").reshape(1, 1, N)
        for build in BUILD.values():
            out = build(ROWS)(X[None].to(dtype), keep, X[None], torch.tensor([0]))
            assert out.dtype == dtype


DEPENDENT = torch.cat([ROWS, 2 * ROWS[:, 1:2] - 1], 1)


@pytest.mark.parametrize("build", [ap.removals.conditional_mean, ap.removals.conditional])
def test_a_singular_covariance_is_refused_with_the_columns_and_the_remedy(build) -> None:
    with pytest.raises(
        ap.BadRequest, match=r"columns 1 and 5 correlate \+1\.0000.*shrinkage=0\.01"
    ):
        build(DEPENDENT)
    with pytest.raises(ap.BadRequest, match="of 5 columns from 4 rows is singular"):
        build(ROWS[:4])
    cured = look(build(DEPENDENT, shrinkage=0.01), torch.cat([X, X[:, :1]], 1))
    assert cured.value(some(6), None if cured.draws == 1 else torch.arange(5)).isfinite().all()


@EACH
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[0], "background rows"),
        (ROWS[:0], "background rows"),
        (ROWS.clone().fill_(float("nan")), "NaN"),
        (ROWS[None], "background rows"),
    ],
)
def test_backgrounds_that_are_no_tables_are_refused(name, rows, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        BUILD[name](rows)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.removals.conditional_mean(ROWS, shrinkage=-0.1), "between 0 and 1"),
        (lambda: ap.removals.conditional_mean(ROWS, shrinkage=float("nan")), "between 0 and 1"),
        (lambda: ap.removals.conditional_mean(ROWS[:1]), "no covariance"),
        (lambda: ap.removals.conditional_neighbours(ROWS, 0), "from 1 to 60"),
        (lambda: ap.removals.conditional_neighbours(ROWS, 61), "from 1 to 60"),
        (lambda: of_covariance(torch.zeros(2), torch.eye(3), "x"), "column, column"),
        (lambda: of_covariance(torch.zeros(2), torch.tensor([[1.0, 0], [1, 1]]), "x"), "symmetric"),
        (lambda: of_covariance(torch.zeros(2), -torch.eye(2), "x"), "negative"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


@EACH
def test_inputs_that_are_no_rows_of_that_table_are_refused(name) -> None:
    removal = BUILD[name](ROWS)
    draw = None if removal.draws == 1 else torch.zeros(5, dtype=torch.long)
    with pytest.raises(ap.BadRequest, match="the background 5 columns"):
        look(removal, normal(1, 4)).value(some(4), draw)
    picture = normal(1, 1, 5, 5)
    see = Plainly(lambda x: x.flatten(1))
    game = asking(see, picture, removal, players=ap.players.pixels(picture))
    with pytest.raises(ap.BadRequest, match=r"ap\.players\.columns"):
        game.value(some(25), draw)
    with pytest.raises(ap.BadRequest, match="have to be bool"):
        removal(X[None], soft(N, 1).reshape(1, 1, N), X[None], torch.tensor([0]))
