"""Named tables. Data, not code: what each operation does is in the rule files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name

from . import paired, tempered
from .activation import deconvolved, first_only, guided, secant
from .aliases import ACTIVATIONS, CONVOLUTIONS, ELEMENTWISE, LAYERS, POOLS
from .attention import halve, halve_factors, multi_head, quarters, values_only
from .base import Replacement, Rules
from .class_maps import GRAD_CAM, GRAD_CAM_PLUS_PLUS, LAYER_CAM
from .dynamic import localised
from .layered import (
    alpha_beta,
    epsilon,
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
    falling_gamma,
    gamma,
    z_plus,
)
from .linear import plain
from .normalise import freeze, group_norm, layer_norm, normalize, rms_norm
from .paired import Paired
from .written import gated, power, quotient

Table = dict[Callable, Replacement]

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
    **dict.fromkeys((F.linear, *CONVOLUTIONS), halve_factors(0, 1, "input", "weight")),
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


DEEPLIFT = Rules(
    "DEEPLIFT",
    {
        **_LINEAR, **dict.fromkeys(LAYERS, plain),
        **dict.fromkeys((*ACTIVATIONS, *ELEMENTWISE), Paired(paired.rescale)),
        **dict.fromkeys(POOLS, Paired(paired.pooled)),
        power: Paired(paired.rescale),
        torch.pow: Paired(paired.power),
    },
    cites=("shrikumar2017",),
)  # fmt: skip
"""DeepLIFT's rescale rule: slopes between the run and the run in which no player is present, for
derivatives. Softmaxes, norms and products of two variables have no rule and are named.

Averaged over the rows of a background, `ap.averaged(game)`, it is what DeepLIFT-SHAP computes.
"""


def dynamic(rules: Rules, others: Rules = CP_LRP) -> Rules:
    """The same table, where operations that it does not know fall back to a rule of `others`, and
    then to a local one that conserves: relevance passes elementwise functions unchanged, and
    products, quotients and powers share it equally.

    What only moves, adds or takes the largest of its inputs keeps its own gradient, which conserves
    too. The game's notes and apportion doctor name every operation that fell back, and those that
    keep a gradient which does not conserve. Unlike published, sums share relevance by the signed
    summands, as everywhere in this library. [lee2025]
    """
    return localised(rules, others)


DYNAMIC_LRP = replace(
    dynamic(Rules("CP_LRP", CP_LRP.functions, cites=CP_LRP.cites)),
    name="DYNAMIC_LRP",
    conserves=True,
)
"""CP-LRP with local rules for the operations it does not know, in the manner of DynamicLRP."""

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
    "epsilon-plus": epsilon_plus(),
    "epsilon-plus-flat": epsilon_plus_flat(),
    "epsilon-alpha2-beta1": epsilon_alpha2_beta1(),
    "epsilon-alpha2-beta1-flat": epsilon_alpha2_beta1_flat(),
    "epsilon-gamma-box": epsilon_gamma_box(),
    "falling-gamma": falling_gamma(),
    "deeplift": DEEPLIFT,
    "dynamic-lrp": DYNAMIC_LRP,
    # at the players' own site
    "grad-cam": GRAD_CAM,
    "grad-cam-plus-plus": GRAD_CAM_PLUS_PLUS,
    "layer-cam": LAYER_CAM,
}
