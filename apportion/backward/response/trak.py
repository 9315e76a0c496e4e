"""TRAK: influence in a linear model of the network's output, whose features are gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...training.data import Queries
from ...training.measures import Measure, cross_entropy, margin, prediction, squared_error
from ...training.persample import of_queries
from ...training.project import (
    Identity,
    Kronecker,
    Projection,
    Rademacher,
    SparseJL,
    derived,
)
from ...training.run import TrainingRun
from ...training.store import Store, featurise
from ...types import BadRequest
from .base import Ingredient, finite
from .damping import chosen
from .dense import SINGULAR

LARGEST = 20_000  # side of the matrix factorised (3.2 GB in float64)
FORWARD = 4096  # rows of one forward pass
TILE = 128  # columns of one product; only those up to the diagonal are computed
KINDS = ("sparse", "rademacher", "kronecker")


@dataclass(frozen=True, kw_only=True)
class TRAK:
    """tau_i = [phi_q' (sum_j R_j phi_j phi_j' + n damping I)^-1 phi_i] Q_i, with phi the projected
    gradients of an output function f, Q = -dL/df and R = d2L/df2 of the training loss L(f).

    kernel="weighted"   as above: the derivative of the value by the row's loss weight, in the
                        model that is linear in phi
    kernel="plain"      R_j replaced by its mean over the rows, as published but for that factor,
                        which keeps the scale

    Several runs: the bracket and Q are averaged over them, each by itself, then multiplied. Every
    run draws its own projection. One backward pass per row and run.

    With `folder` the features of run m are kept in folder/run-m, and a killed featurising goes on.
    """

    k: int | None = 1024  # length of the features; None, or no less than parameters: not projected
    projection: Literal["sparse", "rademacher", "kronecker"] = "sparse"
    output: Measure = margin  # f, of the training rows; queries have their own measure
    kernel: Literal["weighted", "plain"] = "weighted"
    damping: float | None = None  # total, of the mean over rows; None = `by_training`
    threshold: float | None = None  # scores are moved by this much towards 0
    seed: int = 0  # of the projections
    folder: Path | None = None

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"final"})
    cites: ClassVar[tuple[str, ...]] = ("park2023",)

    def __post_init__(self) -> None:
        if self.kernel not in ("weighted", "plain"):
            raise BadRequest(f"TRAK(kernel={self.kernel!r}); write kernel='weighted' or 'plain'")
        if self.projection not in KINDS:
            raise BadRequest(
                f"TRAK(projection={self.projection!r}); write one of {', '.join(KINDS)}, or k=None "
                "for none"
            )
        if self.threshold is not None and not self.threshold >= 0:
            raise BadRequest(f"TRAK(threshold={self.threshold!r}) must be at least 0, or None")

    def passes(self, run: TrainingRun) -> float:
        return 1

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        how = "asked for" if self.damping is not None else "by weight decay + 1 / reach of the run"
        first = self.projected(runs[0], 0)
        size, p = first.size(runs[0].net.size), runs[0].net.size
        kept = "not projected" if size == p else f"projected from {p:,} to {size:,}"
        return (
            f"damping {chosen(self.damping, runs[0]):.3g}, {how}",
            f"gradients of the {self.output} {kept}, {self.kernel} kernel",
        )

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        same_rows(runs)
        kernels, slopes = zip(
            *(self._one(run, queries, m) for m, run in enumerate(runs)), strict=True
        )
        scores = finite(torch.stack(kernels).mean(0) * torch.stack(slopes).mean(0))
        return scores if self.threshold is None else shrunk(scores, self.threshold)

    def projected(self, run: TrainingRun, number: int) -> Projection:
        """The projection of a run."""
        seed, p = derived(self.seed, number), run.net.size
        if self.k is None or self.k >= p:
            return Identity()
        if self.projection == "kronecker":
            return Kronecker.within(run.net, self.k, seed)
        return Rademacher(self.k, seed) if self.projection == "rademacher" else SparseJL(
            self.k, seed=seed
        )  # fmt: skip

    def _one(
        self, run: TrainingRun, queries: Queries, number: int
    ) -> tuple[Float[Tensor, "query row"], Float[Tensor, "row"]]:
        """The bracket and Q of one run."""
        slope, bend = slopes_of(run, self.output)
        projection = self.projected(run, number)
        folder = None if self.folder is None else Path(self.folder) / f"run-{number}"
        store = featurise(run, self.output, projection, folder)
        asked = projection(of_queries(run.net, run.final, queries))
        weights = bend if self.kernel == "weighted" else bend.mean().expand_as(bend)
        damping = run.recipe.rows.n * chosen(self.damping, run)
        u = solved(store, weights.double(), damping, asked.double())
        return store.scores(u.to(asked)), slope


Link = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _logistic(f: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """L = log(1 + exp(-f)): Q = 1 - p, R = p (1 - p)."""
    wrong = (-f).sigmoid()
    return wrong, wrong * f.sigmoid()


def _square(f: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """L = (f - y)^2 / 2: Q = y - f, R = 1."""
    return label.reshape(f.shape).to(f.dtype) - f, torch.ones_like(f)


LINKS: tuple[tuple[Measure, Measure, Link], ...] = (
    (cross_entropy, margin, _logistic),
    (squared_error, prediction, _square),
)


def slopes_of(
    run: TrainingRun, output: Measure
) -> tuple[Float[Tensor, "row"], Float[Tensor, "row"]]:
    """Q = -dL/df and R = d2L/df2 of every training row at the end of a run."""
    recipe, rows = run.recipe, run.recipe.rows
    link = next((link for loss, f, link in LINKS if (loss, f) == (recipe.loss, output)), None)
    if link is None:
        known = " or ".join(f"{loss} with output={f}" for loss, f, _ in LINKS)
        raise BadRequest(
            f"TRAK needs a training loss that is a function of one output; it knows {known}, and "
            f"got the loss {recipe.loss!r} with output={output}. Train with such a loss, choose "
            "the output= that belongs to it, or use Influence(), which takes any loss"
        )
    parts = []
    with torch.no_grad():
        for at in range(0, rows.n, FORWARD):
            x, y = rows.take(slice(at, at + FORWARD))
            out = run.net(run.final, x)
            if output == prediction and out.flatten(1).shape[1] != 1:
                raise BadRequest(
                    f"TRAK(output=prediction) reads one number, but the model gives "
                    f"{out.flatten(1).shape[1]} per row, and the loss depends on all of them; use "
                    "Influence(), which takes any loss"
                )
            parts.append(torch.stack(link(output(out, y), y)))
    slope, bend = torch.cat(parts, -1)
    return slope, bend


def solved(
    store: Store, weights: Float[Tensor, "row"], damping: float, vectors: Float[Tensor, "query k"]
) -> Float[Tensor, "query k"]:
    """(sum_i w_i phi_i phi_i' + damping I)^-1 v for each vector v, by the matrix of features or by
    that of rows, whichever is smaller. Time n k min(n, k), memory min(n, k)^2.
    """
    smaller = min(store.n, store.k)
    if smaller > LARGEST:
        raise BadRequest(
            f"TRAK would factorise a matrix of side {smaller:,} ({8 * smaller**2 / 1e9:.0f} GB); "
            f"choose k= of at most {LARGEST:,}"
        )
    weighted = Weighted(store, weights.sqrt())
    if store.k <= store.n:
        return torch.cholesky_solve(vectors.T, factor(weighted.by_feature(), damping)).T
    # Woodbury: (B'B + d)^-1 = (1 - B' (BB' + d)^-1 B) / d
    seen = weighted.times(vectors)
    held = torch.cholesky_solve(seen, factor(weighted.by_row(), damping))
    return (vectors - weighted.back(held)) / damping


@dataclass(frozen=True, eq=False)
class Weighted:
    """The table B of features, each row times the root of its weight; read block by block.

    Products of features are taken in the precision the features have, and summed in float64.
    """

    store: Store
    root: Float[Tensor, "row"]

    def __iter__(self) -> Iterator[tuple[slice, Float[Tensor, "row k"]]]:
        for own, features in self.store:
            yield own, features * self.root[own, None].to(features)

    def by_feature(self) -> Float[Tensor, "k k"]:
        """B'B, below the diagonal and on it; what stands above is not to be read."""
        k = self.store.k
        total = torch.zeros(k, k, dtype=torch.float64, device=self.root.device)
        for _, part in self:
            for at in range(0, k, TILE):
                stop = min(at + TILE, k)
                total[at:stop, :stop] += part[:, at:stop].T @ part[:, :stop]
        return total

    def by_row(self) -> Float[Tensor, "n n"]:
        """BB', likewise."""
        n = self.store.n
        total = torch.zeros(n, n, dtype=torch.float64, device=self.root.device)
        for own, part in self:
            for other, rest in self:
                if other.start > own.start:
                    break
                for at in range(own.start, own.stop, TILE):
                    tile = slice(at, min(at + TILE, own.stop))
                    upto = slice(other.start, min(other.stop, tile.stop))
                    rows, seen = part[at - own.start :][:TILE], rest[: upto.stop - upto.start]
                    total[tile, upto] = (rows @ seen.T).to(total)
        return total

    def times(self, vectors: Float[Tensor, "query k"]) -> Float[Tensor, "row query"]:
        """B v."""
        return torch.cat([(part @ vectors.T.to(part)).double() for _, part in self])

    def back(self, held: Float[Tensor, "row query"]) -> Float[Tensor, "query k"]:
        """B' w."""
        total = held.new_zeros(held.shape[1], self.store.k)
        for own, part in self:
            total += held[own].T @ part.double()
        return total


def factor(gram: Float[Tensor, "s s"], damping: float) -> Float[Tensor, "s s"]:
    """Cholesky of gram + damping; refuses a singular one."""
    gram.diagonal().add_(damping)
    found, broken = torch.linalg.cholesky_ex(gram)
    pivots = found.diagonal().square()
    if int(broken) or float(pivots.min()) <= SINGULAR * float(pivots.max()):
        raise BadRequest(
            f"the {len(gram):,} features (or rows, if fewer) of TRAK with damping {damping:g} are "
            "linearly dependent. Raise damping= (None chooses it), or lower k="
        )
    return found


def shrunk(scores: Tensor, by: float) -> Tensor:
    """Soft threshold: sign(x) max(|x| - by, 0)."""
    return scores.sign() * (scores.abs() - by).clamp(min=0)


def same_rows(runs: Sequence[TrainingRun]) -> None:
    """Refuses no runs, and runs on different data."""
    if not runs:
        raise BadRequest("there is no training run; give at least one: training.train(recipe)")
    first = runs[0].recipe.rows
    for run in runs:
        if run.recipe.rows is not first and run.recipe.rows.digest != first.digest:
            raise BadRequest(
                f"the runs were trained on different rows ({first.n} and {run.recipe.rows.n}); "
                "scores of rows can be averaged over runs on the same rows only"
            )
