"""Usual names further on: maps, parts, rows, sets, pairs, moments and conditional absence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.compositions import composition
from apportion.removals.references import gaussian_blur
from tests.contracts.composed import (
    CLASS,
    LAYER,
    SIDE,
    answer,
    at_layer,
    logit,
    pictures,
    scope,
    tables,
    texts,
    trainings,
)
from tests.small import close, mlp, normal, seeded


def test_the_way_from_the_blurred_picture_shares_out_its_change() -> None:
    given = pictures()
    blurred = gaussian_blur(given["x"], 8.0)
    change = float(logit(given, given["x"]) - logit(given, blurred))
    total = float(answer("blur-integrated-gradients", given).sum())
    assert total == pytest.approx(change, rel=0.05)


@pytest.mark.parametrize("name", ["vargrad", "smoothgrad-squared"])
def test_moments_of_a_linear_derivative_have_a_closed_form(name) -> None:
    """d/dx x'Qx = (Q + Q')x: under noise its variance is sigma^2 times the rows' squares."""
    q, x, sigma = normal(6, 6, seed=2), normal(1, 6, seed=1), 0.3

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bi,ij,bj->b", x, q, x)[:, None]

    given = scope(Quadratic(), x, ap.values.Logit(0), sigma=sigma)
    exec(composition(name).code.replace("pixels", "columns"), given)
    both = q + q.T
    truth = sigma**2 * both.square().sum(1)
    if name == "smoothgrad-squared":
        truth = truth + (x @ both)[0] ** 2
    assert bool(((given["credit"].scores - truth).abs() < 5 * given["credit"].error).all())


def test_conditional_shapley_values_of_a_linear_model_have_a_closed_form() -> None:
    given = tables()
    rows = normal(40, 6, seed=3) @ normal(6, 6, seed=4)
    model = seeded(lambda: nn.Linear(6, 2, bias=False))
    given = scope(model, given["x"], background=rows)
    weight = model.weight[CLASS].detach()
    truth = ap.linear.observational(weight, given["x"], rows)
    close(answer("conditional-shap", given).scores, truth.scores.reshape(-1), atol=1e-8)


def test_maps_without_gradients_weigh_channels_by_what_they_are_worth() -> None:
    given = pictures()
    a, _ = at_layer(given)
    tail = given["model"][int(LAYER) + 1 :]
    full = tail(a[None])[0, CLASS].detach()
    weights = []
    for channel in range(len(a)):
        rest = a.clone()
        rest[channel] = 0
        weights.append(full - tail(rest[None])[0, CLASS].detach())
    close(
        answer("ablation-cam", given).scores,
        torch.einsum("c,chw->hw", torch.stack(weights), a).flatten(),
    )
    x, none = given["x"], logit(given, 0 * given["x"])
    seen = []
    for plane in a:
        large = nn.functional.interpolate(
            plane[None, None], (SIDE, SIDE), mode="bilinear", align_corners=False
        )
        mask = (large - large.min()) / (large.max() - large.min())
        seen.append((logit(given, x * mask) - none)[0])
    close(
        answer("score-cam", given).scores, torch.einsum("c,chw->hw", torch.stack(seen), a).flatten()
    )


@pytest.mark.parametrize(("name", "bias"), [("integrated-jacobians", True), ("bilrp", False)])
def test_pairs_share_out_the_similarity_of_two_inputs(name, bias) -> None:
    act = nn.Tanh if bias else nn.ReLU
    model = mlp(bias=bias, act=act)
    x, other = normal(1, 6, seed=1), normal(1, 6, seed=5)
    a, b = (model(one).detach()[0] for one in (x, other))
    none = model(0 * x).detach()[0]
    credit = answer(name, scope(model, x, ap.values.Embedding(), other=other))
    change = a @ b - a @ none - none @ b + none @ none  # without biases e(0) = 0
    assert float(credit.scores.sum()) == pytest.approx(float(change), rel=1e-3)


def test_patching_and_ablation_of_heads() -> None:
    """To first order the two patchings agree as the other prompt's heads come near."""
    given = texts()
    patched, slope = answer("activation-patching", given), answer("attribution-patching", given)
    ablated = answer("head-ablation", given)
    assert patched.players.n == slope.players.n == ablated.players.n
    full = given["model"](given["x"]).logits[0, -1, CLASS].detach()
    close(patched.full, full)
    size = float(patched.scores.abs().max())
    assert float((patched.scores - slope.scores).abs().max()) < size
    assert not torch.allclose(ablated.scores, patched.scores)


def test_layer_integrated_gradients_share_out_the_change_of_the_tail() -> None:
    given = pictures()
    there, _ = at_layer(given)
    tail = given["model"][int(LAYER) + 1 :]
    change = (tail(there[None]) - tail(0 * there[None]))[0, CLASS].detach()
    credit = answer("layer-integrated-gradients", given)
    assert float(credit.sum()) == pytest.approx(float(change), abs=1e-3)


def test_interactions_of_columns() -> None:
    """The index of a pair, averaged over who else is there, from all coalitions."""
    given = tables()
    credit = answer("shapley-interaction-index", given)
    game = toy_values(given)
    for pair in ((0, 1), (2, 5)):
        assert credit[pair].score == pytest.approx(interaction(game, pair), abs=1e-12)


def toy_values(given: dict[str, Any]) -> dict[frozenset[int], float]:
    x = given["x"]
    sets = [frozenset(i for i in range(6) if code >> i & 1) for code in range(64)]
    masks = torch.tensor([[float(i in s) for i in range(6)] for s in sets], dtype=x.dtype)
    return dict(zip(sets, logit(given, masks * x).tolist(), strict=True))


def interaction(v: dict[frozenset[int], float], pair: tuple[int, int]) -> float:
    """Sum over S without the pair of |S|! (n - |S| - 2)! / (n - 1)! times the second difference."""
    from math import factorial

    i, j = pair
    total = 0.0
    for s in (s for s in v if i not in s and j not in s):
        weight = factorial(len(s)) * factorial(4 - len(s)) / factorial(5)
        total += weight * (v[s | {i, j}] - v[s | {i}] - v[s | {j}] + v[s])
    return total


def test_training_rows() -> None:
    """On a ridge regression: influence and TRAK have the sign of refits, TracIn needs a record."""
    given = trainings()
    influence = answer("influence-functions", given).scores
    refits = given["run"]
    assert influence.shape == (6, refits.recipe.rows.n)
