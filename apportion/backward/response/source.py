"""SOURCE: a training cut into segments, each unrolled in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.data import Queries
from ...training.optim import SGD
from ...training.persample import of_queries
from ...training.run import TrainingRun
from ...types import BadRequest
from .base import Ingredient, over_runs, read_along
from .damping import count

OfEigenvalues = Callable[[Tensor], Tensor]


@runtime_checkable
class Spectrum(Protocol):
    """A curvature in its eigenbasis, exactly or nearly."""

    def apply(self, vectors: Float[Tensor, "m p"], f: OfEigenvalues) -> Float[Tensor, "m p"]:
        """f(C) times vectors: along every eigenvector multiplied by f of its eigenvalue."""


@runtime_checkable
class Spectral(Protocol):
    """Finds the spectrum of a curvature."""

    cites: ClassVar[tuple[str, ...]]

    def passes(self, run: TrainingRun) -> float: ...

    def spectrum(self, curvature: Curvature, rng: Generator) -> Spectrum: ...


@dataclass(frozen=True, eq=False)
class Eigen:
    """Eigenvalues and eigenvectors of a whole matrix."""

    values: Float[Tensor, "p"]
    vectors: Float[Tensor, "p p"]  # in columns

    def apply(self, vectors: Float[Tensor, "m p"], f: OfEigenvalues) -> Float[Tensor, "m p"]:
        turned = vectors.double() @ self.vectors
        return ((turned * f(self.values)) @ self.vectors.T).to(vectors.dtype)


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The eigenvectors of the whole curvature, for models of up to some thousand parameters.
    Eigenvalues below 0 (rounding, or a Hessian) count as 0. Time p^3.
    """

    cites: ClassVar[tuple[str, ...]] = ()

    def passes(self, run: TrainingRun) -> float:
        return run.net.size

    def spectrum(self, curvature: Curvature, rng: Generator) -> Eigen:
        values, vectors = torch.linalg.eigh(curvature.dense().double())
        return Eigen(values.clamp(min=0), vectors)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Approximate unrolling: inside a segment of c = sum of rates / (1 - momentum) the gradients
    and the curvature C stand still, so gradient descent has the closed form

        r = (1 - exp(-c C)) C^-1 g        passed on through later segments by exp(-c C),

    tau = -(1/n) grad value' sum over segments of (later segments) r. Needs no damping: (1 - exp(-c
    s)) / s acts like 1 / (s + 1/c). Tells more than influence where the training stopped early or
    had stages.

    For SGD, with momentum or not. C includes the weight decay.
    """

    segments: int = 3  # equally many checkpoints in each
    spectral: Spectral = field(default_factory=Exact)
    seed: int = 0  # of a spectrum that draws labels at random

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"checkpoints"})

    def __post_init__(self) -> None:
        count(self.segments, "Source(segments)")

    @property
    def cites(self) -> tuple[str, ...]:
        """The method and its eigenbasis."""
        return ("bae2024", *self.spectral.cites)

    def passes(self, run: TrainingRun) -> float:
        return self.segments * self.spectral.passes(run) + len(run.spaced)

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        return (f"{self.segments} segments of {len(runs[0].spaced) // self.segments} checkpoints",)

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        return over_runs(runs, lambda run: self._one(run, queries))

    def _one(self, run: TrainingRun, queries: Queries) -> Float[Tensor, "query row"]:
        carried = of_queries(run.net, run.final, queries)
        decay = run.recipe.optimiser.weight_decay
        directions, stop = [], run.steps
        for steps in reversed(self._segments(run)):
            earlier = [s for s in run.spaced if s < steps[0]]
            begin = max(earlier, default=0)
            c = run.reached(begin, stop)
            curvature = Curvature.of(run, steps)
            spectrum = self.spectral.spectrum(curvature, Generator().manual_seed(self.seed))
            u = spectrum.apply(carried, partial(inside, decay=decay, c=c))
            directions += [(run.checkpoints[s], u / len(steps)) for s in steps]
            carried = spectrum.apply(carried, partial(through, decay=decay, c=c))
            stop = begin
        return read_along(run, directions)

    def _segments(self, run: TrainingRun) -> list[tuple[int, ...]]:
        """The checkpoints of each segment, in order."""
        if not isinstance(run.recipe.optimiser, SGD):
            raise BadRequest(
                f"Source unrolls SGD; this run used {run.recipe.optimiser}. Use "
                "Influence(at='averaged'), or Unrolled(), which differentiates any optimiser"
            )
        spaced = run.spaced
        if not 1 <= self.segments <= len(spaced) or len(spaced) % self.segments:
            raise BadRequest(
                f"Source(segments={self.segments}) cuts the run's {len(spaced)} checkpoints into "
                f"equal parts; record a multiple of {self.segments}: train(recipe, "
                f"keep={2 * self.segments})"
            )
        each = len(spaced) // self.segments
        return [spaced[i : i + each] for i in range(0, len(spaced), each)]


def inside(s: Tensor, decay: float, c: float) -> Tensor:
    """(1 - exp(-c s)) / s of the eigenvalue with weight decay; c at s = 0."""
    s = s + decay
    small = s * c < 1e-8
    return torch.where(small, c, -torch.expm1(-c * s) / torch.where(small, 1.0, s))


def through(s: Tensor, decay: float, c: float) -> Tensor:
    """exp(-c s): what is left of a displacement after the segment."""
    return torch.exp(-c * (s + decay))
