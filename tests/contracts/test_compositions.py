"""What a usual name stands for: its code runs as printed, and its numbers are what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.citations import references
from apportion.compositions import BY_NAME, composition
from tests.contracts.composed import (
    CLASS,
    SIDE,
    answer,
    at_layer,
    logit,
    pictures,
    scope,
    slopes,
    tables,
    texts,
)
from tests.oracles import relevance
from tests.oracles.composites import EPS, GAMMA, PLUS, TWO_ONE, box, evenly
from tests.oracles.test_epsilon import conv_net
from tests.small import close, normal, seeded


def test_saliency_and_input_x_gradient_are_autograd() -> None:
    given = pictures()
    close(answer("saliency", given).scores, slopes(given).sum(1).flatten())
    close(answer("input-x-gradient", given).scores, (given["x"] * slopes(given)).sum(1).flatten())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("guided-backpropagation", lambda x, g: (x > 0) * g.clamp(min=0)),
        ("deconvolution", lambda x, g: g.clamp(min=0)),
    ],
)
def test_gradients_stop_at_every_relu(name, kept) -> None:
    """By hand from the logit back to the picture."""
    given = pictures()
    layers = list(given["model"])
    seen = [given["x"]]
    for layer in layers:
        seen.append(layer(seen[-1]).detach())
    back = torch.zeros_like(seen[-1])
    back[0, CLASS] = 1
    for layer, x in zip(reversed(layers), reversed(seen[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            back = kept(x, back)
        else:
            leaf = x.clone().requires_grad_()
            back = torch.autograd.grad(layer(leaf), leaf, back)[0]
    close(answer(name, given).scores, back.sum(1).flatten())


@pytest.mark.parametrize(
    ("name", "weigh"),
    [
        ("hirescam", lambda a, g: g),
        ("grad-cam", lambda a, g: g.mean((1, 2), keepdim=True)),
        ("layercam", lambda a, g: g.clamp(min=0)),
    ],
)
def test_maps_are_weighted_sums_of_channels(name, weigh) -> None:
    given = pictures()
    a, g = at_layer(given)
    close(answer(name, given).scores, (a * weigh(a, g)).sum(0).flatten())


def test_grad_cam_plus_plus_weighs_by_second_and_third_powers() -> None:
    given = pictures()
    a, g = at_layer(given)
    below = 2 * g**2 + a.sum((1, 2), keepdim=True) * g**3
    alpha = torch.where(below == 0, 0.0, g**2 / torch.where(below == 0, 1.0, below))
    weight = (alpha * g.clamp(min=0)).sum((1, 2), keepdim=True)
    close(answer("grad-cam++", given).scores, (a * weight).sum(0).flatten())


@pytest.mark.parametrize("name", ["lrp-epsilon", "lrp-gamma", "lrp-z-plus", "lrp-alpha-beta"])
def test_relevance_is_conserved_without_biases(name) -> None:
    """To the share that the stabiliser takes; z+ and alpha-beta pass on what is positive."""
    given = pictures(bias=False)
    total = float(answer(name, given).sum())
    if name in ("lrp-epsilon", "lrp-gamma"):
        assert total == pytest.approx(float(logit(given, given["x"]).detach()), rel=1e-3)
    assert total != 0


@pytest.mark.parametrize(
    ("name", "conv", "first"),
    [
        ("lrp-epsilon-plus", PLUS, None),
        ("lrp-epsilon-plus-flat", PLUS, evenly),
        ("lrp-epsilon-alpha2-beta1", TWO_ONE, None),
        ("lrp-epsilon-gamma-box", GAMMA, box),
    ],
)
def test_composites_carry_relevance_by_each_layer_s_rule(name, conv, first) -> None:
    """By hand; stabilisers of the first layer are left out there."""
    given = scope(conv_net(), normal(1, 2, 6, 6, seed=4))
    expected = relevance.stack(given["model"], given["x"][0], CLASS, EPS, conv, first)
    scale = float(expected.abs().max())
    close(answer(name, given).scores, expected.sum(0).flatten(), atol=1e-4 * scale)


def test_relevance_of_tokens_sums_to_the_logit_under_cp_lrp() -> None:
    given = texts()
    full = float(given["model"](given["x"]).logits[0, -1, CLASS].detach())
    assert float(answer("cp-lrp", given).sum()) == pytest.approx(full, abs=1e-9)
    for name in ("attn-lrp", "gim"):  # their softmax passes relevance to queries and keys
        assert abs(float(answer(name, given).sum()) - full) > 1e-6


EFFICIENT = {
    "integrated-gradients": (pictures, torch.zeros_like, 2e-3),  # the net has kinks
    "cross-domain-integrated-gradients": (pictures, torch.zeros_like, 2e-3),
    "deeplift": (pictures, torch.zeros_like, 1e-9),
    "dynamic-lrp": (lambda: pictures(bias=False), torch.zeros_like, 1e-9),
    "gaussian-process-shapley": (pictures, torch.zeros_like, 1e-9),
    "faithful-shapley": (tables, torch.zeros_like, 1e-9),
    "joint-shapley": (tables, torch.zeros_like, 1e-9),
    "shapley-value-sampling": (pictures, torch.zeros_like, 1e-9),
    "kernel-shap": (pictures, torch.zeros_like, 1e-9),
    "leverage-shap": (pictures, torch.zeros_like, 1e-9),
    "complementary-contributions": (pictures, torch.zeros_like, 1e-9),
    "linear-msr": (pictures, torch.zeros_like, 1e-9),
    "exact-shapley": (tables, torch.zeros_like, 1e-9),
    "owen-value": (tables, torch.zeros_like, 1e-9),
    "n-shapley-values": (tables, torch.zeros_like, 1e-9),
    "shapley-taylor": (tables, torch.zeros_like, 1e-9),
}


@pytest.mark.parametrize("name", EFFICIENT)
def test_what_is_shared_out_is_the_change_from_the_reference(name) -> None:
    make, reference, tolerance = EFFICIENT[name]
    given = make()
    change = logit(given, given["x"]) - logit(given, reference(given["x"]))
    assert float(answer(name, given).scores.sum()) == pytest.approx(float(change), abs=tolerance)


def test_a_greedy_way_says_what_its_steps_miss_of_the_change() -> None:
    """Over kinks its few steps miss some: the sum and the gap are the change."""
    given = pictures()
    credit = answer("greedy-path", given)
    change = logit(given, given["x"]) - logit(given, torch.zeros_like(given["x"]))
    assert float(credit.scores.sum() + credit.gap) == pytest.approx(float(change), abs=1e-9)


@pytest.mark.parametrize("name", ["interventional-shap", "expected-gradients", "deep-shap"])
def test_what_is_shared_out_is_the_change_from_the_background(name) -> None:
    given = tables()
    code = composition(name).code.replace("pixels", "columns")
    exec(code, given)
    credit = given["credit"]
    change = logit(given, given["x"]) - logit(given, given["background"]).mean()
    spread = 0.0 if credit.error is None else float(credit.error.square().sum().sqrt())
    assert abs(float(credit.sum() - change)) < 4 * spread + 1e-9


def test_averages_over_noise_approach_the_derivative_of_the_smoothed_model() -> None:
    """On a quadratic model the noise cancels: the mean derivative is that at the input."""
    q = normal(6, 6, seed=2)
    x = normal(1, 6, seed=1)

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bi,ij,bj->b", x, q, x)[:, None]

    given = scope(Quadratic(), x, ap.values.Logit(0), sigma=0.3)
    exec(composition("smoothgrad").code.replace("pixels", "columns"), given)
    credit = given["credit"]
    off = (credit.scores - (x @ (q + q.T))[0]).abs()
    assert bool((off < 4.5 * credit.error).all())


def without(given: dict[str, Any], player: int, stand_in: Tensor) -> Tensor:
    x = given["x"].clone()
    players = given["game"].players
    owner = next(iter(players.owner.values())).expand(x.shape[1:])
    hit = owner == player
    x[:, hit] = stand_in[:, hit]
    return x


def test_leaving_out_is_asking_again_without() -> None:
    given = pictures()
    full = logit(given, given["x"])
    credit = answer("feature-ablation", given)
    for player in range(4):
        gone = logit(given, without(given, player, torch.zeros_like(given["x"])))
        close(credit.scores[player], (full - gone)[0])
    alone = answer("add-one-in", given)
    for player in range(4):
        x = without(given, player, torch.zeros_like(given["x"]))
        close(alone.scores[player], (logit(given, given["x"] - x) - logit(given, 0 * x))[0])
    windows = answer("occlusion", given)  # a window of 2 x 2 covers all four patches
    close(windows.scores, (full - logit(given, 0 * given["x"])).expand(4))
    table = tables()
    credit = answer("permutation-importance", table)
    falls = [
        logit(table, table["x"]) - logit(table, without(table, 2, row[None]))
        for row in table["background"]
    ]
    close(credit.scores[2], torch.cat(falls).mean())


def linear(name: str, side: int = 0) -> tuple[Tensor, Any]:
    """Contributions w x of a linear model, and the answer about it."""
    if side:
        weight, x = normal(3 * side * side, seed=2), normal(1, 3, side, side, seed=1)
    else:
        weight, x = normal(6, seed=2), normal(1, 6, seed=1)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(len(weight), 1, bias=False)))
    with torch.no_grad():
        model[1].weight.copy_(weight[None])
    given = scope(model, x, ap.values.Logit(0))
    credit = answer(name, given)
    owner = next(iter(given["game"].players.owner.values())).expand(x.shape[1:]).flatten()
    parts = torch.zeros(credit.players.n, dtype=x.dtype)
    if "wavelets" not in composition(name).players:
        parts.index_add_(0, owner, weight * x.flatten())
    return parts, credit


@pytest.mark.parametrize("name", ["linear-datamodel", "banzhaf-value", "lime", "greedy-path"])
def test_fits_and_paths_find_the_parts_of_a_linear_model(name) -> None:
    parts, credit = linear(name, SIDE)
    # the penalty of LIME shrinks a little
    close(credit.scores, parts, atol=0.02 * float(parts.abs().max()) if name == "lime" else 1e-8)


def test_c_lime_finds_the_weights_of_a_linear_model() -> None:
    """Per gate, whose way from 0 to 1 is 8 units of input long."""
    weight, x = normal(6, seed=2), normal(1, 6, seed=1)
    model = seeded(lambda: nn.Linear(6, 1, bias=False))
    with torch.no_grad():
        model.weight.copy_(weight[None])
    close(answer("c-lime", scope(model, x, ap.values.Logit(0))).scores, 8.0 * weight, atol=1e-6)


@pytest.mark.parametrize("name", ["sobol-attribution", "hsic-attribution", "rise", "wcam"])
def test_dependence_is_largest_where_the_linear_model_depends_most(name) -> None:
    """The parts of a linear model are what it loses without each player."""
    x = normal(1, 3, SIDE, SIDE, seed=1)
    weight = normal(3 * SIDE * SIDE, seed=2)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(len(weight), 1, bias=False)))
    with torch.no_grad():
        model[1].weight.copy_(weight[None])
    given = scope(model, x, ap.values.Logit(0))
    credit = answer(name, given)
    n = credit.players.n
    gates = torch.cat([torch.ones(1, n), 1 - torch.eye(n)]).bool()
    values = given["game"].value(gates)
    parts = values[0] - values[1:]
    if name in ("sobol-attribution", "wcam"):  # shares of the variance, s^2 / sum s^2
        both = torch.stack([credit.scores, parts**2 / (parts**2).sum()])
        assert float(both.corrcoef()[0, 1]) > 0.9
    best = parts if name == "rise" else parts.abs()
    assert int(credit.scores.argmax()) in best.topk(3).indices.tolist()


@pytest.mark.parametrize("name", BY_NAME)
def test_every_name_says_what_it_means_and_whom_to_cite(name) -> None:
    row = composition(name)
    assert row.means
    assert references(row.works)
    assert name == name.lower()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ap.BadRequest, match=r"'gradcma'.*grad-cam"):
        composition("gradcma")
