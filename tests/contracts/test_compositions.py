"""What a usual name stands for: its code runs as printed, and its numbers are what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.citations import references
from apportion.compositions import BY_NAME, composition
from apportion.removals.references import gaussian_blur
from tests.oracles.trained import ridge
from tests.small import close, mlp, normal, seeded

LAYER, SIDE, CLASS = "3", 64, 1


def picture_net(*, bias: bool = True) -> nn.Module:
    """Two convolutions and a linear head on pooled positions."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=bias), nn.ReLU(), nn.AvgPool2d(8),
            nn.Conv2d(4, 5, 3, padding=1, bias=bias), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(5, 3, bias=bias),
        )
    )  # fmt: skip


def scope(model: nn.Module, x: Any, value: object = None, **given: object) -> dict[str, Any]:
    return {"ap": ap, "model": model, "x": x, "value": value or ap.values.Logit(CLASS), **given}


def pictures(*, bias: bool = True) -> dict[str, Any]:
    x = normal(1, 3, SIDE, SIDE, seed=1)
    return scope(picture_net(bias=bias), x, layer=LAYER, sigma=0.1, background=x.roll(7, -1) * 0.5)


def tables() -> dict[str, Any]:
    return scope(mlp(), normal(1, 6, seed=1), background=normal(9, 6, seed=3))


def texts() -> dict[str, Any]:
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    config = LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = seeded(lambda: LlamaForCausalLM(config))
    return scope(model, ids, other=torch.tensor([[3, 1, 4, 2, 5]]))


def trainings() -> dict[str, Any]:
    run, queries = ridge()
    return {"ap": ap, "run": run, "queries": queries}


def answer(name: str, scope: dict[str, Any]) -> Any:
    """The last line's credit, of the code as it is printed."""
    exec(composition(name).code, scope)
    return scope["credit"]


def logit(given: dict[str, Any], x: Tensor) -> Tensor:
    out = given["model"](x)[:, CLASS]
    return out if x.requires_grad else out.detach()


def slopes(given: dict[str, Any]) -> Tensor:
    leaf = given["x"].clone().requires_grad_()
    return torch.autograd.grad(logit(given, leaf).sum(), leaf)[0]


def at_layer(given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Activation of the layer and the logit's gradient there, (channel, row, column)."""
    head, tail = given["model"][: int(LAYER) + 1], given["model"][int(LAYER) + 1 :]
    there = head(given["x"]).detach().requires_grad_()
    return there.detach()[0], torch.autograd.grad(tail(there)[0, CLASS], there)[0][0]


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


@pytest.mark.parametrize("name", ["linear-datamodel", "banzhaf-value", "lime"])
def test_fits_find_the_parts_of_a_linear_model(name) -> None:
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


@pytest.mark.parametrize("name", BY_NAME)
def test_every_name_says_what_it_means_and_whom_to_cite(name) -> None:
    row = composition(name)
    assert row.means
    assert references(row.works)
    assert name == name.lower()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ap.BadRequest, match=r"'gradcam'.*grad-cam"):
        composition("gradcam")
