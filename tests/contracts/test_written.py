"""Activations that a model writes out are one function of one variable to a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from apportion.backward import CP_LRP, GIM, Rules
from apportion.backward.activation import first_only
from apportion.backward.linear import plain
from apportion.backward.written import SPECIAL, gated
from tests.contracts.ruled import TABLES, columns_game, function, slopes
from tests.contracts.test_spellings import TRANSFORMERS, written
from tests.small import close

C = (2 / torch.pi) ** 0.5
product = partial(torch.einsum, "ri,ri->ri")  # of two variables, whatever they are

WRITTEN: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "silu": [
        F.silu, lambda h: h * torch.sigmoid(h), lambda h: h.sigmoid() * h,
        lambda h: torch.mul(torch.special.expit(h), h), lambda h: h / (1 + torch.exp(-h)),
        lambda h: -h.neg() * h.sigmoid(), lambda h: h.sigmoid().mul(other=h),
    ],
    "gelu": [F.gelu, lambda h: h * 0.5 * (1.0 + torch.erf(h / 2**0.5))],
    "gelu, tanh": [
        lambda h: F.gelu(h, approximate="tanh"),
        lambda h: 0.5 * h * (1.0 + torch.tanh(C * (h + 0.044715 * torch.pow(h, 3.0)))),
        lambda h: h * 0.5 * (1.0 + torch.tanh(C * h * (1 + 0.044715 * h * h))),
        lambda h: (torch.tanh(C * (h + 0.044715 * h**3)) + 1) / 2 * h,
    ],
    "mish": [F.mish, lambda h: h * torch.tanh(F.softplus(h)), lambda h: h * h.exp().log1p().tanh()],
    "hardswish": [F.hardswish, lambda h: h * F.relu6(h + 3) / 6, lambda h: h / 6 * F.relu6(h + 3)],
    "softsign": [F.softsign, lambda h: h / (1 + h.abs()), lambda h: h * (1 + h.abs()).reciprocal()],
    "square": [
        torch.square, lambda h: h**2, lambda h: h * h, lambda h: h.pow(2.0), lambda h: h.square_(),
    ],
    "cube": [lambda h: h**3, lambda h: h * h * h, lambda h: h.square() * h],
}  # fmt: skip
SECANT = [
    pytest.param(rules, id=name)
    for name, rules in TABLES.items()
    if rules.functions.get(gated) is first_only
]


@pytest.mark.parametrize("rules", SECANT)
@pytest.mark.parametrize("name", WRITTEN)
def test_activations_written_out(rules, name) -> None:
    """As Hugging Face's gelu_new and quick_gelu are: one function of one variable, not products of
    several.
    """
    first, *others = WRITTEN[name]
    expected = slopes(columns_game(function(written(first))), rules)
    assert float((expected - slopes(columns_game(function(written(first))))).abs().max()) > 1e-3
    for other in others:
        close(slopes(columns_game(function(written(other))), rules), expected, atol=1e-12)


@pytest.mark.parametrize("name", WRITTEN)
def test_they_keep_their_own_derivative_where_activations_do(name) -> None:
    for body in WRITTEN[name]:
        game = columns_game(function(written(body)))
        close(slopes(game, GIM), slopes(game), atol=1e-12)


@pytest.mark.parametrize("rules", TRANSFORMERS)
def test_products_that_are_no_activation_stay_products(rules) -> None:
    """Another variable, positions that mix, and a variable that is written to before it is used."""

    def overwritten(h: Tensor) -> Tensor:
        h = h + 0
        gate = torch.sigmoid(h)
        h += h.flip(1)
        return h * gate

    for body, spelled in (
        (
            lambda h: h * h.flip(1).sigmoid(),
            lambda h: torch.einsum("ri,ri->ri", h, h.flip(1).sigmoid()),
        ),
        (
            lambda h: h * (h + h.roll(1, 1)).sigmoid(),
            lambda h: torch.einsum("ri,ri->ri", h, (h + h.roll(1, 1)).sigmoid()),
        ),
        (overwritten, lambda h: torch.einsum("ri,ri->ri", h + h.flip(1), h.sigmoid())),
        (
            lambda h: h.tanh() * h.sigmoid(),
            lambda h: torch.einsum("ri,ri->ri", h.tanh(), h.sigmoid()),
        ),
    ):
        close(*(slopes(columns_game(function(b)), rules) for b in (body, spelled)), atol=1e-12)


def test_a_rule_for_products_counts_for_those_written_out() -> None:
    """The right table's, also where the left one lists the special case."""
    game = columns_game(function(lambda h: h * h.sigmoid() + h**3))
    everything = Rules("plain", {torch.mul: plain, torch.pow: plain})
    rest = Rules("rest", {f: r for f, r in CP_LRP.functions.items() if f not in SPECIAL})
    close(slopes(game, rest | everything), slopes(game), atol=1e-14)
    assert float((slopes(game, CP_LRP) - slopes(game)).abs().max()) > 1e-3
    close(slopes(game, CP_LRP | everything), slopes(game), atol=1e-14)
