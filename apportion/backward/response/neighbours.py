"""Nearest neighbours: rows that the trained model sees as it sees the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ... import taps
from ...training.data import Inputs, Queries, pick, tensors
from ...training.run import TrainingRun
from ...types import BadRequest
from .base import Ingredient, finite, over_runs

Similarity = Literal["cosine", "l2", "dot"]
PASS = 512  # rows of one forward pass


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How alike the activations of a query and of each training row are: no gradient at all.

        cosine  a.b / |a| |b|          dot  a.b          l2  -|a - b|^2

    A baseline: it has no unit of the value, and does not read the queries' measure. With `signed`,
    rows of another label than the query's count negative: they spoke against it. One forward pass
    per row.
    """

    site: taps.Site | None = None  # whose activation, all positions flattened; None = the raw input
    similarity: Similarity = "cosine"
    signed: bool = False

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"final"})
    cites: ClassVar[tuple[str, ...]] = ("hanawa2021",)

    def __post_init__(self) -> None:
        _check_similarity("Neighbours", self.similarity)
        if self.signed and self.similarity == "l2":
            raise BadRequest(
                "Neighbours(similarity='l2', signed=True): minus a squared distance is never "
                "positive, so the farthest rows of other labels would score highest; write "
                "similarity='cosine' or 'dot'"
            )

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        return (f"{self.similarity} at {_place(self.site)}, not in units of the value",)

    def passes(self, run: TrainingRun) -> float:
        return 0

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        sign = torch.where(same_label(runs, queries), 1, -1) if self.signed else 1
        return finite(over_runs(runs, lambda run: sign * self._one(run, queries)))

    def _one(self, run: TrainingRun, queries: Queries) -> Float[Tensor, "query row"]:
        asked, known = features(run, self.site, queries.input, run.recipe.rows.input)
        return alike(asked, known, self.similarity)


@dataclass(frozen=True, kw_only=True)
class KnnShapley:
    """The exact Shapley value of each training row in a vote of nearest neighbours.

        v(S) = share, of k, of the nearest rows in S that have the query's label
        s of the farthest row N = [y_N = y] min(k, N) / (k N)
        s_i = s_(i+1) + ([y_i = y] - [y_(i+1) = y]) min(k, i) / (k i),   from far to near

    Scores add up to v(all rows). It explains the vote and reads the trained model through the
    activations alone; the queries' measure is not read. Ties go to the row of the smaller number.
    One forward pass per row, time n log n per query.
    """

    k: int = 5  # how many neighbours vote
    site: taps.Site | None = None  # whose activation, all positions flattened; None = the raw input
    similarity: Similarity = "l2"  # what makes a neighbour near

    exact: ClassVar[bool] = False
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"final"})
    cites: ClassVar[tuple[str, ...]] = ("jia2019",)

    def __post_init__(self) -> None:
        _check_similarity("KnnShapley", self.similarity)
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadRequest(f"KnnShapley(k={self.k!r}): at least one neighbour votes, k=1")

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        return (
            f"Shapley values of a vote of the {self.k} nearest rows by {self.similarity} at "
            f"{_place(self.site)}, not in units of the value",
        )

    def passes(self, run: TrainingRun) -> float:
        return 0

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        agree = same_label(runs, queries)
        return over_runs(runs, lambda run: self._one(run, queries, agree))

    def _one(
        self, run: TrainingRun, queries: Queries, agree: Bool[Tensor, "query row"]
    ) -> Float[Tensor, "query row"]:
        asked, known = features(run, self.site, queries.input, run.recipe.rows.input)
        return knn_shapley(alike(asked, known, self.similarity), agree, self.k)


def knn_shapley(
    near: Float[Tensor, "query row"], agree: Bool[Tensor, "query row"], k: int
) -> Float[Tensor, "query row"]:
    """Shapley values of the vote of the k nearest, from how near each row is and whether its label
    agrees.
    """
    order = near.argsort(dim=-1, descending=True, stable=True)
    vote = agree.gather(-1, order).to(near.dtype)
    rank = torch.arange(1, near.shape[-1] + 1, dtype=near.dtype, device=near.device)
    share = rank.clamp(max=k) / (k * rank)
    after = torch.cat([vote[:, 1:], torch.zeros_like(vote[:, :1])], -1)  # behind the last is nobody
    scores = ((vote - after) * share).flip(-1).cumsum(-1).flip(-1)
    return torch.empty_like(scores).scatter_(-1, order, scores)


def alike(
    asked: Float[Tensor, "query d"], known: Float[Tensor, "row d"], similarity: Similarity
) -> Float[Tensor, "query row"]:
    """Pairwise similarities, larger = nearer."""
    if similarity == "dot":
        return asked @ known.T
    if similarity == "cosine":
        return _unit(asked) @ _unit(known).T
    # by differences: |a|^2 + |b|^2 - 2ab would lose the small distances, which decide who is near
    far = torch.cdist(asked, known, compute_mode="donot_use_mm_for_euclid_dist")
    return -far.square()


def _unit(x: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """Rows of length 1; those that are all 0 stay 0, alike to none."""
    length = x.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, x / torch.where(length > 0, length, 1), 0)


def features(
    run: TrainingRun, site: taps.Site | None, *inputs: Inputs
) -> list[Float[Tensor, "row d"]]:
    """The activations of each batch of inputs at a site of the final model, one vector a row."""
    return [_raw(x) if site is None else _read(run, site, x) for x in inputs]


def _raw(input: Inputs) -> Float[Tensor, "row d"]:
    every = tensors(input)
    codes = [x.dtype for x in every if not x.is_floating_point()]
    if codes:
        raise BadRequest(
            f"the raw input holds {codes[0]}, whose distances mean nothing for codes such as token "
            "numbers; name an activation: site=Site('path.of.a.layer'), or make the rows floating"
        )
    return _sound(torch.cat([x.flatten(1) for x in every], -1), None)


def _read(run: TrainingRun, site: taps.Site, input: Inputs) -> Float[Tensor, "row d"]:
    module, n = run.net.module, len(tensors(input)[0])
    parts = []
    for at in range(0, n, PASS):
        own = slice(at, min(at + PASS, n))
        call = taps.Call.of(pick(input, own))
        x = taps.read(module, call, [site], weights=run.final)[site]
        if not x.ndim or len(x) != own.stop - own.start:
            raise BadRequest(
                f"{site} has shape {tuple(x.shape)} for {own.stop - own.start} rows; neighbours "
                "need an activation whose axis 0 counts the rows: choose another layer"
            )
        parts.append(x.flatten(1))
    if len({x.shape[1] for x in parts}) > 1:
        raise BadRequest(
            f"{site} has activations of several lengths; choose a layer behind the pooling"
        )
    return _sound(torch.cat(parts), site)


def _sound(x: Tensor, site: taps.Site | None) -> Float[Tensor, "row d"]:
    """As numbers wide enough to be compared, finite."""
    if not bool(torch.isfinite(x).all()):
        raise BadRequest(
            f"{_place(site)} is NaN or infinite for some rows; choose another layer, or repair the "
            "rows"
        )
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_label(runs: Sequence[TrainingRun], queries: Queries) -> Bool[Tensor, "query row"]:
    """Whether each row has the label of each query."""
    if queries.label is None:
        raise BadRequest(
            "neighbours are compared by label and the queries have none: Queries(input, label)"
        )
    if not runs:
        raise BadRequest("there is no training run; give at least one: training.train(recipe)")
    known = runs[0].recipe.rows.label
    if known.ndim != 1 or queries.label.ndim != 1 or known.is_floating_point():
        raise BadRequest(
            f"neighbours vote by class, one whole number a row; the labels are "
            f"{tuple(known.shape)} of {known.dtype}. Use Neighbours(signed=False)"
        )
    return queries.label[:, None] == known


def _place(site: taps.Site | None) -> str:
    return "the raw input" if site is None else str(site)


def _check_similarity(name: str, similarity: str) -> None:
    if similarity not in ("cosine", "l2", "dot"):
        raise BadRequest(
            f"{name}(similarity={similarity!r}); write similarity='cosine', 'l2' or 'dot'"
        )
