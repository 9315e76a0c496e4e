"""The doctor names what a table has no rule for: the operation, why it matters, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apportion.backward import CP_LRP, GRAD_CAM, GUIDED, TABLE, Finding, Rules, epsilon, unruled
from apportion.backward.linear import plain
from apportion.taps import Call
from tests.contracts.ruled import Normed, Recurrent, function
from tests.small import IDS, cnn, decoder, mlp, normal, seeded, untouched

PARAMETERS, PRODUCT, BEND = "parameters", "product of two variables", "nonlinear"
ROW = Call((normal(1, 6, seed=1),))
IMAGE = Call((normal(1, 2, 8, 8, seed=4),))
NOTHING = Rules("nothing", {})


def found(model: nn.Module, call: Call, rules: Rules | None) -> list[tuple[str, str, str, str]]:
    return [(f.operation, f.why, f.path, f.module) for f in unruled(model, call, rules)]


def reasons(body: Callable[[Tensor], Tensor], rules: Rules | None = CP_LRP) -> list[tuple]:
    """What is found in a body between two linear layers, which CP_LRP knows."""
    return [(f.operation, f.why) for f in unruled(function(body), ROW, rules)]


def test_a_network_that_a_table_knows_has_no_findings() -> None:
    for model, call in ((mlp(), ROW), (cnn(), IMAGE), (seeded(Normed), ROW)):
        assert unruled(model, call, CP_LRP) == []
    for eager in (True, False):
        assert unruled(decoder(eager=eager), Call((IDS,)), CP_LRP) == []


def test_operation_reason_path_and_module_of_each_call_in_order() -> None:
    assert found(cnn(), IMAGE, GUIDED) == [
        ("conv2d", PARAMETERS, "0", "Conv2d"),
        ("batch_norm", PARAMETERS, "1", "BatchNorm2d"),
        ("conv2d", PARAMETERS, "4", "Conv2d"),
        ("linear", PARAMETERS, "7", "Linear"),
    ]
    assert found(decoder().layers[0].norm1, Call((normal(1, 3, 8),)), NOTHING) == [
        ("rsqrt", BEND, "", "RMSNorm"),
        ("mul", PRODUCT, "", "RMSNorm"),
        ("mul", PARAMETERS, "", "RMSNorm"),
    ]


@pytest.mark.parametrize("eager", [True, False])
def test_every_operation_of_a_decoder(eager) -> None:
    """Counted by hand from its definition: two blocks, seven layers each, two norms each."""
    counts: dict[tuple[str, str], int] = {}
    for operation, why, _, _ in found(decoder(eager=eager), Call((IDS,)), None):
        counts[operation, why] = counts.get((operation, why), 0) + 1
    products = {("matmul", PRODUCT): 4, ("softmax", BEND): 2}
    fused = {("scaled_dot_product_attention", PRODUCT): 2}
    assert counts == {
        ("linear", PARAMETERS): 2 * 7 + 1,
        ("rsqrt", BEND): 2 * 2 + 1,
        ("mul", PRODUCT): 2 * 2 + 1 + 2,  # norms, and the gate of each block
        ("mul", PARAMETERS): 2 * 2 + 1,  # the weights of the norms
        **(products if eager else fused),
    }


def test_paths_are_those_of_the_calling_module() -> None:
    paths = {f.path: f.module for f in unruled(decoder(), Call((IDS,)), GUIDED)}
    assert paths["layers.1.self_attn"] == "Attention"
    assert paths["layers.0.mlp.up_proj"] == "Linear"
    assert paths["layers.1.mlp"] == "Gated"
    assert "layers.0.mlp.down_proj" in paths and "embed" not in paths


@pytest.mark.parametrize(
    ("operation", "build"),
    [
        ("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn_tanh", nn.RNN),
        ("rnn_relu", lambda *sizes, **o: nn.RNN(*sizes, nonlinearity="relu", **o)),
    ],
)  # fmt: skip
def test_recurrent_layers_arrive_whole(operation, build) -> None:
    model = seeded(Recurrent)
    model.lstm = seeded(lambda: build(2, 4, batch_first=True))
    module = type(model.lstm).__name__
    assert found(model, ROW, CP_LRP) == [(operation, PARAMETERS, "lstm", module)]


@pytest.mark.parametrize("build", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells_arrive_whole(build) -> None:
    model = seeded(lambda: build(6, 4))
    name = {"LSTMCell": "lstm_cell", "GRUCell": "gru_cell", "RNNCell": "rnn_tanh_cell"}
    expected = (name[build.__name__], PARAMETERS, "", build.__name__)
    assert found(model, ROW, CP_LRP)[0] == expected


SILU: list[Callable[[Tensor], Tensor]] = [
    lambda h: h * torch.sigmoid(h), lambda h: h.sigmoid() * h,
    lambda h: torch.mul(torch.special.expit(h), h),
]  # fmt: skip


@pytest.mark.parametrize("body", SILU)
def test_a_gate_product_that_looks_like_silu(body) -> None:
    """To a table without a rule for activations that are written out it is a product."""
    for rules in (GUIDED, None):
        gates = [f for f in unruled(function(body), ROW, rules) if "SiLU" in f.why]
        assert [(f.operation, f.path, f.hint) for f in gates] == [
            ("mul", "", "write it as F.silu(x), which tables know")
        ]
    assert reasons(body) == reasons(F.silu) == []


def test_a_bend_inside_an_activation_is_no_finding_and_outside_it_is() -> None:
    quick = lambda h: h * torch.sigmoid(1.702 * h)
    assert reasons(quick) == reasons(lambda h: 0.5 * h * (1 + torch.erf(h))) == []
    assert ("mul", PRODUCT) in reasons(quick, GUIDED)
    assert not any("SiLU" in why for _, why in reasons(quick, GUIDED))
    for body in (
        lambda h: h.sigmoid() * h.flip(1), lambda h: torch.sigmoid_(h + 0) ** 2,
        lambda h: quick(h) + torch.sigmoid(h.flip(1)),
    ):  # fmt: skip
        assert reasons(body) == [("sigmoid", BEND)]


class Clamped(torch.autograd.Function):
    """A derivative of its own, as Bloom's GELU brings along."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


@pytest.mark.parametrize("rules", [CP_LRP, GUIDED, NOTHING, None])
def test_derivatives_that_a_model_brings_along(rules) -> None:
    """No table sees inside them, at the end of a module or in the middle of it."""
    hint = "write its forward in torch functions, which tables know"
    for body in (Clamped.apply, lambda h: Clamped.apply(h + 1) + 1):
        listed = [f for f in unruled(function(body), ROW, rules) if "its own" in f.why]
        assert listed == [Finding("Clamped", "derivative of its own", "last", "Linear", hint)] or (
            listed == [Finding("Clamped", "derivative of its own", "", "Function", hint)]
        )


HIDDEN_PRODUCTS: dict[str, Callable[[Tensor], Tensor]] = {
    "glu": lambda h: F.glu(torch.cat([h, h.flip(1)], 1)),
    "prod": lambda h: h * 0 + h.prod(1, keepdim=True),
    "cosine_similarity": lambda h: h + F.cosine_similarity(h, h.flip(1))[:, None],
    "cdist": lambda h: h + torch.cdist(h[:, :, None], h[:, :, None])[:, 0],
    "pow": lambda h: (h.tanh() + 2) ** h.tanh(),
    "bilinear": lambda h: F.bilinear(h, h.flip(1), torch.ones(6, 6, 6).to(h)),
}


@pytest.mark.parametrize("body", [lambda h: F.normalize(h, dim=1), lambda h: h / (h.flip(1) + 9)])
def test_scales_have_a_rule_where_norms_have(body) -> None:
    """What a variable is divided by is frozen, as the scale of a norm is."""
    assert reasons(body) == []
    assert [why for _, why in reasons(body, epsilon())] == [PRODUCT]


@pytest.mark.parametrize("name", HIDDEN_PRODUCTS)
def test_products_hidden_in_one_function(name) -> None:
    assert (name, PRODUCT) in reasons(HIDDEN_PRODUCTS[name])


BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid, "erf": torch.erf, "softplus": F.softplus, "exp": torch.exp,
    "log_softmax": lambda h: F.log_softmax(h, -1), "pow": lambda h: (h.tanh() + 2) ** -3,
    "reciprocal": lambda h: (h.tanh() + 2).reciprocal(),
    "div": lambda h: 1 / (h.tanh() + 2), "instance_norm": lambda h: F.instance_norm(h[None])[0],
}  # fmt: skip


@pytest.mark.parametrize("name", BENDS)
def test_bends_that_a_table_does_not_list(name) -> None:
    assert reasons(BENDS[name]) == [(name, BEND)]
    known = CP_LRP | Rules("known", {getattr(torch, name, getattr(F, name, None)): plain})
    if name not in ("sigmoid", "div"):
        assert reasons(BENDS[name], known) == []


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "group_norm"])
def test_norms_without_parameters_are_bends_too(norm) -> None:
    shape = 2 if norm == "group_norm" else (6,)
    body = lambda h: getattr(F, norm)(h, shape)
    assert (norm, BEND) in reasons(body, epsilon())
    assert (norm, BEND) in reasons(body, GUIDED)
    assert reasons(body, CP_LRP) == []


def test_linear_operations_are_no_findings() -> None:
    for body in (
        lambda h: h / 3 - 2 * h, lambda h: h.flip(1) + h.mean(1, keepdim=True),
        lambda h: h @ torch.eye(6).to(h), lambda h: h**1, lambda h: (-h).cumsum(1),
        lambda h: torch.einsum("ri,ij->rj", h, torch.eye(6).to(h)), lambda h: h * (1 / 2) ** 2,
        lambda h: h * torch.exp(torch.ones(6)), lambda h: F.dropout(h, 0.3, training=False),
    ):  # fmt: skip
        assert reasons(body, NOTHING) == [("linear", PARAMETERS)] * 2


class Computed(nn.Module):
    """Weights that are no parameters: computed from one, as parametrisations do."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.ones(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.raw.tanh())


def test_computed_weights_are_parameters() -> None:
    assert found(seeded(Computed), ROW, GUIDED) == [("linear", PARAMETERS, "", "Computed")]
    assert found(seeded(Computed), ROW, CP_LRP) == []


def test_writing_models_are_read_as_they_are() -> None:
    """In place and into buffers, where autograd would refuse; the input stays as it was."""

    def body(h: Tensor) -> Tensor:
        h += 1
        return torch.mul(h, h.flip(1), out=torch.empty_like(h)).erf_()

    x = normal(1, 6, seed=1)
    model, call = seeded(lambda: nn.Sequential(nn.ReLU(inplace=True), function(body))), Call((x,))
    assert [f.operation for f in unruled(model, call, CP_LRP)] == ["erf"]
    assert torch.equal(x, normal(1, 6, seed=1))
    assert [f.why for f in unruled(model, call, epsilon())] == [PRODUCT, BEND]


# tables without functions need not look
LOOKING = [*(rules for rules in TABLE.values() if rules.functions), None]


@pytest.mark.parametrize("rules", LOOKING)
def test_model_is_untouched(rules) -> None:
    model = decoder()
    next(model.parameters()).requires_grad_(False)
    with untouched(model):
        unruled(model, Call((IDS,)), rules)
    if rules is not None and not rules.functions:
        return  # nothing to look for, so the model is not run
    with untouched(model), pytest.raises(IndexError):
        unruled(model, Call((IDS + 100,)), rules)


def test_findings_compare_as_values() -> None:
    [only] = unruled(function(torch.erf), ROW, CP_LRP)
    assert only == Finding("erf", BEND, "", "Function", "")


def test_a_table_for_the_site_alone_wants_the_true_gradient_everywhere_else() -> None:
    assert unruled(decoder(), Call((IDS,)), GRAD_CAM) == []
    assert unruled(decoder(), Call((IDS,)), NOTHING)
