"""Class activation maps: rules at the players' own site, the true gradient everywhere else.

On players that are positions of a feature map, with removal zeros, `Gradient` under such a table is
the map: sum over channels of (bent gradient) x (activation). Without a table it is HiResCAM, whose
credits are the plain gate gradients. [draelos2020] The final ReLU of the papers serves the picture;
signs are kept here.
"""

from __future__ import annotations

from torch import Tensor

from ..types import BadRequest
from .base import Rules, SiteRule


def averaged(x: Tensor, grad: Tensor) -> Tensor:
    """Each channel's mean gradient over its positions, at all of them. [selvaraju2017]"""
    return _everywhere(_flat(grad).mean(-1), grad)


def higher_order(x: Tensor, grad: Tensor) -> Tensor:
    """For each channel the sum over its positions of a relu(g), a = g^2 / (2 g^2 + g^3 sum of x
    over positions), at all of them. [chattopadhay2018]

    a is the paper's for the value exp(v), without the factor exp(v) that all channels share; where
    g = 0 nothing is added. Activations should not be negative, as behind a ReLU: where their sum
    is, the denominator may vanish.
    """
    rising = _flat(grad).clamp(min=0)
    total = _flat(x).sum(-1, keepdim=True).to(rising)
    return _everywhere((rising / (2 + rising * total)).sum(-1), grad)


def rising(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient where it is positive, element by element. [jiang2021]"""
    return grad.clamp(min=0)


def _flat(x: Tensor) -> Tensor:
    """(batch, channel, position)."""
    return x.reshape(*x.shape[:2], -1)


def _everywhere(weight: Tensor, grad: Tensor) -> Tensor:
    return weight.reshape(*grad.shape[:2], *(1,) * (grad.ndim - 2)).expand_as(grad)


def _along(rule: SiteRule, axis: int) -> SiteRule:
    """The rule for channels on another axis than the first after the batch."""
    if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
        raise BadRequest(
            f"axis={axis!r} is no axis of channels: 1 is the first after the batch (feature "
            "maps), -1 the last (tokens of a transformer)"
        )
    if axis == 1:
        return rule
    return lambda x, grad: rule(x.movedim(axis, 1), grad.movedim(axis, 1)).movedim(1, axis)


def grad_cam(axis: int = 1) -> Rules:
    """Grad-CAM for channels on a given axis; -1 for (batch, token, feature)."""
    name = "GRAD_CAM" if axis == 1 else f"grad_cam({axis})"
    return Rules(name, {}, cites=("selvaraju2017",), at_site=_along(averaged, axis))


def grad_cam_plus_plus(axis: int = 1) -> Rules:
    """Grad-CAM++ for channels on a given axis; -1 for (batch, token, feature)."""
    name = "GRAD_CAM_PLUS_PLUS" if axis == 1 else f"grad_cam_plus_plus({axis})"
    return Rules(name, {}, cites=("chattopadhay2018",), at_site=_along(higher_order, axis))


GRAD_CAM = grad_cam()
"""sum over channels of (mean gradient over positions) x activation."""

GRAD_CAM_PLUS_PLUS = grad_cam_plus_plus()
"""As GRAD_CAM, with positive gradients averaged by weights of second and third order."""

LAYER_CAM = Rules("LAYER_CAM", {}, cites=("jiang2021",), at_site=rising)
"""sum over channels of relu(gradient) x activation, position by position."""
