"""The whole curvature matrix, factorised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.run import TrainingRun
from ...types import BadRequest

SINGULAR = 1e-12  # smallest eigenvalue over the largest


@dataclass(frozen=True, kw_only=True)
class Dense:
    """(C + damping)^-1 by a Cholesky factorisation in float64, for models of up to some thousand
    parameters. Time n C p^2 + p^3.

    blocks=True leaves out the curvature between different parameter tensors of a module and between
    modules' groups: one block per module.
    """

    blocks: bool = False  # one block per module in place of the whole matrix

    cites: ClassVar[tuple[str, ...]] = ()

    def passes(self, run: TrainingRun) -> float:
        return run.net.size  # as many as the matrix has columns, at most

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        full = curvature.dense().double()
        if self.blocks:
            full = full * same_module(curvature.run)
        full.diagonal().add_(damping)
        factor, broken = torch.linalg.cholesky_ex(full)
        pivots = factor.diagonal().square()
        if int(broken) or float(pivots.min()) < SINGULAR * float(pivots.max()):
            raise BadRequest(
                f"the {curvature.kind} curvature with damping {damping:g} is singular or negative "
                f"along some direction of the {len(full):,} parameters. Raise damping= (None "
                "chooses it), or use curvature='ggn', which is never negative"
            )
        solved = torch.cholesky_solve(vectors.double().T, factor).T
        return solved.to(vectors.dtype)


def same_module(run: TrainingRun) -> Tensor:
    """1 where two parameters live in one module, (p, p)."""
    own = dict(run.net.module.named_parameters())
    homes = [name.rpartition(".")[0] for name in run.net.names]
    number = {home: i for i, home in enumerate(dict.fromkeys(homes))}
    sizes = torch.tensor([own[name].numel() for name in run.net.names])
    index = torch.tensor([number[home] for home in homes]).repeat_interleave(sizes)
    return index[:, None] == index
