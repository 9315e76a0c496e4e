"""Training rows as players, one by one or in groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..taps import Site
from ..types import BadRequest
from .base import Geometry, Players

ROW = Site("", "row")  # the loss weight of every training row


def training_rows(
    rows: int,
    *,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | Tensor | None = None,
) -> Players:
    """Every training row is a player, or every group of them: `groups` names or numbers the group
    of each row (its class, its source, its author).

    rows     how many there are
    names    of the players, in order; of groups in order of first appearance
    """
    if rows < 1:
        raise BadRequest("training_rows(0): a training set has at least one row")
    if groups is None:
        owner, kind = torch.arange(rows), "training row"
        called = list(names) if names is not None else [f"row {i}" for i in range(rows)]
    else:
        told = groups.tolist() if isinstance(groups, Tensor) else list(groups)
        if len(told) != rows:
            raise BadRequest(
                f"training_rows(groups=...) names the group of {len(told)} rows; there are {rows}"
            )
        number = {g: i for i, g in enumerate(dict.fromkeys(told))}
        owner, kind = torch.tensor([number[g] for g in told]), "training group"
        called = list(names) if names is not None else [f"group {g}" for g in number]
    expected = int(owner.max()) + 1
    if len(called) != expected:
        raise BadRequest(f"training_rows(names=...): {len(called)} names for {expected} players")
    return Players(tuple(called), (kind,) * len(called), {ROW: owner}, {kind: Geometry("parts")})
