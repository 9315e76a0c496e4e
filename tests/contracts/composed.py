"""Questions that the code of every usual name can be run on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.compositions import composition
from tests.oracles.trained import ridge
from tests.small import mlp, normal, seeded

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
