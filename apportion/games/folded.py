"""Layers that see windows or positions in the place of the batch: (batch * window, *support)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..taps import Call, Site, read
from .calls import Convention

CLOSE = 1e-3  # what the size of a batch may change in an activation, relative to its largest


def apart(
    model: nn.Module,
    convention: Convention,
    seen: Mapping[Site, Tensor],
    weights: Mapping[str, Tensor] | None = None,
) -> dict[Site, Tensor]:
    """Activations with an axis of their own for what is folded into the batch, (instance, window,
    *support), at the sites where each instance's windows follow one another.

    Where they do is seen in one run of the input together with another: the input's own activations
    come first then, and as they are alone.
    """
    n = convention.instances
    sites = [site for site, x in seen.items() if x.ndim > 1 and len(x) > n and len(x) % n == 0]
    if not sites:
        return dict(seen)
    both = read(model, _beside_another(convention), sites, whole=True, weights=weights)
    found = dict(seen)
    for site in sites:
        alone, first, second = (
            seen[site],
            both[site][: len(seen[site])],
            both[site][len(seen[site]) :],
        )
        if _same(alone, first) and len(second) == len(alone) and not _same(alone, second):
            found[site] = alone.unflatten(0, (n, -1))
    return found


def _beside_another(convention: Convention) -> Call:
    """The input twice, the second time turned around."""
    first = convention.call.first()

    def turned(name: int | str, x: Tensor) -> Tensor:
        if name != first:
            return x
        own, other = x.chunk(2)
        return convention.lay(torch.cat([own, other.flip(tuple(range(1, x.ndim)))]))

    return convention.rows(2).map(turned)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= CLOSE * float(a.abs().max())
