"""LiSSA: an inverse as a sum of powers, from batches of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.run import TrainingRun
from ...types import BadRequest
from .damping import count

POWER = 20  # iterations that measure the largest eigenvalue


@dataclass(frozen=True, kw_only=True)
class LiSSA:
    """x <- v + x - (C_b + damping) x / scale on random batches b; the answer is x / scale, averaged
    over repeats and over the last half of the steps.

    Its fixed point is (C + damping)^-1 v. `scale` must exceed half the largest eigenvalue; None
    measures it. Directions below scale / steps have not converged. One product per step.
    """

    steps: int = 1000
    batch: int = 100
    repeats: int = 1
    scale: float | None = None  # None = 1.5 times the largest eigenvalue, measured

    cites: ClassVar[tuple[str, ...]] = ("agarwal2017",)

    def __post_init__(self) -> None:
        for name, given in (
            ("steps", self.steps),
            ("batch", self.batch),
            ("repeats", self.repeats),
        ):
            count(given, f"LiSSA({name})")
        if self.scale is not None and not self.scale > 0:
            raise BadRequest(f"LiSSA(scale={self.scale}): a number above 0, or None to measure it")

    def passes(self, run: TrainingRun) -> float:
        return 3 * self.steps * self.repeats * self.batch / run.recipe.rows.n

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        if damping <= 0:
            raise BadRequest(
                "LiSSA(damping=0): its sum converges only where the curvature is positive along "
                "every direction; give a damping above 0, or None, which chooses it"
            )
        scale = self._scale(curvature, vectors, damping, rng)
        total = torch.zeros_like(vectors)
        for _ in range(self.repeats):
            x = vectors.clone()
            for t in range(self.steps):
                pushed = drawn(curvature, self.batch, rng).times(x) + damping * x
                x = vectors + x - pushed / scale
                if t >= self.steps // 2:
                    total += x
        if not bool(torch.isfinite(total).all()):
            raise BadRequest(
                f"LiSSA diverged at scale {scale:.3g}: it must exceed half the largest eigenvalue "
                "of every batch's curvature. Raise scale= or batch="
            )
        return total / (scale * self.repeats * (self.steps - self.steps // 2))

    def _scale(
        self, curvature: Curvature, vectors: Tensor, damping: float, rng: Generator
    ) -> float:
        if self.scale is not None:
            return self.scale
        v = torch.randn(vectors.shape[1:], generator=rng).to(vectors)[None]
        for _ in range(POWER):
            v = curvature.times(v / v.norm())
        return 1.5 * (float(v.norm()) + damping)


def drawn(curvature: Curvature, batch: int, rng: Generator) -> Curvature:
    """The curvature of a random batch of rows."""
    at = []
    for params, rows in curvature.at:
        size = min(batch, len(rows))
        at.append((params, rows[torch.randperm(len(rows), generator=rng)[:size]]))
    return replace(curvature, at=tuple(at))
