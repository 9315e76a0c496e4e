"""Similarity of gradients, by two plain backward passes."""

from __future__ import annotations

import torch

from apportion.backward.response import GradDot
from apportion.training import Queries
from tests.oracles.trained import asked, trained
from tests.small import close


def test_minus_the_product_of_both_gradients_over_the_rows() -> None:
    run, queries = trained(), asked()
    model, rows = run.model(), run.recipe.rows

    def gradient(number: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(number, list(model.parameters()))
        return torch.cat([p.flatten() for p in parts])

    values = [
        gradient(queries.measure(model(queries.input[i : i + 1]), queries.labels[i : i + 1])[0])
        for i in range(queries.n)
    ]
    each = []
    for i in range(rows.n):
        each.append(
            gradient(run.recipe.loss(model(rows.input[i : i + 1]), rows.label[i : i + 1])[0])
        )
    expected = -torch.stack(values) @ torch.stack(each).T / rows.n
    close(GradDot()([run], queries), expected, atol=1e-13)


def test_few_directions_and_many_take_different_ways_to_the_same_numbers() -> None:
    """Forward mode below eight queries, gradients from there on."""
    run, many = trained(), asked(12)
    few = Queries(many.input[:5], many.labels[:5])
    close(GradDot()([run], many)[:5], GradDot()([run], few), atol=1e-13)
