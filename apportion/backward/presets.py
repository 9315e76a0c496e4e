"""Named tables. Data, not code: what each operation does is in the rule files."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name

from . import signed, tempered
from .activation import deconvolved, first_only, guided, secant
from .aliases import ACTIVATIONS
from .attention import halve, halve_factors, multi_head, quarters, values_only
from .base import Replacement, Rules
from .class_maps import GRAD_CAM, GRAD_CAM_PLUS_PLUS, LAYER_CAM
from .linear import epsilon as epsilon_rule
from .linear import plain
from .normalise import freeze, group_norm, layer_norm, normalize, rms_norm
from .written import gated, power, quotient

Table = dict[Callable, Replacement]

_LAYERS: list[Callable] = [
    F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d,
    torch.conv_transpose2d, torch.conv_transpose3d,
]  # fmt: skip
_NORMS: Table = {
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    F.group_norm: group_norm,
    F.normalize: normalize,
    torch.rsqrt: freeze,
    quotient: first_only,
}
_PASS: Table = {**dict.fromkeys((*ACTIVATIONS, power, torch.sqrt), secant), gated: first_only}
_LINEAR: Table = dict.fromkeys((F.embedding, F.batch_norm), plain)
_PRODUCTS: Table = {
    **dict.fromkeys((torch.mul, torch.matmul, torch.einsum, torch.tensordot), halve),
    **dict.fromkeys((torch.inner, torch.outer, torch.linalg.vecdot), halve),
    # with constant weights these are the ordinary linear operations
    **dict.fromkeys(_LAYERS, halve_factors(0, 1, "input", "weight")),
    torch.addmm: halve_factors(1, 2, "mat1", "mat2"),
    torch.addmv: halve_factors(1, 2, "mat", "vec"),
    **dict.fromkeys((torch.baddbmm, torch.addbmm), halve_factors(1, 2, "batch1", "batch2")),
    torch.addcmul: halve_factors(1, 2, "tensor1", "tensor2"),
}

CP_LRP = Rules(
    "CP_LRP",
    {
        **_LINEAR, **_NORMS, **_PASS, **_PRODUCTS,
        F.softmax: freeze,
        F.scaled_dot_product_attention: values_only,
        F.multi_head_attention_forward: multi_head(values_only),
    },
    conserves=True,
    cites=("ali2022", "arras2025"),
)  # fmt: skip
"""Conservative propagation: frozen norms and attention weights, secant activations, halved
products.
"""

ATTN_LRP = Rules(
    "ATTN_LRP",
    {
        **_LINEAR, **_NORMS, **_PASS, **_PRODUCTS,
        F.softmax: plain,
        F.scaled_dot_product_attention: quarters,
        F.multi_head_attention_forward: multi_head(quarters),
    },
    cites=("achtibat2024", "arras2025"),
)  # fmt: skip
"""As CP_LRP, but relevance also flows through queries and keys; the softmax's gradient does not
conserve.
"""

GUIDED = Rules("GUIDED", dict.fromkeys(ACTIVATIONS, guided), cites=("springenberg2015",))
"""Guided backpropagation: negative gradients stop at every activation."""


DECONVNET = Rules("DECONVNET", dict.fromkeys(ACTIVATIONS, deconvolved), cites=("zeiler2014",))
"""Deconvolution: as GUIDED, where the activation's own slope does not count."""


def gim(temperature: float = 2.0) -> Rules:
    """Gradient interaction modifications: the softmax's gradient at a higher temperature, frozen
    norms, halved products; activations keep their own derivative.

    Fused attention is spelled out for its derivative: memory of queries times keys.
    """
    name = "GIM" if temperature == 2 else f"gim({temperature:g})"
    attend = tempered.attention(temperature)
    table: Table = {
        **_LINEAR, **_NORMS, **_PRODUCTS, **dict.fromkeys((*ACTIVATIONS, gated), plain),
        F.softmax: tempered.softmax(temperature),
        F.scaled_dot_product_attention: attend,
        F.multi_head_attention_forward: multi_head(attend),
    }  # fmt: skip
    return Rules(name, table, cites=("edin2025",))


GIM = gim()


def _layered(rule: Replacement) -> Table:
    """One rule for every layer with weights; relevance passes activations unchanged."""
    layers: list[Callable] = [*_LAYERS, torch.addmm, torch.addmv]
    return {**_LINEAR, **dict.fromkeys(layers, rule), **_PASS}


def epsilon(eps: float = 1e-6) -> Rules:
    """LRP-epsilon: stabilised linear layers and convolutions, relevance passes activations
    unchanged.
    """
    return Rules(f"epsilon({eps:g})", _layered(epsilon_rule(eps)), cites=("bach2015",))


def gamma(g: float = 0.25) -> Rules:
    """LRP-gamma: contributions that agree with the sign of a unit's sum count 1 + g times. 0 is
    gradient x input with activations passed, infinity is z+ where inputs are positive.
    """
    cites = ("montavon2019", "andéol2021")
    return Rules(f"gamma({g:g})", _layered(signed.gamma(g)), conserves=True, cites=cites)


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6) -> Rules:
    """LRP-alpha-beta: activating contributions share alpha, inhibiting ones -beta of the relevance
    of each unit.
    """
    name = f"alpha_beta({alpha:g}, {beta:g})"
    return Rules(name, _layered(signed.alpha_beta(alpha, beta, eps)), cites=("bach2015",))


def z_plus(eps: float = 1e-6) -> Rules:
    """LRP-z+: only activating contributions get relevance; alpha_beta(1, 0)."""
    table = _layered(signed.alpha_beta(1, 0, eps))
    return Rules("z_plus", table, cites=("montavon2017", "bach2015"))


TABLE = {
    "cp-lrp": CP_LRP,
    "attn-lrp": ATTN_LRP,
    "gim": GIM,
    "guided": GUIDED,
    "deconvnet": DECONVNET,
    "epsilon": epsilon(),
    "gamma": gamma(),
    "z-plus": z_plus(),
    "alpha-beta": alpha_beta(),
    # at the players' own site
    "grad-cam": GRAD_CAM,
    "grad-cam-plus-plus": GRAD_CAM_PLUS_PLUS,
    "layer-cam": LAYER_CAM,
}
