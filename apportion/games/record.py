"""References at sites inside the model: the activations it has on another input, recorded before
they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..removals import Reference
from ..taps import Call, Site, read
from ..types import BadRequest
from .calls import Convention

LIMIT = 2**28  # bytes of recorded activations kept; beyond it they are recorded again when needed


@dataclass(eq=False)
class Recorder:
    """What stands in at each site, per draw. Fills itself by running the model on the reference
    inputs.
    """

    model: nn.Module
    convention: Convention  # of the explained input; reference inputs are laid out like it
    references: dict[Site, Reference]
    shapes: dict[Site, tuple[int, ...]]  # of the clean run, (instance, *support)
    weights: Mapping[str, Tensor] | None = None  # stand-ins for parameters
    runs: int = 0  # forward passes spent on recording: set-up work
    _kept: dict[tuple[int, int], dict[Site, Tensor]] = field(
        default_factory=dict
    )  # (which reference, index)
    _bytes: int = 0

    def absent(self, site: Site, x: Tensor, draw: Tensor) -> Tensor:
        """The stand-in at a site for each row, (row or 1, instance, *support). `x` is what the
        site holds now.
        """
        reference = self.references[site]
        fixed = reference.constant(x)
        if fixed is not None:
            return fixed
        if reference.pooled:
            return self._pooled(site, reference)[None]
        if reference.draws == 1:  # one state: all of the inputs, which are one or levels of one
            return torch.stack([self._at(reference, i)[site] for i in range(reference.size)])
        index = (draw % reference.size).tolist()
        distinct = {i: self._at(reference, i)[site] for i in dict.fromkeys(index)}
        return torch.stack([distinct[i] for i in index])

    def on(self, site: Site, first: Tensor, name: str) -> Tensor:
        """What the site holds on other inputs, (row, instance, *support): their first tensors,
        (row, instance, ...).
        """
        laid = self.convention.rows(len(first))
        other = laid.replacing(laid.first(), first.flatten(0, 1))
        try:
            found = read(self.model, other, [site], weights=self.weights)[site]
        except IndexError as failure:
            raise BadRequest(
                f"{name} makes up tokens that {type(self.model).__name__} does not know: "
                f"{failure}. Use a language model with the same vocabulary as the explained one."
            ) from failure
        return found.unflatten(0, tuple(first.shape[:2]))

    def _pooled(self, site: Site, reference: Reference) -> Tensor:
        key = (id(reference), -1)
        if key not in self._kept:
            first = self._record(reference, 0)
            total = {place: x.double().clone() for place, x in first.items()}  # never the user's
            for i in range(1, reference.size):
                for place, x in self._record(reference, i).items():
                    total[place] += x
            self._keep(
                key,
                {
                    place: (x / reference.size).to(
                        torch.promote_types(first[place].dtype, torch.float32)
                    )
                    for place, x in total.items()
                },
            )
        return self._kept[key][site]

    def _at(self, reference: Reference, index: int) -> dict[Site, Tensor]:
        key = (id(reference), index)
        if key not in self._kept:
            self._keep(key, self._record(reference, index))
        return self._kept[key]

    def _record(self, reference: Reference, index: int) -> dict[Site, Tensor]:
        sites = [site for site, own in self.references.items() if own is reference]
        other = reference.inputs(self.convention.call, index)
        if other is None:
            raise BadRequest(
                f"{reference!r} names neither a constant nor an input; it cannot stand in"
            )
        given = {s: _argument(other, s) for s in sites if s.path == "" and s.io == "in"}
        inside = [s for s in sites if s not in given]
        if inside:
            laid = replace(self.convention, call=other).rows(1)
            looked = read(self.model, laid, inside, weights=self.weights)
            given |= {site: _unfolded(x, self.shapes[site]) for site, x in looked.items()}
            self.runs += 1
        for site, x in given.items():
            _check(x, site, self.shapes[site], reference)
        return given

    def _keep(self, key: tuple[int, int], tensors: dict[Site, Tensor]) -> None:
        size = sum(x.numel() * x.element_size() for x in tensors.values())
        if self._bytes + size > LIMIT:
            self._kept.clear()
            self._bytes = 0
        self._kept[key] = tensors
        self._bytes += size


def _argument(call: Call, site: Site) -> Tensor:
    return call.tensors()[call.first() if site.part is None else site.part]


def _unfolded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """With the axis of windows that the clean run has there, if it has one."""
    if x.ndim + 1 != len(shape) or len(x) % shape[0]:
        return x
    return x.unflatten(0, (shape[0], -1))


def _check(x: Tensor, site: Site, shape: tuple[int, ...], reference: Reference) -> None:
    if tuple(x.shape) != shape:
        raise BadRequest(
            f"{reference!r} gives shape {tuple(x.shape)} at the {site}, the explained input "
            f"{shape}. Align the two: for text, prompts with the same number of tokens; for "
            "pictures, the same size."
        )
    if not bool(torch.isfinite(x).all()):
        raise BadRequest(
            f"{reference!r} gives NaN or infinite numbers at the {site}; choose another reference"
        )
