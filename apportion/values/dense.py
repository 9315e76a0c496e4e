"""A map of class scores read over a region: segmentation, in any number of dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest
from .base import Target, Value, check_class, output_tensor, target_of, wide
from .embedding import incomplete


@dataclass(frozen=True, eq=False)
class DenseSum:
    """Score of a class summed over a region of a dense output (batch, class, *positions):

        v = sum_{u in mask} f(x)[target, u]

    `mask` None = where the clean run predicts the class, per instance, fixed for all coalitions
    [chrabaszcz2024]. Pictures and volumes alike. `how` "mean" divides by the size of the region.
    Linear in the scores. Also reads outputs that name their map "out" (torchvision) or "logits".
    """

    target: Target
    mask: Any = None  # bool, (*positions); None = the region predicted as the target
    how: str = "sum"  # or "mean"

    unit: ClassVar[str] = "logits"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = None
    cites: ClassVar[tuple[str, ...]] = ("chrabaszcz2024",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target, "DenseSum"))
        if self.how not in ("sum", "mean"):
            raise BadRequest(f"DenseSum(how={self.how!r}): how is 'sum' or 'mean'")
        if self.mask is None:
            return
        mask = _bools(self.mask)
        if mask.dtype != torch.bool:
            raise BadRequest(
                f"DenseSum(mask=...) is {mask.dtype}; a region is bool: labels == target"
            )
        if not bool(mask.any()):
            raise BadRequest("DenseSum(mask=...) is empty: there is no position to read")
        object.__setattr__(self, "mask", mask)

    def against(self, output: Any) -> Value:
        if self.mask is not None:
            return self
        scores = _map(output, self)
        regions = scores.argmax(1)
        targets = (self.target,) if isinstance(self.target, int) else self.target
        for t in targets:
            check_class(t, int(scores.shape[1]), self)
            for instance, region in enumerate(regions == t):
                if not bool(region.any()):
                    raise BadRequest(
                        f"{self}: no position of instance {instance} is predicted as class {t}; "
                        f"the classes found are {regions[instance].unique().tolist()[:8]}. Choose "
                        "one of them, or give mask="
                    )
        stacked = torch.stack([regions == t for t in targets], 1)
        return Regions(self, stacked)

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        if self.mask is None:
            raise incomplete(self, "mask=")
        scores = _map(output, self)
        count = 1 if isinstance(self.target, int) else len(self.target)
        return self.over(scores, self.mask.expand(1, count, *self.mask.shape))

    def over(self, scores: Tensor, regions: Tensor) -> Tensor:
        """Scores of the targets over their regions, (row or 1, target, *positions)."""
        if regions.shape[2:] != scores.shape[2:]:
            raise BadRequest(
                f"{self}: the mask has shape {tuple(regions.shape[2:])}, the map "
                f"{tuple(scores.shape[2:])} of output {tuple(scores.shape)}; give one bool per "
                "position"
            )
        one = isinstance(self.target, int)
        targets = [self.target] if isinstance(self.target, int) else list(self.target)
        for t in targets:
            check_class(t, int(scores.shape[1]), self)
        flat = scores[:, targets].flatten(2)
        inside = regions.flatten(2).to(flat)
        total = (flat * inside).sum(-1)
        if self.how == "mean":
            total = total / inside.sum(-1)
        return total[:, 0] if one else total

    def __repr__(self) -> str:
        where = "predicted" if self.mask is None else f"{int(self.mask.sum())} positions"
        how = "" if self.how == "sum" else f", how={self.how!r}"
        return f"DenseSum({self.target}, mask=<{where}>{how})"


@dataclass(frozen=True, eq=False)
class Regions:
    """A DenseSum over the regions that the clean run predicts."""

    value: DenseSum
    regions: Tensor  # (instance, target, *positions)
    unit: ClassVar[str] = "logits"
    linear: ClassVar[bool] = True
    last: ClassVar[int | None] = None

    def __call__(self, output: Any) -> Float[Tensor, "batch *out"]:
        scores = _map(output, self.value)
        times = len(scores) // len(self.regions)
        return self.value.over(scores, self.regions.repeat(times, *(1,) * (self.regions.ndim - 1)))

    def __repr__(self) -> str:
        return repr(self.value)


def _bools(given: Any) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (RuntimeError, TypeError, ValueError) as failure:
        raise BadRequest(
            f"DenseSum(mask={type(given).__name__}): a region is a bool tensor (*positions), "
            f"labels == target ({failure})"
        ) from failure


def _map(output: Any, value: object) -> Float[Tensor, "batch class *positions"]:
    if isinstance(output, Mapping) and isinstance(output.get("out"), Tensor):
        output = output["out"]
    scores = output_tensor(output, value)
    if scores.ndim < 3:
        raise BadRequest(
            f"{value} reads a map (batch, class, *positions); the output is "
            f"{tuple(scores.shape)}. For one row of scores use Logit"
        )
    return wide(scores)
