"""Players of a signal in time, frequency or scale; in scale also of a picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise

import torch
from torch import Tensor

from ..taps import Part, Site
from ..types import BadRequest, number, whole
from ..views import Fourier, Wavelets, admit_levels
from .base import PRESENT, Geometry, Players

ORIENTATIONS = {"10": "horizontal", "01": "vertical", "11": "diagonal"}


def time_steps(
    x: Tensor,
    size: int = 1,
    names: Sequence[str] | None = None,
    *,
    axis: int = -1,
    sampling_rate: float | None = None,
    part: Part = None,
) -> Players:
    """One player per `size` neighbouring steps along `axis` of a signal, all channels together.

    `axis` is that of time: -1 for (batch, channel, time), 1 for (batch, time, feature). The last
    window may be shorter. With a `sampling_rate` (steps per second) names are in seconds.
    """
    length, axis = _axis(x, axis, "time_steps")
    if not 1 <= whole(size, "size", "time_steps", 1) <= length:
        raise BadRequest(
            f"windows of {size} steps do not fit a signal of {length}; choose 1 to {length}"
        )
    owner = torch.arange(length) // size
    starts = range(0, length, size)
    if names is not None and len(names) != len(starts):
        raise BadRequest(f"{len(names)} names for {len(starts)} windows of {size} steps")
    ends = [min(start + size, length) for start in starts]
    if names is None and sampling_rate is None:
        names = [
            f"step {a}" if b == a + 1 else f"steps {a} to {b - 1}"
            for a, b in zip(starts, ends, strict=True)
        ]
    elif names is None:
        rate = _rate(sampling_rate)
        names = [f"{a / rate:.6g} to {b / rate:.6g} s" for a, b in zip(starts, ends, strict=True)]
    kind = "time step" if size == 1 else "window"
    site = Site("", "in", part)
    places = torch.arange(length).double() / (1 if sampling_rate is None else _rate(sampling_rate))
    trace = torch.stack([places, _line(x, axis)])
    label = "step" if sampling_rate is None else "seconds"
    geometry = Geometry("signal", site, (len(starts),), None, (label,), trace)
    return Players(
        tuple(names), (kind,) * len(names), {site: _along(owner, axis)}, {kind: geometry}
    )


def frequencies(
    x: Tensor,
    bands: int | Sequence[float] | None = None,
    sampling_rate: float | None = None,
    axis: int = -1,
    *,
    part: Part = None,
) -> Players:
    """One player per frequency of a real signal's Fourier transform along `axis`, all channels
    together; a mirrored bin goes with its own.

    `bands`: so many bands of neighbouring bins, or their edges in Hz (in bins without a
    `sampling_rate`, samples per second): [0.5, 4, 8] are 0.5 to 4 and 4 to 8, the last edge
    included, and bins outside are always present. `PathIntegral` on frequencies is cross-domain
    integrated gradients [kechris2025].
    """
    length, axis = _axis(x, axis, "frequencies")
    if x.is_complex() or not x.is_floating_point():
        raise BadRequest(
            f"frequencies(x): x holds {x.dtype}; the bins of a real signal are wanted. Give "
            "x.float(), or gate the tensor where a signal first is one with Players directly"
        )
    bins = length // 2 + 1
    if sampling_rate is None:
        hertz, unit = torch.arange(bins).double(), ""
    else:
        hertz, unit = torch.arange(bins) * (_rate(sampling_rate) / length), " Hz"
    if bands is None:
        owner, kind = torch.arange(bins), "frequency"
        names = tuple(f"{f:.6g}{unit}" if unit else f"bin {int(f)}" for f in hertz.tolist())
    else:
        owner, kind = _bands(hertz, bands, unit), "frequency band"
        names = _band_names(owner, hertz, bands, unit)
    site = Site("", "in", part)
    strength = torch.fft.rfft(x.detach().double(), dim=axis).abs().movedim(axis, -1)
    trace = torch.stack([hertz, strength[0].reshape(-1, bins).mean(0).cpu()])
    label = "Hz" if unit else "bin"
    geometry = Geometry("signal", site, (len(names),), None, (label,), trace)
    return Players(
        names,
        (kind,) * len(names),
        {site: _along(owner, axis)},
        {kind: geometry},
        {site: Fourier(axis)},
    )


class Grain(Enum):
    """How fine players of a wavelet transform are."""

    CELLS = "cells"  # a grid over the whole layout of coefficients, as WCAM
    LEVELS = "levels"  # the approximation, and each level's details
    ORIENTATIONS = "orientations"  # of pictures: each level's horizontal, vertical and diagonal
    # a grid inside each level, twice as fine at the next; orientations of a place go together
    PLACES = "places"
    COEFFICIENTS = "coefficients"  # every single one

    def __repr__(self) -> str:  # as it is written in code
        return f"Grain.{self.name}"


def wavelets(
    x: Tensor,
    grain: Grain = Grain.CELLS,
    *,
    wavelet: str = "haar",
    levels: int = 3,
    grid: int = 8,
    axes: Sequence[int] | None = None,
    approximation: bool = True,
    part: Part = None,
) -> Players:
    """Players own coefficients of an orthonormal wavelet transform, all channels together.

    `grain`: CELLS, `grid` x `grid` of them over Mallat's layout (of a signal: `grid` stretches);
    LEVELS, the approximation and each level's details; ORIENTATIONS, those of a picture apart;
    PLACES, a grid inside the coarsest level, twice as fine at the next, orientations together;
    COEFFICIENTS, every single one.

    `axes`: that of time, or the two of a picture (default: the last two of a 4-axis tensor, else
    the last). Without `approximation` the coarsest picture is always present, and only details
    play. Sobol indices on CELLS are the wavelet scale attribution of [kasmi2023], gradients
    on coefficients that of [kasmi2025]. Every level halves the axes, so sizes must be divisible by
    2^levels. Needs PyWavelets.
    """
    at = _axes(x, axes)
    _admit_grain(grain)
    sizes = [x.shape[a] for a in at]
    admit_levels(sizes, whole(levels, "levels", "wavelets", 3))
    whole(grid, "grid", "wavelets", 1)
    view = Wavelets(wavelet, levels, at)
    strength = view.analysis(x.detach().double()).abs()
    band, called = _layout(sizes, levels)
    first = called.index("approximation")
    if grain is Grain.LEVELS:
        owner, names = _by_level(band, called)
    elif grain is Grain.ORIENTATIONS and len(sizes) == 2:
        owner, names = band, called
    elif grain is Grain.PLACES:
        owner, names = _places(band, called, levels, grid)
    elif grain is Grain.ORIENTATIONS:
        raise BadRequest("a signal has no orientations; use Grain.LEVELS, or two axes=")
    else:
        owner, names = _cells(
            band, called, sizes if grain is Grain.COEFFICIENTS else [grid] * len(sizes)
        )
    if not approximation:
        owner, names = _without(owner, names, band == first)
    return _viewed(owner, names, view, strength, Site("", "in", part), grain)


def _admit_grain(grain: object) -> None:
    """A member, rather than its name."""
    if isinstance(grain, Grain):
        return
    near = next((g for g in Grain if g.value == grain), Grain.LEVELS)
    raise BadRequest(
        f"wavelets(grain={grain!r}): a grain is needed, this is a {type(grain).__name__}; write "
        f"ap.players.{near!r}, or another of {', '.join(g.name for g in Grain)}"
    )


def _viewed(
    owner: Tensor, names: list[str], view: Wavelets, strength: Tensor, site: Site, grain: Grain
) -> Players:
    """Players drawn over the picture of the coefficients, or along their line."""
    kind = "wavelet " + {"cells": "cell", "coefficients": "coefficient"}.get(grain.value, "band")
    full = bool((owner >= 0).all()) and grain in (Grain.CELLS, Grain.COEFFICIENTS)
    side = round(len(names) ** (1 / owner.ndim))
    if len(view.axes) == 2:
        grid = (side, side) if full and side**2 == len(names) else None
        shown = strength[0].movedim(view.axes, (-2, -1)).reshape(-1, *owner.shape).mean(0)
        loud = (shown / shown.amax().clamp(min=1e-12)) ** 0.5  # details are faint beside the rest
        picture = (255 * loud).round().to(torch.uint8).cpu()[:, :, None].repeat(1, 1, 3)
        geometry = Geometry("image", site, grid, picture)
    else:
        line = _line(strength, view.axes[0])
        trace = torch.stack([torch.arange(len(line)).double(), line])
        geometry = Geometry(
            "signal", site, (len(names),) if full else None, None, ("coefficient",), trace
        )
    placed = {site: _along(owner, *view.axes)}
    return Players(tuple(names), (kind,) * len(names), placed, {kind: geometry}, {site: view})


def _layout(sizes: list[int], levels: int) -> tuple[Tensor, list[str]]:
    """Which band every coefficient of Mallat's layout is in, and the names of the bands."""
    band, names = torch.zeros(sizes, dtype=torch.long), ["approximation"]
    for level in range(levels, 0, -1):
        halves = [n >> level for n in sizes]
        for key in ["1"] if len(sizes) == 1 else ORIENTATIONS:
            block = tuple(
                slice(h * int(high), h * (int(high) + 1))
                for h, high in zip(halves, key, strict=True)
            )
            band[block] = len(names)
            names.append(f"{ORIENTATIONS.get(key, 'details')} {level}")
    return band, names


def _by_level(band: Tensor, names: list[str]) -> tuple[Tensor, list[str]]:
    levels = [name.split()[-1] for name in names]
    each = list(dict.fromkeys(levels))
    owner = torch.tensor([each.index(level) for level in levels])[band]
    return owner, [e if e == "approximation" else f"level {e}" for e in each]


def _cells(band: Tensor, names: list[str], grid: list[int]) -> tuple[Tensor, list[str]]:
    """A grid over the layout; each cell is named after the band it lies in."""
    if any(not 1 <= g <= n for g, n in zip(grid, band.shape, strict=True)):
        raise BadRequest(
            f"a grid of {grid[0]} does not fit {'x'.join(map(str, band.shape))} coefficients; "
            f"choose grid=1 to {min(band.shape)}"
        )
    lines = [torch.arange(n) * g // n for n, g in zip(band.shape, grid, strict=True)]
    owner, places = _dealt(lines, grid), _numbered(grid)
    count = len(places)
    low = torch.full((count,), len(names)).scatter_reduce(
        0, owner.flatten(), band.flatten(), "amin"
    )
    high = torch.full((count,), -1).scatter_reduce(0, owner.flatten(), band.flatten(), "amax")
    held = [names[a] if a == b else "several bands" for a, b in zip(low, high, strict=True)]
    return owner, [f"{name}, {place}" for name, place in zip(held, places, strict=True)]


def _places(band: Tensor, bands: list[str], levels: int, grid: int) -> tuple[Tensor, list[str]]:
    """A grid inside the approximation and inside every level, the same for its orientations."""
    least = min(band.shape) >> levels
    if not 1 <= grid <= least:
        raise BadRequest(
            f"a grid of {grid} does not fit the {least} places of level {levels}; choose grid=1 to "
            f"{least}, or fewer levels"
        )
    which, labels = _by_level(band, bands)
    owner = torch.zeros_like(band)
    names: list[str] = []
    for k, label in enumerate(labels):
        finer = max(k - 1, 0)  # the approximation is as coarse as the coarsest details
        sizes = [n >> (levels - finer) for n in band.shape]
        counts = [min(grid << finer, size) for size in sizes]
        lines = [
            torch.arange(n) % size * count // size
            for n, size, count in zip(band.shape, sizes, counts, strict=True)
        ]
        owner = torch.where(which == k, len(names) + _dealt(lines, counts), owner)
        names += [f"{label}, {place}" for place in _numbered(counts)]
    return owner, names


def _dealt(lines: list[Tensor], counts: list[int]) -> Tensor:
    """Cells of a grid in row-major order, from those along each axis."""
    return lines[0] if len(lines) == 1 else lines[0][:, None] * counts[1] + lines[1]


def _numbered(counts: list[int]) -> list[str]:
    if len(counts) == 1:
        return [f"place {i + 1}" for i in range(counts[0])]
    return [f"r{r + 1} c{c + 1}" for r in range(counts[0]) for c in range(counts[1])]


def _without(owner: Tensor, names: list[str], gone: Tensor) -> tuple[Tensor, list[str]]:
    """The same players without some coefficients; those left with none are no players."""
    owner = torch.where(gone, PRESENT, owner)
    stay = owner.unique()
    stay = stay[stay >= 0]
    index = torch.full((len(names) + 1,), PRESENT)
    index[stay] = torch.arange(len(stay))
    return index[owner], [names[i] for i in stay.tolist()]


def _bands(hertz: Tensor, bands: int | Sequence[float], unit: str) -> Tensor:
    bins = len(hertz)
    if isinstance(bands, (int, float, str)):
        count = whole(bands, "bands", "frequencies", 4)
        if not 1 <= count <= bins:
            raise BadRequest(f"bands={bands}: there are {bins} bins; choose 1 to {bins}")
        return torch.arange(bins) * count // bins
    try:
        edges = [float(e) for e in bands]
    except (TypeError, ValueError):
        raise BadRequest(
            f"frequencies(bands={bands!r}): these are no edges; give numbers that rise, "
            "bands=[0.5, 4, 8], or how many bands, bands=4"
        ) from None
    if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)):  # nan neither
        raise BadRequest(f"bands={edges}: edges rise, and there are two at least: [0.5, 4, 8]")
    inside = [bisect_right(edges, f) - 1 for f in hertz.tolist()]
    last = len(edges) - 2
    owner = [last if f == edges[-1] else i if i <= last else PRESENT
             for i, f in zip(inside, hertz.tolist(), strict=True)]  # fmt: skip
    empty = [i for i in range(last + 1) if i not in owner]
    if empty:
        a, b = edges[empty[0] : empty[0] + 2]
        raise BadRequest(
            f"no bin lies between {a:g} and {b:g}{unit}: bins are {float(hertz[1]):.4g}{unit} "
            f"apart and reach {float(hertz[-1]):.4g}{unit}; choose wider bands"
        )
    return torch.tensor(owner)


def _band_names(
    owner: Tensor, hertz: Tensor, bands: int | Sequence[float], unit: str
) -> tuple[str, ...]:
    if not isinstance(bands, int):
        return tuple(
            f"{a:g} to {b:g}{unit}" if unit else f"bins {a:g} to {b:g}" for a, b in pairwise(bands)
        )
    ends = [(hertz[owner == k][0].item(), hertz[owner == k][-1].item()) for k in range(bands)]
    return tuple(
        f"{a:.6g} to {b:.6g}{unit}" if unit else f"bins {int(a)} to {int(b)}" for a, b in ends
    )


def _axis(x: Tensor, axis: int, who: str) -> tuple[int, int]:
    """Length of the axis of time, and the axis counted from the end."""
    _admit_tensor(x, who)
    whole(axis, "axis", who, -1)
    if x.ndim < 2 or not -x.ndim < axis < x.ndim or axis == 0:
        raise BadRequest(
            f"{who}(axis={axis}) of a tensor {tuple(x.shape)}: a signal has a batch axis in front, "
            "which is not that of time; add it with x[None], and give axis=-1 for (batch, channel, "
            "time) or axis=1 for (batch, time, feature)"
        )
    axis = axis - x.ndim if axis > 0 else axis
    if not x.numel():
        raise BadRequest(f"there are no players in a signal of shape {tuple(x.shape)}")
    return int(x.shape[axis]), axis


def _axes(x: Tensor, axes: Sequence[int] | None) -> tuple[int, ...]:
    """The axes of a wavelet transform, counted from the end."""
    _admit_tensor(x, "wavelets")
    if isinstance(axes, int | str):
        raise BadRequest(
            f"wavelets(axes={axes!r}): a list of axes is needed; write axes=[-1] for that of time, "
            "or axes=[-2, -1] for the two of a picture"
        )
    given = list(axes) if axes is not None else [-2, -1] if x.ndim == 4 else [-1]
    counted = tuple(sorted(_axis(x, axis, "wavelets")[1] for axis in given))
    if len(counted) not in (1, 2) or len(set(counted)) < len(counted):
        raise BadRequest(f"wavelets(axes={given}): give one axis of time, or the two of a picture")
    if not x.is_floating_point():
        raise BadRequest(f"wavelets(x): x holds {x.dtype}; give x.float()")
    return counted


def _admit_tensor(x: object, who: str) -> None:
    if not isinstance(x, Tensor):
        raise BadRequest(
            f"{who}(x): a tensor (batch, channel, time) is needed, this is a {type(x).__name__}; "
            "write torch.as_tensor(x), with its batch axis in front"
        )


def _rate(sampling_rate: float | None) -> float:
    rate = number(sampling_rate)
    if not 0 < rate < float("inf"):  # nan neither
        raise BadRequest(
            f"sampling_rate={sampling_rate!r}: give samples per second, a positive number, such as "
            "sampling_rate=100"
        )
    return rate


def _along(owner: Tensor, *axes: int) -> Tensor:
    """Owners along these axes (in order, counted from the end), all others together."""
    shape = [1] * -axes[0]
    for axis, size in zip(axes, owner.shape, strict=True):
        shape[axis] = size
    return owner.reshape(shape)


def _line(x: Tensor, axis: int) -> Tensor:
    """The first instance along one axis, its channels averaged."""
    return x.detach()[0].double().movedim(axis, -1).reshape(-1, x.shape[axis]).mean(0).cpu()
