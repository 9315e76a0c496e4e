"""HOW GRADIENTS ARE BENT. One row per table; `game.under(table)` keeps every value and bends every
gradient.

Layer-wise relevance propagation may be covered by patents in some countries; see docs/choose.md.
"""

from .base import Rules
from .class_maps import GRAD_CAM, GRAD_CAM_PLUS_PLUS, LAYER_CAM, grad_cam, grad_cam_plus_plus
from .doctor import Finding, unruled
from .presets import (
    ATTN_LRP,
    CP_LRP,
    DECONVNET,
    GIM,
    GUIDED,
    TABLE,
    alpha_beta,
    epsilon,
    gamma,
    gim,
    z_plus,
)

__all__ = [
    "ATTN_LRP",
    "CP_LRP",
    "DECONVNET",
    "GIM",
    "GRAD_CAM",
    "GRAD_CAM_PLUS_PLUS",
    "GUIDED",
    "LAYER_CAM",
    "TABLE",
    "Finding",
    "Rules",
    "alpha_beta",
    "epsilon",
    "gamma",
    "gim",
    "grad_cam",
    "grad_cam_plus_plus",
    "unruled",
    "z_plus",
]
