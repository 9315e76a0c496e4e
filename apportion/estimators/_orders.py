"""Orders of arrival: independent of each other, or spread evenly over all there are."""

from __future__ import annotations

from enum import Enum

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.quasirandom import SobolEngine

from ..types import BadRequest
from ._points import Points, unit_points

REPLICATES = 8  # independent blocks of orders that an error is told from
STEP = 16  # longest block where a stopping rule wants to look after each


class Orders(Enum):
    """How orders of arrival are drawn. Each of them alone is equally likely to be any order."""

    INDEPENDENT = "independent"
    # blocks of orders that rank the entries of orthogonal directions: pairs of them agree no more
    # often than chance; with reversed orders the orthogonal codes of [mitchell2022]
    ORTHOGONAL = "orthogonal"
    SOBOL = "sobol"  # blocks of orders that rank the coordinates of scrambled Sobol points

    def __repr__(self) -> str:  # as it is written in code
        return f"Orders.{self.name}"


def admit_orders(kind: Orders, players: int, owner: str) -> None:
    """Whether so many players can be ordered that way."""
    if kind is Orders.SOBOL and players > SobolEngine.MAXDIM:
        raise BadRequest(
            f"{owner}(sampling=Orders.SOBOL): Sobol points have at most {SobolEngine.MAXDIM:,} "
            f"coordinates, there are {players:,} players; write sampling=ap.Orders.ORTHOGONAL, or "
            "coarsen the players with players.merge(...)"
        )


def block_length(kind: Orders, draws: int, players: int, often: bool) -> int:
    """How many draws depend on each other: as many as leave `REPLICATES` independent blocks, or
    fewer where a stopping rule looks `often`.
    """
    most = draws // REPLICATES if not often else min(draws // REPLICATES, STEP)
    if kind is Orders.INDEPENDENT or most < 2:
        return 1
    if kind is Orders.ORTHOGONAL:
        return min(most, max(players - 1, 1))
    return 2 ** (most.bit_length() - 1)  # Sobol points are balanced at powers of two


def arrivals(
    kind: Orders, blocks: int, length: int, players: int, *, paired: bool, rng: Generator
) -> Int[Tensor, "order player"]:
    """When each player arrives, 0 to n - 1, in `blocks` of `length` orders each; paired = every
    order is followed by its reverse.
    """
    if kind is Orders.ORTHOGONAL and length > 1:
        keys = _directions(blocks, length, players, rng).flatten(0, 1)
    elif kind is Orders.SOBOL and length > 1:
        each = [unit_points(Points.SOBOL, length, players, rng) for _ in range(blocks)]
        keys = torch.cat(each)
    else:
        keys = torch.rand(blocks * length, players, generator=rng)
    rank = keys.argsort(1).argsort(1)
    if not paired:
        return rank
    return torch.stack([rank, players - 1 - rank], 1).flatten(0, 1)


def _directions(
    blocks: int, length: int, players: int, rng: Generator
) -> Float[Tensor, "block length player"]:
    """Frames of orthogonal directions of zero sum, each frame equally likely in any position.

    A direction ranks its entries as independent normal numbers would, so every order is equally
    likely.
    """
    normal = torch.randn(blocks, players, length, generator=rng, dtype=torch.float64)
    q, r = torch.linalg.qr(normal - normal.mean(1, keepdim=True))
    signs = r.diagonal(dim1=-2, dim2=-1).sign()  # without them QR prefers some frames to others
    return (q * signs[:, None]).mT
