"""Conjugate gradients: an inverse from products alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.run import TrainingRun
from ...types import BadRequest
from .damping import count


@dataclass(frozen=True, kw_only=True)
class CG:
    """(C + damping)^-1 v by conjugate gradients, all vectors at once; ends when every residual is
    below `tolerance` of its vector. Each iteration is one product with the curvature.
    """

    iterations: int = 200
    tolerance: float = 1e-5

    cites: ClassVar[tuple[str, ...]] = ("hestenes1952",)

    def __post_init__(self) -> None:
        count(self.iterations, "CG(iterations)")
        if not self.tolerance > 0:
            raise BadRequest(f"CG(tolerance={self.tolerance}): a number above 0")

    def passes(self, run: TrainingRun) -> float:
        return 3 * self.iterations

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        x = torch.zeros_like(vectors)
        residual = vectors.clone()
        direction = residual.clone()
        energy = residual.square().sum(-1)
        goal = self.tolerance**2 * energy
        for _ in range(self.iterations):
            pushed = curvature.times(direction) + damping * direction
            bend = (direction * pushed).sum(-1)
            live = energy > goal
            if bool((live & (bend <= 0)).any()):
                raise BadRequest(
                    f"CG met a direction of curvature {float(bend.min()):.2g}: the "
                    f"{curvature.kind} with damping {damping:g} is not positive. Raise damping=, "
                    "or use curvature='ggn'"
                )
            step = torch.where(live, energy / bend, 0.0)
            x = x + step[:, None] * direction
            residual = residual - step[:, None] * pushed
            new = residual.square().sum(-1)
            if bool((new <= goal).all()):
                return x
            direction = residual + torch.where(live, new / energy, 0.0)[:, None] * direction
            energy = new
        short = float((energy / vectors.square().sum(-1)).sqrt().max())
        raise BadRequest(
            f"CG left a residual of {short:.1g} after {self.iterations} iterations (asked: "
            f"{self.tolerance:g}); raise iterations=, tolerance= or damping="
        )
