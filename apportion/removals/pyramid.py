"""Absence by degrees: the gate chooses how much the picture is blurred."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..taps import Call
from ..types import BadRequest, positive
from .base import Reference
from .references import gaussian_blur


@dataclass(frozen=True)
class Levels:
    """The input at every level of blur but the last, which is the input itself; coarsest first."""

    sigma: float
    size: int
    draws: int | None = 1  # one state of several inputs: all of them are handed over
    pooled: bool = False
    absence: bool = True

    def constant(self, x: Tensor) -> Tensor | None:
        return None

    def inputs(self, call: Call, index: int) -> Call | None:
        name = call.first()
        sigma = self.sigma * (1 - index / self.size)
        return call.replacing(name, gaussian_blur(call.tensors()[name], sigma))


@dataclass(frozen=True)
class Pyramid:
    """The gate is a level of blur: 1 leaves the picture as it is, 0 blurs it by `sigma` pixels.

        x(g) = (1 - f) x_l + f x_(l+1),   l + f = g (levels - 1),   sigma_l = sigma (1 - l / (levels
        - 1))

    Linear between neighbouring levels, so differentiable by the gate. `PathIntegral` over it is
    Blur IG [xu2020] along this polygon, and adds up to v(sharp) - v(blurred); the masks of extremal
    perturbations [fong2019] act through it. At a site inside the model the levels are the
    activations that blurred pictures cause. `levels - 1` forward passes once per game (none for
    players of the input), nothing per coalition. Borders repeat the border pixel.
    """

    sigma: float  # of the coarsest level, in pixels
    levels: int = 8  # with the input itself; 2 is Blend(blur(sigma))
    reference: Reference = field(init=False, repr=False)

    domain: ClassVar[Literal["binary", "unit"]] = "unit"
    draws: ClassVar[int | None] = 1
    cites: ClassVar[tuple[str, ...]] = ("xu2020", "fong2019")

    def __post_init__(self) -> None:
        meaning = "sigma is in pixels, a tenth of the side is usual"
        sigma = positive(self.sigma, "Pyramid", meaning, "Pyramid(10.0)")
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels < 2:
            raise BadRequest(
                f"Pyramid(levels={self.levels!r}): a pyramid has at least 2 levels, the blurred "
                "picture and the sharp one; write levels=8"
            )
        object.__setattr__(self, "reference", Levels(sigma, self.levels - 1))

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        if keep.dtype == torch.bool:
            return torch.where(keep, x, absent[:1].to(x.dtype))
        wide = torch.promote_types(x.dtype, torch.float32)
        coarse = absent.to(wide)
        height = keep * len(coarse)
        level = height.detach().floor().clamp(max=len(coarse) - 1).long()
        part = height - level
        level = level.expand(x.shape)
        below = coarse.gather(0, level)
        above = coarse.gather(0, (level + 1).clamp(max=len(coarse) - 1))
        above = torch.where(level == len(coarse) - 1, x.to(wide), above)
        return ((1 - part) * below + part * above).to(x.dtype)
