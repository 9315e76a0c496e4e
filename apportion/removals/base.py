"""ABSENCE: what stands in for an element whose player is not there."""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..taps import Call
from ..types import BadRequest, positive, told
from ..views import View
from .references import Step

ENDLESS = 2**31  # size of a reference that makes a new input for every draw


@runtime_checkable
class Reference(Protocol):
    """What stands in for an absent element. It runs nothing: it names a constant or another model
    input.
    """

    @property
    def draws(self) -> int | None:
        """1 = fixed, k = a finite pool, None = unlimited."""

    @property
    def size(self) -> int:
        """How many different inputs there are; draw d means input d modulo this. With one draw and
        several inputs the removal gets all of them, one after the other where rows are.
        """

    @property
    def pooled(self) -> bool:
        """True: the activations of the pool are averaged into one; False: one of them per draw."""

    @property
    def absence(self) -> bool:
        """False where v(no player) means nothing, as for a unit step."""

    def constant(self, x: Tensor) -> Tensor | None:
        """The stand-in at any site, if it can be told from the tensor there."""

    def inputs(self, call: Call, index: int) -> Call | None:
        """The model input whose activations stand in, number `index` of the pool."""


@runtime_checkable
class Removal(Protocol):
    """How present and absent combine at one site. Pure: no model, no site, and `seed` instead of
    randomness.
    """

    @property
    def domain(self) -> Literal["binary", "unit"]: ...

    @property
    def reference(self) -> Reference: ...

    @property
    def draws(self) -> int | None: ...

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        """Tensors are (row, instance, *support) or broadcastable to it; `seed` has one integer per
        row.
        """


@dataclass(frozen=True)
class Blend:
    """Present elements stay, absent ones become the reference, fractional gates mix: g*x + (1 -
    g)*reference.
    """

    reference: Reference

    def __post_init__(self) -> None:
        given: object = self.reference
        if isinstance(given, type) or not isinstance(given, Reference):
            raise BadRequest(f"Blend({told(given)}) needs a reference; {_reference_for(given)}")

    @property
    def domain(self) -> Literal["binary", "unit"]:
        return "unit"

    @property
    def draws(self) -> int | None:
        return 1 if self.reference.pooled else self.reference.draws

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        if keep.dtype == torch.bool:
            return torch.where(keep, x, absent.to(x.dtype))
        wide = torch.promote_types(x.dtype, torch.float32)
        return _mixed(absent.to(wide), x.to(wide), keep).to(x.dtype)


@dataclass(frozen=True)
class Jitter:
    """A removal with Gaussian noise of standard deviation `sigma` added after it, one noise per
    draw.

    SmoothGrad is the averaged gradient over these draws; `sigma` is in units of the tensor at the
    site.
    """

    removal: Removal
    sigma: float

    def __post_init__(self) -> None:
        given: object = self.removal
        if isinstance(given, type) or not isinstance(given, Removal):
            raise BadRequest(
                f"Jitter({told(given)}, ...) needs a removal; write Jitter(Blend(zeros()), sigma)"
            )
        meaning, call = "sigma is a standard deviation", "Jitter(Blend(zeros()), 0.1)"
        positive(self.sigma, "Jitter", meaning, call)

    @property
    def domain(self) -> Literal["binary", "unit"]:
        return self.removal.domain

    @property
    def reference(self) -> Reference:
        return self.removal.reference

    @property
    def draws(self) -> int | None:
        return None

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        removed = self.removal(x, keep, absent, seed)
        noise = [_noise(removed[0, :1], int(s)) for s in seed.tolist()]  # instances share it
        return removed + self.sigma * torch.stack(noise).to(removed)


@dataclass(frozen=True)
class Within:
    """A removal in other coordinates: x + synthesis(R(X, A) - X), where X are the coefficients of
    what is there, A those of what stands in, and R the inner removal.

    With everybody present the tensor is unchanged to the last bit; what no player owns, or the view
    cannot express, stays. A game makes this of its removal for players that own coefficients.
    """

    view: View
    removal: Removal

    @property
    def domain(self) -> Literal["binary", "unit"]:
        return self.removal.domain

    @property
    def reference(self) -> Reference:
        return self.removal.reference

    @property
    def draws(self) -> int | None:
        return self.removal.draws

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        here, there = self.view.analysis(wide), self.view.analysis(absent.to(wide))
        moved = self.removal(here, keep, there, seed) - here
        return (wide + self.view.synthesis(moved, wide)).to(x.dtype)


def within(view: View | None, removal: Removal) -> Removal:
    """A removal in the coordinates of a view (None: as they are); noise stays on the tensor."""
    if view is None:
        return removal
    if isinstance(removal, Jitter):
        return Jitter(within(view, removal.removal), removal.sigma)
    return Within(view, removal)


def blends(removal: Removal) -> bool:
    """Whether everybody present means the tensor as it is."""
    return isinstance(removal.removal if isinstance(removal, Within) else removal, Blend)


@dataclass(frozen=True)
class Around:
    """Not an absence: a box around the input. Gate 1/2 is the input, 0 and 1 are half a `width`
    below and above it in every coordinate: x + (g - 1/2) * width.

    Derivatives by the gates are `width` times those by the input, as under step(width), but both
    sides can be reached. v(no player) is undefined under it, and v(all players) is not the input.
    """

    width: float

    def __post_init__(self) -> None:
        meaning = "the width of the box in the units of the input"
        positive(self.width, "Around", meaning, "Around(0.1)")

    @property
    def domain(self) -> Literal["binary", "unit"]:
        return "unit"

    @property
    def reference(self) -> Reference:
        return Step(self.width / 2)

    @property
    def draws(self) -> int | None:
        return 1

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        side = keep.to(torch.promote_types(keep.dtype, wide)) - 0.5
        return (x.to(wide) + side * self.width).to(x.dtype)


def _mixed(absent: Tensor, x: Tensor, keep: Tensor) -> Tensor:
    """(1 - keep) * absent + keep * x, exact at both ends; as one operation where there is one."""
    if keep.dtype == x.dtype == absent.dtype:
        return torch.lerp(absent, x, keep)
    return keep * x + (1 - keep) * absent


def _reference_for(given: object) -> str:
    """The call that was probably meant."""
    if isinstance(given, Tensor):
        return "write Blend(counterfactual(x)) for another input, Blend(mean(rows)) for several"
    if isinstance(given, int | float) and not isinstance(given, bool):
        return f"write Blend(constant({given}))"
    if isinstance(given, FunctionType):
        dots = "" if given.__name__ == "zeros" else "..."
        return f"call the function: Blend({given.__name__}({dots}))"
    return "write Blend(zeros()), or see ap.removals.TABLE"


def _noise(like: Tensor, seed: int) -> Tensor:
    """The noise of one draw: drawn on the CPU, so that every device sees the same."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)
