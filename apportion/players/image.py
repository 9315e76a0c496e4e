"""Players that partition a picture: pixels, square patches, superpixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..taps import Part, Site
from ..types import BadRequest, whole
from .base import Geometry, Players


def pixels(x: Tensor, picture: Any = None, *, part: Part = None) -> Players:
    """One player per pixel, all channels together. `x` is the prepared input (batch, channel,
    height, width).
    """
    height, width = _size(x)
    owner = torch.arange(height * width).reshape(1, height, width)
    names = tuple(f"{r},{c}" for r in range(height) for c in range(width))
    return _image(names, owner, x, "pixel", _geometry(x, picture, part, (height, width)))


def patches(x: Tensor, size: int, picture: Any = None, *, part: Part = None) -> Players:
    """Square patches of `size` pixels, numbered from 1; the last row and column may be narrower."""
    height, width = _size(x)
    if not 1 <= whole(size, "size", "patches", _side(size, height, width)) <= min(height, width):
        raise BadRequest(
            f"patches of {size} pixels do not fit a picture of {height}x{width}; choose 1 to "
            f"{min(height, width)}"
        )
    rows, columns = -(-height // size), -(-width // size)
    owner = (torch.arange(height)[:, None] // size) * columns + torch.arange(width) // size
    names = tuple(f"r{r + 1} c{c + 1}" for r in range(rows) for c in range(columns))
    return _image(names, owner[None], x, "patch", _geometry(x, picture, part, (rows, columns)))


def superpixels(
    x: Tensor, n: int, picture: Any = None, *, compactness: float = 10.0, part: Part = None
) -> Players:
    """About `n` regions of similar colour, found by SLIC on the picture (`compactness`: colour
    against closeness).
    """
    try:
        from skimage.segmentation import slic
        from skimage.transform import resize
    except ImportError as missing:
        raise BadRequest(
            "superpixels need scikit-image: pip install 'apportion[vision]'"
        ) from missing
    height, width = _size(x)
    if whole(n, "n", "superpixels", 50) < 1:
        raise BadRequest(f"superpixels(n={n}): ask for at least 1 region")
    seen = resize(seen_by_people(x, picture).numpy(), (height, width), anti_aliasing=True)
    labels = slic(seen, n_segments=n, compactness=compactness, start_label=0)
    _, which = np.unique(labels, return_inverse=True)
    owner = torch.as_tensor(which.reshape(1, height, width))
    names = tuple(f"region {i + 1}" for i in range(int(owner.max()) + 1))
    return _image(names, owner, x, "superpixel", _geometry(x, picture, part, None))


def _image(
    names: tuple[str, ...], owner: Tensor, x: Tensor, kind: str, geometry: Geometry
) -> Players:
    """Players that own the same places in every channel (and frame) of the input."""
    owner = owner.reshape((1,) * (x.ndim - 3) + owner.shape[-2:])
    site = geometry.site
    if site is None:
        raise AssertionError("the geometry of a picture has a site")
    return Players(names, (kind,) * len(names), {site: owner}, {kind: geometry})


def _geometry(x: Tensor, picture: Any, part: Part, grid: tuple[int, int] | None) -> Geometry:
    return Geometry("image", Site("", "in", part), grid, seen_by_people(x, picture))


def _side(asked: object, height: int, width: int) -> int:
    """A side of patches to advise: the one meant by height and width of a patch, or what makes
    some four of them.
    """
    fits = range(1, min(height, width) + 1)
    first = asked[0] if isinstance(asked, tuple | list) and asked else None
    return first if isinstance(first, int) and first in fits else max(1, fits[-1] // 4)


def _size(x: Tensor) -> tuple[int, int]:
    if x.ndim < 3:
        raise BadRequest(
            f"a picture needs axes (batch, ..., height, width); got {tuple(x.shape)}. Add the "
            "batch axis with x[None]."
        )
    if not x.numel():
        raise BadRequest(f"there are no players in a picture of shape {tuple(x.shape)}")
    return int(x.shape[-2]), int(x.shape[-1])


def seen_by_people(x: Tensor, picture: Any) -> Tensor:
    """What a person sees: the given picture, or the first instance stretched to 0..255."""
    if picture is None:
        first = x.detach()[0].float().cpu()
        first = first.reshape(-1, *first.shape[-2:])
        first = first[:3] if first.shape[0] >= 3 else first[:1].expand(3, -1, -1)
        low, high = first.min(), first.max()
        return (
            ((first - low) / (high - low).clamp(min=1e-12) * 255)
            .round()
            .to(torch.uint8)
            .permute(1, 2, 0)
            .contiguous()
        )
    array = torch.as_tensor(np.array(picture))
    if array.ndim == 2:
        array = array[:, :, None].expand(-1, -1, 3)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or array.dtype != torch.uint8:
        raise BadRequest(
            f"picture= must be uint8 (height, width, 3); got {array.dtype} {tuple(array.shape)}"
        )
    return array[:, :, :3].contiguous()
