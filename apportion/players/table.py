"""Players that are the columns of a table row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..taps import Part, Site
from ..types import BadRequest
from .base import Geometry, Players, unique


def columns(
    x: Tensor,
    names: Sequence[str] | None = None,
    *,
    values: Sequence[float] | None = None,
    part: Part = None,
) -> Players:
    """One player per column of a row. `x` is the prepared input (batch, column); `values` are
    shown instead of x's own.
    """
    if x.ndim != 2:
        raise BadRequest(
            f"a table row needs axes (batch, column); got {tuple(x.shape)}. Add the batch axis "
            "with x[None]."
        )
    width = int(x.shape[1])
    if names is not None and len(names) != width:
        raise BadRequest(f"{len(names)} names for {width} columns")
    if values is not None and len(values) != width:
        raise BadRequest(f"{len(values)} values for {width} columns")
    called = unique(list(names) if names is not None else [f"column {i}" for i in range(width)])
    shown = tuple(f"{v:.4g}" for v in (x[0].tolist() if values is None else values))
    site = Site("", "in", part)
    return Players(
        called,
        ("column",) * width,
        {site: torch.arange(width)},
        {"column": Geometry("table", site, None, None, shown)},
    )
