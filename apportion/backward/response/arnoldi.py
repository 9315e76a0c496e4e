"""The leading eigenpairs of the curvature, from products with one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.run import TrainingRun
from .damping import count


@dataclass(frozen=True, kw_only=True)
class Arnoldi:
    """(C + damping)^-1 within the span of the `keep` largest Ritz vectors of a Krylov space, and
    1 / damping outside of it where `rest` is set.

    Re-orthogonalised twice per step. Eigenvalues at or below 0 are dropped. One product per
    iteration.
    """

    iterations: int = 100
    keep: int = 100
    rest: bool = False  # False: directions outside the span are left out, as published

    cites: ClassVar[tuple[str, ...]] = ("schioppa2022",)

    def __post_init__(self) -> None:
        count(self.iterations, "Arnoldi(iterations)")
        count(self.keep, "Arnoldi(keep)")

    def passes(self, run: TrainingRun) -> float:
        return 3 * self.iterations

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        values, basis = ritz(curvature, vectors, self.iterations, rng)
        best = values.argsort(descending=True)[: self.keep]
        best = best[values[best] > 0]
        values, basis = values[best], basis[best]
        inside = vectors.double() @ basis.T
        solved = (inside / (values + damping)) @ basis
        if self.rest and damping > 0:
            solved = solved + (vectors.double() - inside @ basis) / damping
        return solved.to(vectors.dtype)


def ritz(
    curvature: Curvature, like: Tensor, iterations: int, rng: Generator
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k p"]]:
    """Ritz values and vectors of the curvature in the Krylov space of a random vector."""
    p = like.shape[-1]
    start = torch.randn(p, generator=rng, dtype=torch.float64).to(like.device)
    basis = [start / start.norm()]
    images: list[Tensor] = []
    for _ in range(min(iterations, p)):
        image = curvature.times(basis[-1][None].to(like.dtype))[0].double()
        images.append(image)
        held = torch.stack(basis)
        left = image - (held @ image) @ held
        left = left - (held @ left) @ held  # once more: rounding of the first pass
        if float(left.norm()) < 1e-10 * float(image.norm().clamp(min=1e-30)):
            break
        basis.append(left / left.norm())
    held = torch.stack(basis[: len(images)])
    small = held @ torch.stack(images).T
    values, turn = torch.linalg.eigh((small + small.T) / 2)
    return values, turn.T @ held
