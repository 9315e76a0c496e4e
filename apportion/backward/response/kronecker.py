"""K-FAC and EK-FAC: the curvature inverted layer by layer, as Kronecker products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...training.curvature import Curvature
from ...training.factors import survey
from ...training.run import TrainingRun
from ...types import BadRequest
from .eigenbasis import Basis, Eigenbasis, Fit, Labels, outputs_of
from .lissa import drawn

SHARES = tuple(10 ** (-k / 2) for k in range(7))  # of the damping, tried by energy
SINGULAR = 1e-6  # smallest eigenvalue over the largest, beyond the rounding of float32
PROBES, LOOK = 8, 256  # vectors and rows the energy is read from


@dataclass(frozen=True, kw_only=True)
class KFac:
    """(C + damping)^-1 with every layer's C taken for a Kronecker product S x A of second moments:
    S of the gradients flowing back, A of the inputs. Blocks between layers are left out. Modules
    without factors keep their exact block up to 256 parameters, the diagonal above.

    The factorisation evens out the spectrum, so it wants less damping than C: see `share`. Time
    two eigendecompositions per layer.
    """

    labels: Labels = "expected"  # drawn from the model, expected exactly, or the rows' own
    samples: int = 8  # labels drawn per row
    basis: Basis = "factors"  # moments of inputs and flows, or of whole gradients
    share: float | None = None  # of the damping, added inside; None = by energy, 1 = as published
    refine: int = 0  # steps of conjugate gradients on C itself, preconditioned by this

    cites: ClassVar[tuple[str, ...]] = ("martens2015",)

    def __post_init__(self) -> None:
        _check(self.share, self.refine)
        _ = self.fit

    @property
    def fit(self) -> Fit:
        """The options of the eigenbasis."""
        return Fit(self.labels, self.samples, self.basis, corrected=False)

    def passes(self, run: TrainingRun) -> float:
        return _passes(self, run, sweeps=1)

    def notes(self, run: TrainingRun) -> tuple[str, ...]:
        """Which parameters have no factors."""
        return (str(survey(run.net, run.final, run.recipe.rows)),)

    def spectrum(self, curvature: Curvature, rng: Generator) -> Eigenbasis:
        """The eigenbasis, for any function of the curvature."""
        return _fitted(self.fit, curvature, rng)

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        basis = self.spectrum(curvature, rng)
        return _solved(self, Problem(curvature, vectors, damping), basis, rng)


@dataclass(frozen=True, kw_only=True)
class EKFac:
    """(C + damping)^-1 with every layer's C taken for diagonal in a Kronecker eigenbasis, its
    eigenvalues measured there: the mean squared gradient of a row along each pair of eigenvectors.
    Their sum is the trace of C exactly.

    basis="gradients" diagonalises E[G G'] and E[G' G] of the rows' whole gradients G, so that rows
    with large gradients count more; "factors" takes the eigenvectors of K-FAC, as published. The
    rest is as in `KFac`, with a second pass over the rows.
    """

    labels: Labels = "expected"  # drawn from the model, expected exactly, or the rows' own
    samples: int = 8  # labels drawn per row
    basis: Basis = "gradients"  # moments of whole gradients, or of inputs and flows
    share: float | None = None  # of the damping, added inside; None = by energy, 1 = as published
    refine: int = 0  # steps of conjugate gradients on C itself, preconditioned by this

    cites: ClassVar[tuple[str, ...]] = ("george2018", "grosse2023")

    def __post_init__(self) -> None:
        _check(self.share, self.refine)
        _ = self.fit

    @property
    def fit(self) -> Fit:
        """The options of the eigenbasis."""
        return Fit(self.labels, self.samples, self.basis, corrected=True)

    def passes(self, run: TrainingRun) -> float:
        return _passes(self, run, sweeps=2)

    def notes(self, run: TrainingRun) -> tuple[str, ...]:
        """Which parameters have no factors."""
        return (str(survey(run.net, run.final, run.recipe.rows)),)

    def spectrum(self, curvature: Curvature, rng: Generator) -> Eigenbasis:
        """The eigenbasis, for any function of the curvature."""
        return _fitted(self.fit, curvature, rng)

    def __call__(
        self, curvature: Curvature, vectors: Float[Tensor, "m p"], damping: float, rng: Generator
    ) -> Float[Tensor, "m p"]:
        basis = self.spectrum(curvature, rng)
        return _solved(self, Problem(curvature, vectors, damping), basis, rng)


def _fitted(fit: Fit, curvature: Curvature, rng: Generator) -> Eigenbasis:
    try:
        return fit(curvature, rng)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as failure:
        raise BadRequest(
            "the model has a layer that cannot be run for many rows at once under torch.func.vmap "
            f"({str(failure).splitlines()[0][:120]}); K-FAC and EK-FAC need that. Use CG(), which "
            "does not"
        ) from failure


@dataclass(frozen=True, eq=False)
class Problem:
    """(C + damping) u = v, for several v."""

    curvature: Curvature
    vectors: Float[Tensor, "m p"]
    damping: float

    def times(self, u: Float[Tensor, "m p"]) -> Float[Tensor, "m p"]:
        """The left side."""
        return self.curvature.times(u) + self.damping * u


def _check(share: float | None, refine: int) -> None:
    if share is not None and not 0 < share < float("inf"):
        raise BadRequest(f"share={share!r}: a part of the damping above 0, or None = by energy")
    if refine < 0:
        raise BadRequest(f"refine={refine}: a number of steps; 0 leaves the answer as it is")


def _passes(solver: KFac | EKFac, run: TrainingRun, sweeps: int) -> float:
    labels = {"sampled": solver.samples, "true": 1}
    columns = outputs_of(run) if solver.labels == "expected" else labels[solver.labels]
    tried = len(SHARES) * PROBES * min(1, LOOK / run.recipe.rows.n) if solver.share is None else 0
    return sweeps * columns + 3 * (tried + solver.refine)


def _solved(
    solver: KFac | EKFac, problem: Problem, basis: Eigenbasis, rng: Generator
) -> Float[Tensor, "m p"]:
    share = nearest(problem, basis, rng) if solver.share is None else solver.share
    added, values = share * problem.damping, basis.values
    if float(values.min()) + added <= SINGULAR * float(values.max()):
        raise BadRequest(
            f"the Kronecker curvature with damping {added:g} is singular along some direction of "
            f"the {len(values):,} parameters. Raise damping= (None chooses it)"
        )
    return refined(problem, lambda v: inverse(basis, v, added), solver.refine)


def inverse(basis: Eigenbasis, v: Float[Tensor, "m p"], damping: float) -> Float[Tensor, "m p"]:
    """(C + damping)^-1 v in the eigenbasis."""
    return basis.apply(v, lambda s: 1 / (s + damping))


def nearest(problem: Problem, basis: Eigenbasis, rng: Generator) -> float:
    """The share of the damping whose answer u, scaled at best, lies nearest to that of the problem
    in its own norm: where (v'u)^2 / u'(C + damping)u is largest. Needs products with C for a few
    vectors and rows, and no retraining.

    A diagonal in another basis is never more uneven than the spectrum [Schur-Horn]: small curvature
    looks larger than it is, which acts like damping already. So shares are at most 1.
    """
    if not problem.damping:
        return 1.0
    few = torch.randperm(len(problem.vectors), generator=rng)[:PROBES]
    own = Problem(drawn(problem.curvature, LOOK, rng), problem.vectors[few], problem.damping)
    gains = torch.stack(
        [_energy(own, inverse(basis, own.vectors, s * own.damping)) for s in SHARES]
    )
    mean = (gains / gains.amax(0).clamp(min=torch.finfo(gains.dtype).tiny)).mean(1)
    best = int(mean.argmax())
    if best in (0, len(SHARES) - 1):
        return SHARES[best]
    low, top, high = (float(mean[best + k]) for k in (-1, 0, 1))
    bend = low - 2 * top + high  # the peak of the parabola through three points
    return SHARES[best] * 10 ** (-0.25 * (low - high) / bend if bend < 0 else 0.0)


def _energy(problem: Problem, u: Float[Tensor, "m p"]) -> Float[Tensor, "m"]:
    v, pushed = problem.vectors.double(), problem.times(u).double()
    below = (u.double() * pushed).sum(-1)
    return (v * u.double()).sum(-1).square() / below.clamp(min=torch.finfo(below.dtype).tiny)


def refined(problem: Problem, near: Callable[[Tensor], Tensor], steps: int) -> Float[Tensor, "m p"]:
    """The near inverse, or preconditioned by it as many steps of conjugate gradients."""
    if not steps:
        return near(problem.vectors)
    x, residual = torch.zeros_like(problem.vectors), problem.vectors
    direction = z = near(residual)
    energy = (residual * z).sum(-1, keepdim=True)
    tiny = torch.finfo(energy.dtype).tiny
    for _ in range(steps):
        pushed = problem.times(direction)
        step = energy / (direction * pushed).sum(-1, keepdim=True).clamp(min=tiny)
        x = x + step * direction
        residual = residual - step * pushed
        z = near(residual)
        new = (residual * z).sum(-1, keepdim=True)
        direction, energy = z + new / energy.clamp(min=tiny) * direction, new
    return x
