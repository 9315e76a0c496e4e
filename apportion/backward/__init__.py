"""HOW GRADIENTS ARE BENT. One row per table; `game.under(table)` keeps every value and bends every
gradient.

Layer-wise relevance propagation may be covered by patents in some countries; see docs/choose.md.
"""

from .aliases import CONVOLUTIONS, DENSE
from .base import Rules
from .class_maps import GRAD_CAM, GRAD_CAM_PLUS_PLUS, LAYER_CAM, grad_cam, grad_cam_plus_plus
from .doctor import Finding, unruled
from .entry import Entry
from .layered import (
    AT_INPUT,
    alpha_beta,
    epsilon,
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
    falling_gamma,
    flat,
    gamma,
    w_square,
    z_box,
    z_plus,
)
from .paired import Tape
from .places import Place, layers
from .presets import (
    ATTN_LRP,
    CP_LRP,
    DECONVNET,
    DEEPLIFT,
    DYNAMIC_LRP,
    GIM,
    GUIDED,
    TABLE,
    dynamic,
    gim,
)

__all__ = [
    "ATTN_LRP",
    "AT_INPUT",
    "CONVOLUTIONS",
    "CP_LRP",
    "DECONVNET",
    "DEEPLIFT",
    "DENSE",
    "DYNAMIC_LRP",
    "GIM",
    "GRAD_CAM",
    "GRAD_CAM_PLUS_PLUS",
    "GUIDED",
    "LAYER_CAM",
    "TABLE",
    "Entry",
    "Finding",
    "Place",
    "Rules",
    "Tape",
    "alpha_beta",
    "dynamic",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "falling_gamma",
    "flat",
    "gamma",
    "gim",
    "grad_cam",
    "grad_cam_plus_plus",
    "layers",
    "unruled",
    "w_square",
    "z_box",
    "z_plus",
]
