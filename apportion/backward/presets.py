"""Named tables. Data, not code: what each operation does is in the rule files."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name

from .activation import guided, secant
from .aliases import ACTIVATIONS
from .attention import halve, halve_factors, multi_head, quarters, values_only
from .base import Replacement, Rules
from .class_maps import GRAD_CAM, GRAD_CAM_PLUS_PLUS, LAYER_CAM
from .linear import epsilon as epsilon_rule
from .linear import plain
from .normalise import freeze, group_norm, layer_norm, rms_norm

Table = dict[Callable, Replacement]

_LAYERS: list[Callable] = [
    F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d,
    torch.conv_transpose2d, torch.conv_transpose3d,
]  # fmt: skip
_NORMS: Table = {
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    F.group_norm: group_norm,
    torch.rsqrt: freeze,
}
_PASS: Table = dict.fromkeys(ACTIVATIONS, secant)
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


def epsilon(eps: float = 1e-6) -> Rules:
    """LRP-epsilon: stabilised linear layers and convolutions, relevance passes activations
    unchanged.
    """
    stable: list[Callable] = [*_LAYERS, torch.addmm, torch.addmv]
    table: Table = {**_LINEAR, **dict.fromkeys(stable, epsilon_rule(eps)), **_PASS}
    return Rules(f"epsilon({eps:g})", table, cites=("bach2015",))


TABLE = {
    "cp-lrp": CP_LRP,
    "attn-lrp": ATTN_LRP,
    "guided": GUIDED,
    "epsilon": epsilon(),
    # at the players' own site
    "grad-cam": GRAD_CAM,
    "grad-cam-plus-plus": GRAD_CAM_PLUS_PLUS,
    "layer-cam": LAYER_CAM,
}
