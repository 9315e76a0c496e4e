"""A detector's answer about one box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest, number, told
from .base import check_class, one_target, wide

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class BoxScore:
    """How surely a detector finds one class at one box:

        v = max_i IoU(box, b_i) s_i(target)              over all proposals i
        v = max_i 1[IoU(box, b_i) > above] s_i(target)   with `above`

    As D-RISE [petsiuk2021] and visual precision search [chen2025] score it; 0 where no proposal
    overlaps. Give raw proposals, before non-maximum suppression, which would drop those that
    overlap. Reads (boxes (batch, n, 4), scores (batch, n, class)), or torchvision's list of
    mappings with boxes, labels and scores, one per image.
    """

    box: Box  # left, top, right, bottom, in the units of the proposals
    target: int
    image: tuple[float, float]  # height and width in the same units; (1, 1) if they are relative
    above: float | None = None  # only proposals that overlap more count, with their whole score

    unit: ClassVar[str] = "score"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = None
    cites: ClassVar[tuple[str, ...]] = ("petsiuk2021", "chen2025")

    def __post_init__(self) -> None:
        right_call = "BoxScore((10, 20, 50, 80), 1, image=(240, 320))"
        object.__setattr__(self, "target", one_target(self.target, "BoxScore", right_call))
        box, (height, width) = _numbers(self.box, 4), _numbers(self.image, 2) or (0.0, 0.0)
        if not box:
            raise BadRequest(
                f"BoxScore(box={told(self.box)}): a box is left, top, right, bottom, four finite "
                f"numbers; write {right_call}"
            )
        if height <= 0 or width <= 0:
            raise BadRequest(
                f"BoxScore(image={told(self.image)}): image is height and width, two positive "
                "finite numbers in the units of the box; write "
                "image=(240, 320), or (1, 1) if relative"
            )
        left, top, right, bottom = box
        if left >= right or top >= bottom:
            raise BadRequest(
                f"BoxScore(box={box}): the box is empty or inverted; write left, top, right, "
                "bottom, with left < right and top < bottom (not width and height)"
            )
        if left < 0 or top < 0 or right > width or bottom > height:
            raise BadRequest(
                f"BoxScore(box={box}): the box lies outside the image of height {height:g} and "
                f"width {width:g}; clip it, or give image=(height, width) in the units of the box"
            )
        if self.above is not None and not 0 <= number(self.above) < 1:
            raise BadRequest(
                f"BoxScore(above={told(self.above)}): an overlap (IoU) lies between 0 and "
                "1; write above=0.5"
            )
        object.__setattr__(self, "box", box)

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        return torch.stack([self._best(*pair) for pair in _proposals(output, self)])

    def _best(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """The best proposal of one image; 0 if there are none, still tied to the model."""
        if not len(boxes):
            return boxes.sum() * 0 + scores.sum() * 0
        overlap = iou(torch.tensor(self.box).to(boxes), boxes)
        if self.above is not None:
            overlap = (overlap > self.above).to(scores)
        return (overlap * scores).max()


def _numbers(given: object, count: int) -> tuple[float, ...]:
    """So many finite numbers, or nothing."""
    if isinstance(given, Tensor | np.ndarray):
        given = given.tolist()
    if not isinstance(given, Sequence) or len(given) != count:
        return ()
    got = tuple(number(x) for x in given)
    return got if all(math.isfinite(x) for x in got) else ()


def iou(box: Tensor, boxes: Tensor) -> Tensor:
    """Area shared with each box, as a part of the area of both."""
    corner = torch.maximum(box[:2], boxes[:, :2])
    size = (torch.minimum(box[2:], boxes[:, 2:]) - corner).clamp(min=0)
    shared = size.prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    return shared / (areas + (box[2:] - box[:2]).prod() - shared)


def _proposals(output: Any, value: BoxScore) -> list[tuple[Tensor, Tensor]]:
    """Boxes (n, 4) and scores of the target (n,) of every image."""
    pair = isinstance(output, tuple) and len(output) == 2
    if pair and all(isinstance(x, Tensor) for x in output):
        boxes, scores = output
        if boxes.ndim == 3 and scores.ndim == 3 and boxes.shape == (*scores.shape[:2], 4):
            check_class(value.target, int(scores.shape[2]), value)
            return list(zip(wide(boxes), wide(scores[..., value.target]), strict=True))
    images = isinstance(output, Sequence) and not isinstance(output, Tensor)
    if images and output and all(isinstance(image, Mapping) for image in output):
        return [_labelled(image, value) for image in output]
    raise BadRequest(
        f"{value} reads (boxes (batch, n, 4), scores (batch, n, class)), or one mapping with "
        f"'boxes', 'labels' and 'scores' per image; the model returns {_shown(output)}. Wrap it in "
        "a module that returns its raw proposals that way."
    )


def _labelled(image: Mapping[str, Tensor], value: BoxScore) -> tuple[Tensor, Tensor]:
    """One image in the form of torchvision: a label and a score for every box."""
    missing = {"boxes", "labels", "scores"} - image.keys()
    if missing:
        raise BadRequest(
            f"{value}: an image of the output lacks {sorted(missing)}; it holds {list(image)}"
        )
    own = image["labels"] == value.target
    return wide(image["boxes"][own]), wide(image["scores"][own])


def _shown(output: Any) -> str:
    if isinstance(output, tuple | list):
        return (
            f"a {type(output).__name__} of {', '.join(_shown(x) for x in output[:3]) or 'nothing'}"
        )
    return f"{tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
