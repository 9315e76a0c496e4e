"""Points that fill the unit cube: low-discrepancy sequences with random starts, Latin hypercubes,
plain random numbers.
"""

from __future__ import annotations

import math
from enum import Enum

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.quasirandom import SobolEngine

from ..types import BadRequest

SEEDS = 2**31 - 1


class Points(Enum):
    """How the points of a design fill the unit cube."""

    SOBOL = "sobol"  # a Sobol sequence, scrambled; as many points as a power of two
    HALTON = "halton"  # a Halton sequence with digits permuted at random
    LATIN = "latin"  # a Latin hypercube: every axis evenly filled, the axes in random order
    RANDOM = "random"  # independent uniform numbers

    def __repr__(self) -> str:  # as it is written in code
        return f"Points.{self.name}"


def admit_points(points: Points, samples: int, owner: str) -> None:
    """Whether there can be that many of them."""
    if samples < 2:
        raise BadRequest(f"{owner}(samples={samples}): at least 2; write samples=64")
    if points is Points.SOBOL and samples & (samples - 1):
        near = 2 ** round(math.log2(samples))
        raise BadRequest(
            f"{owner}(samples={samples}): a Sobol sequence is balanced only at powers of two; "
            f"write samples={near}, or points=ap.Points.LATIN"
        )


def unit_points(points: Points, rows: int, axes: int, rng: Generator) -> Float[Tensor, "row axis"]:
    """Points in [0, 1]^axes, each uniform."""
    if points is Points.SOBOL:
        if axes > SobolEngine.MAXDIM:
            raise BadRequest(
                f"Sobol sequences have at most {SobolEngine.MAXDIM:,} axes, {axes:,} are needed; "
                "coarsen the players with players.merge(...), or use points=ap.Points.LATIN"
            )
        start = int(torch.randint(SEEDS, (), generator=rng))
        return SobolEngine(axes, scramble=True, seed=start).draw(rows, dtype=torch.float64)
    if points is Points.HALTON:
        return torch.stack([_halton(rows, base, rng) for base in _primes(axes)], 1)
    place = torch.rand(rows, axes, generator=rng, dtype=torch.float64)
    if points is Points.RANDOM:
        return place
    order = torch.rand(rows, axes, generator=rng).argsort(0)
    return (order + place) / rows


def _halton(rows: int, base: int, rng: Generator) -> Tensor:
    """Digits of 0, 1, 2, ... in this base, mirrored at the point, each place permuted."""
    number, out = torch.arange(rows), torch.zeros(rows, dtype=torch.float64)
    for place in range(1, math.ceil(53 / math.log2(base)) + 1):
        digits = torch.randperm(base, generator=rng)[number % base]
        out += digits * float(base) ** -place
        number = number // base
    return out


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found if p * p <= candidate):
            found.append(candidate)
        candidate += 1
    return found
