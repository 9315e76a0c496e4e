"""Nodes and weights on [0, 1]."""

from __future__ import annotations

from enum import Enum

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Quadrature(Enum):
    """How an integral over [0, 1] becomes a weighted sum; all weights sum to 1."""

    GAUSS_LEGENDRE = "gauss-legendre"  # exact for polynomials of degree 2 steps - 1
    MIDPOINT = "midpoint"  # never touches the ends
    TRAPEZOID = "trapezoid"  # both ends, at half weight
    RIGHT = "right"  # right Riemann sum: the formula of the paper

    def __repr__(self) -> str:  # as it is written in code
        return f"Quadrature.{self.name}"


def nodes_and_weights(
    rule: Quadrature, steps: int
) -> tuple[Float[Tensor, "step"], Float[Tensor, "step"]]:
    """Where to evaluate and with which weight."""
    if rule is Quadrature.GAUSS_LEGENDRE:
        x, w = np.polynomial.legendre.leggauss(steps)
        return torch.as_tensor((x + 1) / 2), torch.as_tensor(w / 2)
    place = torch.arange(steps, dtype=torch.float64)
    if rule is Quadrature.TRAPEZOID:
        weights = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        weights[[0, -1]] /= 2
        return place / (steps - 1), weights
    offset = 0.5 if rule is Quadrature.MIDPOINT else 1.0
    return (place + offset) / steps, torch.full((steps,), 1 / steps, dtype=torch.float64)


def gap_share(change: Tensor, scores: Tensor) -> float:
    """The gap as a share of what is to be explained, the worst output's."""
    gap = (change - scores.sum(-1)).abs()
    return float((gap / change.abs().clamp(min=1e-12)).max()) if float(gap.max()) > 1e-9 else 0.0
