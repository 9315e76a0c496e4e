"""Feature maps of small networks: their positions as players, and what autograd says of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import apportion as ap
from tests.small import cnn, normal

CLASS = 1
ZEROS = ap.Blend(ap.removals.zeros())
LAYERS = ["0", "2", "5"]  # a convolution that has negative outputs, and two layers behind a ReLU


def cells(layer: str, *places: int, axis: int = 1) -> ap.players.Players:
    """One player per position, all channels together."""
    count = int(torch.tensor(places).prod())
    owner = torch.arange(count).reshape(places)
    owner = owner[None] if axis == 1 else owner[..., None]
    names = tuple(f"cell {i}" for i in range(count))
    return ap.players.Players(names, ("cell",) * count, {ap.Site(layer): owner})


def halves(model: nn.Sequential, layer: str, x: Tensor, target: int = CLASS) -> tuple:
    """Activation at the layer's output, and the gradient of one output there."""
    cut = int(layer) + 1
    activation = model[:cut](x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model[cut:](activation)[:, target].sum(), activation)
    return activation.detach(), slope


def picture(seed: int = 3, instances: int = 1) -> Tensor:
    return normal(instances, 2, 8, 8, seed=seed)


def maps_game(
    layer: str, x: Tensor, model: nn.Module | None = None, target: object = CLASS
) -> ap.ModelGame:
    model = cnn() if model is None else model
    places = halves(model, layer, x)[0].shape[2:]
    return ap.ModelGame(model, x, ap.values.Logit(target), cells(layer, *places), ZEROS)
