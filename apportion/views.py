"""Other coordinates of a tensor, in which players may own coefficients: Fourier, wavelets, a basis.

A game edits in them as x + synthesis(edited coefficients - coefficients), so that whatever no
player owns, and whatever the coordinates cannot express, stays as it is to the last bit. That asks
of a view only that its synthesis is linear.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .types import BadRequest


@runtime_checkable
class View(Protocol):
    """A change of coordinates. Tensors are (..., *support); axes count from the end, as there may
    be any number of leading ones.
    """

    @property
    def name(self) -> str:
        """What a reader calls the coefficients: "spectrum"."""

    def analysis(self, x: Tensor) -> Tensor:
        """The coefficients of a tensor in float32 or wider; they may be complex."""

    def synthesis(self, coefficients: Tensor, x: Tensor) -> Tensor:
        """The tensor like `x` that has these coefficients; linear in them."""


@dataclass(frozen=True)
class Fourier:
    """The discrete Fourier transform of a real signal along one axis, bins 0 to n // 2: the
    mirrored bin n - k holds the conjugate of bin k and goes with it.
    """

    axis: int = -1

    @property
    def name(self) -> str:
        return "spectrum"

    def analysis(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x, dim=self.axis)

    def synthesis(self, coefficients: Tensor, x: Tensor) -> Tensor:
        return torch.fft.irfft(coefficients, n=x.shape[self.axis], dim=self.axis)


@dataclass(frozen=True)
class Wavelets:
    """An orthonormal wavelet transform, periodic at the borders, over one axis or two.

    Coefficients lie as Mallat's: the approximation first (top left), the details of level L to 1
    after it, each level twice as long.
    """

    wavelet: str = "haar"
    levels: int = 3
    axes: tuple[int, ...] = (-1,)

    @property
    def name(self) -> str:
        return "wavelet transform"

    def analysis(self, x: Tensor) -> Tensor:
        admit_levels([x.shape[axis] for axis in self.axes], self.levels)
        return self._down(x, self.levels)

    def synthesis(self, coefficients: Tensor, x: Tensor) -> Tensor:
        return self._up(coefficients, self.levels)

    def _down(self, x: Tensor, levels: int) -> Tensor:
        for axis in self.axes:
            x = _split(x.movedim(axis, -1), self.wavelet).movedim(-1, axis)
        if levels > 1:
            block, x = _corner(x, self.axes), x.clone()
            x[block] = self._down(x[block], levels - 1)
        return x

    def _up(self, x: Tensor, levels: int) -> Tensor:
        if levels > 1:
            block, x = _corner(x, self.axes), x.clone()
            x[block] = self._up(x[block], levels - 1)
        for axis in reversed(self.axes):
            x = _joined(x.movedim(axis, -1), self.wavelet).movedim(-1, axis)
        return x


@dataclass(frozen=True, eq=False)
class Basis:
    """Coordinates in a basis of the last axis: x = coefficients @ atoms, one atom per row.

    `atoms` may be fewer than the axis is long (principal components, independent ones): what they
    cannot express stays as it is. Coefficients are those of least squares.
    """

    atoms: Tensor  # (coefficient, last axis), of full row rank

    def __post_init__(self) -> None:
        given = self.atoms
        fine = given.ndim == 2 and given.is_floating_point() and bool(torch.isfinite(given).all())
        if not fine or int(torch.linalg.matrix_rank(given.double())) < len(given):
            raise BadRequest(
                "Basis(atoms) needs a finite float tensor (coefficient, last axis) whose rows are "
                f"linearly independent; got {given.dtype} {tuple(given.shape)}"
            )

    @property
    def name(self) -> str:
        return "components"

    def analysis(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.atoms.shape[1]:
            raise BadRequest(
                f"the atoms of the basis have {self.atoms.shape[1]} entries, the last axis "
                f"{x.shape[-1]}; build the basis for the tensor it is used on"
            )
        dual = torch.linalg.pinv(self.atoms.double())
        return x @ dual.to(x)

    def synthesis(self, coefficients: Tensor, x: Tensor) -> Tensor:
        return coefficients @ self.atoms.to(coefficients)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Basis) and torch.equal(self.atoms, other.atoms)

    def __hash__(self) -> int:
        return hash(tuple(self.atoms.shape))


TABLE = {"fourier": Fourier, "wavelets": Wavelets, "basis": Basis}


def facts(view: View) -> tuple[dict[str, Any], Tensor | None]:
    """A view as plain facts, and its numbers where it has any."""
    for name, cls in TABLE.items():
        if type(view) is cls:
            if isinstance(view, Basis):
                return {"view": name}, view.atoms
            return {"view": name, **asdict(view)}, None  # type: ignore[call-overload]
    raise BadRequest(
        f"a view of class {type(view).__name__} cannot be saved, as reading a file may run nothing "
        "of its own; save players without it: replace(players, views={}), or use Basis(atoms)"
    )


def rebuilt(told: dict[str, Any], numbers: Tensor | None) -> View:
    """The inverse of `facts`."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k != "view"}
    if told["view"] not in TABLE:
        raise BadRequest(f"the saved players own coefficients of {told['view']!r}, not known here")
    cls: Any = TABLE[told["view"]]
    return cls(numbers) if numbers is not None else cls(**options)


def admit_levels(sizes: list[int], levels: int) -> None:
    """Each level halves every axis."""
    most = min((n & -n).bit_length() - 1 for n in sizes)
    if not 1 <= levels <= most:
        told = "x".join(map(str, sizes))
        advice = (
            f"at most {most} fit" if most else "none fits; crop or pad the input to an even size"
        )
        raise BadRequest(
            f"{levels} levels of wavelets do not fit {told}: every level halves each axis; {advice}"
        )


def _corner(x: Tensor, axes: tuple[int, ...]) -> tuple[Any, ...]:
    """The half of every axis that holds the approximation."""
    index: list[Any] = [slice(None)] * x.ndim
    for axis in axes:
        index[axis] = slice(x.shape[axis] // 2)
    return tuple(index)


def _split(x: Tensor, wavelet: str) -> Tensor:
    """One level along the last axis: a_k = sum_m h_m x_(2k + F/2 - m), d_k the same with g."""
    low, high = (h.to(x) for h in filters(wavelet))
    windows = x[..., _windows(x.shape[-1], len(low)).to(x.device)]
    return torch.cat([windows @ low, windows @ high], -1)


def _joined(c: Tensor, wavelet: str) -> Tensor:
    """The transpose of `_split`, which is its inverse."""
    low, high = (h.to(c) for h in filters(wavelet))
    a, d = c.chunk(2, -1)
    spread = a[..., None] * low + d[..., None] * high
    index = _windows(c.shape[-1], len(low)).to(c.device)
    return torch.zeros_like(c).index_add(-1, index.flatten(), spread.flatten(-2))


def _windows(n: int, width: int) -> Tensor:
    start = 2 * torch.arange(n // 2)[:, None] + width // 2
    return (start - torch.arange(width)) % n


ORTHONORMAL = 1e-6  # how far a filter may be from it


@cache
def filters(wavelet: str) -> tuple[Tensor, Tensor]:
    """Low- and high-pass filter of an orthonormal wavelet."""
    try:
        import pywt
    except ImportError as missing:
        raise BadRequest("wavelets need PyWavelets: pip install 'apportion[signal]'") from missing
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known or not pywt.Wavelet(wavelet).orthogonal:
        good = ", ".join(w for w in ("haar", "db2", "db4", "sym4", "coif1"))
        raise BadRequest(
            f"{wavelet!r} is no orthonormal wavelet of PyWavelets; use one of {good} or another of "
            "pywt.wavelist() whose Wavelet(...).orthogonal holds"
        )
    bank = pywt.Wavelet(wavelet)
    wide = torch.float64
    low, high = torch.tensor(bank.dec_lo, dtype=wide), torch.tensor(bank.dec_hi, dtype=wide)
    shifted = torch.stack([(low[k:] * low[: len(low) - k]).sum() for k in range(0, len(low), 2)])
    off = float((shifted - torch.eye(len(shifted), dtype=wide)[0]).abs().max())
    if off > ORTHONORMAL:  # dmey calls itself orthogonal and is so to three digits
        raise BadRequest(
            f"{wavelet!r} is orthonormal only up to {off:.1g}, so credit would be lost; use "
            "'db4' or 'sym8'"
        )
    return low, high
