"""Nearest neighbours by definition: similarities one by one, votes by enumerating all subsets."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.backward.response import KnnShapley, Neighbours, Response
from apportion.backward.response.neighbours import _check_similarity
from apportion.taps import Site
from apportion.training import (
    Constant,
    Queries,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    prediction,
    train,
)
from tests.small import close, normal, untouched

N, Q = 9, 4


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def run_of(n: int = N, seed: int = 0) -> TrainingRun:
    recipe = Recipe(
        build=net, rows=Rows(normal(n, 3, seed=1), torch.arange(n) * 2 // n),
        loss=cross_entropy, schedule=Constant(0.3), epochs=4, batch=4,
    )  # fmt: skip
    return train(recipe, seed=seed)


def queries() -> Queries:
    return Queries(normal(Q, 3, seed=2), torch.tensor([0, 1, 1, 0]))


def activations(run: TrainingRun, x: Tensor, depth: int) -> Tensor:
    """By hand: the first layers of the trained model."""
    return run.model()[:depth](x).detach()


BY_HAND = {
    "cosine": lambda a, b: torch.nn.functional.cosine_similarity(a, b, dim=0),
    "l2": lambda a, b: -(a - b).square().sum(),
    "dot": lambda a, b: (a * b).sum(),
}
SITES = {0: None, 2: Site("1"), 3: Site("")}


@pytest.mark.parametrize("depth", list(SITES))
@pytest.mark.parametrize("similarity", list(BY_HAND))
def test_similarities_are_those_of_each_pair(similarity: str, depth: int) -> None:
    run, asked = run_of(), queries()
    told = Neighbours(site=SITES[depth], similarity=similarity)([run], asked)
    ours = activations(run, run.recipe.rows.input, depth)
    theirs = activations(run, asked.input, depth)
    for q in range(Q):
        for i in range(N):
            close(told[q, i], BY_HAND[similarity](theirs[q], ours[i]))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_signed_rows_of_another_label_count_negative(similarity: str) -> None:
    run, asked = run_of(), queries()
    plain = Neighbours(similarity=similarity)([run], asked)
    signed = Neighbours(similarity=similarity, signed=True)([run], asked)
    for q in range(Q):
        for i in range(N):
            alike = int(asked.label[q]) == int(run.recipe.rows.label[i])
            close(signed[q, i], plain[q, i] * (1 if alike else -1), atol=0)


@pytest.mark.parametrize("response", [
    Neighbours(site=Site("1")), Neighbours(site=Site("1"), signed=True), KnnShapley(site=Site("1")),
])  # fmt: skip
def test_runs_are_averaged_and_left_as_they_were(response: Response) -> None:
    assert isinstance(response, Response)
    runs, asked = [run_of(seed=0), run_of(seed=1)], queries()
    with untouched(runs[0].net.module):
        both = response(runs, asked)
    close(both, (response(runs[:1], asked) + response(runs[1:], asked)) / 2)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        return self.head(self.table(ids).mean(1) * scale)


def test_rows_of_several_named_tensors_are_read_at_a_site() -> None:
    ids = torch.randint(7, (6, 3), generator=Generator().manual_seed(0))
    data = {"ids": ids, "scale": normal(6, 1, dtype=torch.float32)}
    run = train(Recipe(build=Named, rows=Rows(data, torch.arange(6) % 2), loss=cross_entropy))
    asked = Queries(data, torch.arange(6) % 2)
    told = Neighbours(site=Site("head", "in"), similarity="dot")([run], asked)
    table = run.final["table.weight"]
    pooled = table[ids].mean(1) * data["scale"]
    close(told, pooled @ pooled.T, atol=1e-5)
    with pytest.raises(ap.BadRequest, match="int64, whose distances mean nothing"):
        Neighbours()([run], asked)


def test_rows_that_are_zero_are_alike_to_none() -> None:
    x = normal(4, 3, seed=1)
    x[2] = 0
    run = train(Recipe(build=net, rows=Rows(x, torch.arange(4) % 2), loss=cross_entropy))
    told = Neighbours()([run], queries())
    assert bool((told[:, 2] == 0).all())


def test_what_cannot_be_compared_is_refused() -> None:
    run = run_of()
    with pytest.raises(ap.BadRequest, match="similarity='l1'"):
        _check_similarity("Neighbours", "l1")
    with pytest.raises(ap.BadRequest, match="farthest rows"):
        Neighbours(similarity="l2", signed=True)
    for k in (0, -1, True):
        with pytest.raises(ap.BadRequest, match="at least one neighbour"):
            KnnShapley(k=k)
    nameless = Queries(queries().input, None, prediction)
    for response in (KnnShapley(), Neighbours(signed=True)):
        with pytest.raises(ap.BadRequest, match="queries have none"):
            response([run], nameless)
        with pytest.raises(ap.BadRequest, match="no training run"):
            response([], queries())
    with pytest.raises(ap.BadRequest, match="no layer 'pool'"):
        Neighbours(site=Site("pool"))([run], queries())
    broken = Queries(torch.full((1, 3), torch.nan, dtype=torch.float64), torch.tensor([0]))
    with pytest.raises(ap.BadRequest, match="NaN or infinite"):
        Neighbours()([run], broken)
