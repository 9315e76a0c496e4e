"""Exact kNN-Shapley values against enumeration over all sets of rows."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import pytest
import torch
from torch import Generator, Tensor

import apportion as ap
from apportion.backward.response import KnnShapley
from apportion.backward.response.neighbours import knn_shapley
from apportion.taps import Site
from tests.oracles.test_neighbours import BY_HAND, SITES, Q, activations, queries, run_of
from tests.small import close, normal


def shapley(near: Tensor, agree: Tensor, k: int) -> Tensor:
    """Every row's mean marginal vote, over all subsets of the others."""
    n = len(near)
    order = sorted(range(n), key=lambda i: (-float(near[i]), i))

    def vote(present: frozenset[int]) -> float:
        return sum(bool(agree[i]) for i in [i for i in order if i in present][:k]) / k

    scores = torch.zeros(n, dtype=torch.float64)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            share = factorial(size) * factorial(n - 1 - size) / factorial(n)
            for chosen in combinations(others, size):
                own = frozenset(chosen)
                scores[i] += share * (vote(own | {i}) - vote(own))
    return scores


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 12])
def test_the_recursion_is_the_shapley_value(n: int, k: int) -> None:
    near = normal(3, n, seed=10 * n + k)
    near[0] = near[0].round()  # with ties
    agree = torch.rand(3, n, generator=Generator().manual_seed(n)) < 0.5
    told = knn_shapley(near, agree, k)
    for q in range(3):
        close(told[q], shapley(near[q], agree[q], k), atol=1e-12)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("depth", list(SITES))
def test_rows_are_credited_for_their_votes_at_a_site(k: int, depth: int) -> None:
    run, asked = run_of(), queries()
    told = KnnShapley(k=k, site=SITES[depth])([run], asked)
    ours = activations(run, run.recipe.rows.input, depth)
    theirs = activations(run, asked.input, depth)
    for q in range(Q):
        near = torch.stack([BY_HAND["l2"](theirs[q], x) for x in ours])
        agree = run.recipe.rows.label == asked.label[q]
        close(told[q], shapley(near, agree, k), atol=1e-12)
        close(told[q].sum(), agree[near.argsort(descending=True)[:k]].double().mean())


def test_many_rows_are_credited_efficiently_and_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr(ap.backward.response.neighbours, "PASS", 7)
    run, asked, k = run_of(300), queries(), 10
    site = Site("1")
    told = KnnShapley(k=k, site=site)([run], asked)
    ours = activations(run, run.recipe.rows.input, 2)
    near = -torch.cdist(activations(run, asked.input, 2), ours)
    nearest = near.argsort(-1, descending=True)[:, :k]
    agree = run.recipe.rows.label[nearest] == asked.label[:, None]
    close(told.sum(-1), agree.double().mean(-1), atol=1e-12)
