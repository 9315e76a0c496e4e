"""Projections: inner products in the mean, with the variance that counting predicts, and each one
against its own matrix.
"""

from __future__ import annotations

import math
import resource
from itertools import pairwise

import pytest
import torch

import apportion as ap
from apportion.training import Identity, Kronecker, Projection, Rademacher, SparseJL
from apportion.training.net import Net
from apportion.training.project import COORDINATES, SIGNS, derived, side
from tests.small import close, cnn, mlp, normal

MADE = [
    Rademacher,
    lambda k, seed: SparseJL(k, nonzeros=1, seed=seed),
    lambda k, seed: SparseJL(k, nonzeros=4, seed=seed),
]
NAMES = ["rademacher", "sparse-1", "sparse-4"]


def matrix(projection: Projection, p: int) -> torch.Tensor:
    return projection(torch.eye(p, dtype=torch.float64))


def predicted(x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """Variance of Px . Py for independent signs: each pair of different entries meets once in k."""
    return float(x @ x * (y @ y) + (x @ y) ** 2 - 2 * (x**2 @ y**2)) / k


@pytest.mark.parametrize("make", MADE, ids=NAMES)
def test_inner_products_are_right_in_the_mean_with_the_predicted_variance(make) -> None:
    x, y = normal(2, 30, seed=1)
    y = y + 0.5 * x
    k, draws = 16, 3000
    pairs = [make(k, seed)(torch.stack([x, y])) for seed in range(draws)]
    found = torch.stack([a @ b for a, b in pairs])
    variance = predicted(x, y, k)
    assert abs(float(found.mean() - x @ y)) < 4 * math.sqrt(variance / draws)
    spread = (found - x @ y).square()
    assert abs(float(spread.mean()) - variance) < 4 * float(spread.std()) / math.sqrt(draws)


@pytest.mark.parametrize("make", MADE, ids=NAMES)
def test_the_error_falls_like_one_over_the_root_of_k(make) -> None:
    x, y = normal(2, 200, seed=2)
    widths = (8, 32, 128, 512)
    errors = []
    for k in widths:
        pairs = [make(k, seed)(torch.stack([x, y])) for seed in range(300)]
        found = torch.stack([a @ b for a, b in pairs])
        errors.append(float((found - x @ y).square().mean().sqrt()))
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert -0.6 < slope < -0.4


def test_two_sided_is_right_in_the_mean() -> None:
    x, y = normal(2, 6 * 9, seed=3)
    shapes, draws = ((6, 9),), 3000
    pairs = [Kronecker(3, 4, shapes, seed)(torch.stack([x, y])) for seed in range(draws)]
    found = torch.stack([a @ b for a, b in pairs])
    assert abs(float(found.mean() - x @ y)) < 4 * float(found.std()) / math.sqrt(draws)


@pytest.mark.parametrize("nonzeros", [1, 3, 4])
def test_sparse_equals_its_matrix_with_one_entry_in_each_segment(nonzeros) -> None:
    projection, p, k = SparseJL(10, nonzeros=nonzeros, seed=5), 500, 10
    m, x = matrix(projection, p), normal(7, p, seed=6)
    close(projection(x), x @ m, atol=1e-12)
    assert set(m.abs().unique().tolist()) == {0.0, 1 / math.sqrt(nonzeros)}
    edges = [j * k // nonzeros for j in range(nonzeros + 1)]
    for a, b in pairwise(edges):
        assert bool(((m[:, a:b] != 0).sum(-1) == 1).all())
        assert bool((m[:, a:b] != 0).any(0).all())


def test_signs_equal_their_matrix() -> None:
    projection, p = Rademacher(9, seed=5), 500
    m, x = matrix(projection, p), normal(7, p, seed=6)
    close(projection(x), x @ m, atol=1e-12)
    assert set((m * 3).unique().tolist()) == {-1.0, 1.0}


def test_two_sided_equals_the_kronecker_product_of_its_sides() -> None:
    projection = Kronecker(3, 4, ((6, 9),), seed=2)
    g = normal(5, 6, 9, seed=7)
    p_o, p_i = side((2, 0, 0), 3, 6).double(), side((2, 0, 1), 4, 9).double()
    close(projection(g.flatten(1)), g.flatten(1) @ torch.kron(p_o, p_i).T, atol=1e-12)
    rank_one = normal(6, seed=8)[:, None] * normal(9, seed=9)
    sides = (p_o @ normal(6, seed=8))[:, None] * (p_i @ normal(9, seed=9))
    close(projection(rank_one.reshape(1, -1)), sides.reshape(1, -1), atol=1e-12)


def test_two_sided_leaves_short_sides_and_vectors_alone() -> None:
    net = Net(mlp(6, 8, 3))
    whole = Kronecker.of(net, 100, 100)
    x = normal(4, net.size, seed=1)
    close(whole(x), x, atol=0)
    small = Kronecker.within(net, 60, seed=3)
    assert small(x).shape[1] == small.size(net.size) <= 60
    assert Kronecker.of(net, small.k_out + 1, small.k_in + 1).size(net.size) > 60
    pictures = Net(cnn())
    assert Kronecker.of(pictures, 2, 2)(normal(1, pictures.size)).isfinite().all()


@pytest.mark.parametrize("make", MADE[:2], ids=NAMES[:2])
def test_entries_beyond_the_first_block_are_drawn_of_their_own(make) -> None:
    """A vector filled up with zeros gives the same; the second block does not repeat the first."""
    k = 64
    width = COORDINATES if make is MADE[1] else SIGNS // k
    projection = make(k, 1)
    x = torch.zeros(2, width + 8, dtype=torch.float64)
    x[0, :8] = x[1, width:] = normal(8, seed=1)
    first, second = projection(x)
    close(projection(x[:1, :100])[0], first, atol=1e-12)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    "projection", [Identity(), Rademacher(8, 1), SparseJL(8), Kronecker(2, 2, ((5, 4), (5,)))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_one_keeps_the_promise(projection, dtype) -> None:
    x = normal(6, 25, dtype=dtype)
    assert isinstance(projection, Projection)
    out = projection(x)
    assert out.shape == (6, projection.size(25)) and out.dtype == dtype
    assert torch.equal(out, projection(x))
    close(projection(2 * x[:1] - x[1:2]), 2 * out[:1] - out[1:2], atol=1e-5)
    assert projection(x[:0]).shape == (0, projection.size(25))


def test_seeds_give_different_draws() -> None:
    x = normal(1, 50)
    for make in MADE:
        assert not torch.equal(make(8, 0)(x), make(8, 1)(x))
    assert len({derived(s, m) for s in range(4) for m in range(4)}) == 16


@pytest.mark.parametrize("make", MADE[:2], ids=NAMES[:2])
def test_memory_stays_far_below_that_of_the_matrix(make) -> None:
    """2^20 entries to 1024: the matrix would take 4 GB."""
    x = normal(1, 2**20, dtype=torch.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make(1024, 0)(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Rademacher(0), "at least 1"),
        (lambda: Rademacher(4, seed=-1), "at least 0"),
        (lambda: SparseJL(4, nonzeros=5), "lower nonzeros="),
        (lambda: Kronecker(2, 2, ((3, 4),))(normal(1, 11)), "Kronecker.of"),
        (lambda: Kronecker.within(Net(mlp()), 3), "6 parameter tensors"),
    ],
)
def test_refusals_name_the_next_step(wrong, told) -> None:
    with pytest.raises(ap.BadRequest, match=told):
        wrong()
