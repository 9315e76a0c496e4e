"""What a game does at its sites while the model runs: absent elements are replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backward import Entry
from ..players import Players, spread
from ..removals import Filling, Removal, filling
from ..taps import Site
from ..types import BadRequest
from .record import Recorder
from .survey import Clean

SEED_STEP = 1_000_003  # keeps the noise of one draw at two sites apart

Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Editor:
    """Turns gates into edits of activations, one per site."""

    players: Players
    removals: Mapping[Site, Removal]
    clean: Clean
    recorder: Recorder

    def edits(
        self, gates: Mapping[Site, Tensor], draw: Tensor, entry: Entry | None = None
    ) -> dict[Site, Edit]:
        """By site: (row * instance, *support) in, the same with absent elements replaced. `gates`
        at each site has one row per coalition, or per row x instance. At the model's input `entry`
        says how gates and blend are joined.
        """
        return {
            site: self._edit(site, gates[site], draw, draw * SEED_STEP + k, entry)
            for k, site in enumerate(self.players.owner)
        }

    def _edit(
        self, site: Site, gates: Tensor, draw: Tensor, seeds: Tensor, entry: Entry | None
    ) -> Edit:
        count, convention = len(draw), self.clean.convention
        n, owner, removal = convention.instances, self.players.owner[site], self.removals[site]
        axes = len(self.clean.supports[site])
        at_input = site.path == "" and site.io == "in"
        clean = self.clean.activations[site]
        recorded: Tensor | None = None
        infill = filling(removal)
        if infill is not None:
            recorded = self._filled(site, infill, gates, seeds)
        elif removal.reference.constant(clean) is None:
            # before the model runs: a forward pass inside another one would meet its edits
            recorded = self.recorder.absent(site, clean[None], draw)

        def edit(x: Tensor) -> Tensor:
            # windows or positions of one instance that the model has folded into the batch
            windows = (clean.shape[1],) if clean.ndim > x.ndim else ()
            if len(x) != count * n * math.prod(windows):
                raise BadRequest(
                    f"the {site} has first axis {len(x)} for {count} coalitions of {n} "
                    "instance(s); rows cannot be told apart there"
                )
            keep = spread(_wide(gates.to(x.device), x.dtype), owner)
            padded = keep.reshape(count, -1, *(1,) * (axes - owner.ndim), *owner.shape)
            rows = x.unflatten(0, (count, n, *windows))
            held = rows.detach()
            absent = self.recorder.absent(site, held, draw) if recorded is None else recorded
            blend = removal(rows, padded, absent.to(x.device), seeds)
            last = 1 + len(windows)
            out = blend.flatten(0, last)
            if not at_input:
                return out
            laid = convention.lay(out)
            if entry is None:
                return laid
            return entry.open(laid, padded.expand_as(blend).flatten(0, last))

        return edit

    def _filled(self, site: Site, infill: Filling, gates: Tensor, seeds: Tensor) -> Tensor:
        """What the site holds on the text that is made up for each coalition, before the model runs
        on any.
        """
        call, owner = self.clean.convention.call, self.players.owner[site]
        ids = call.tensors()[call.first()]
        if ids.is_floating_point() or ids.ndim != 2 or owner.shape != (ids.shape[1], 1):
            raise BadRequest(
                f"{infill!r} makes tokens up, one player per position of ids (batch, position); "
                f"the input is {ids.dtype} {tuple(ids.shape)}, the players own "
                f"{tuple(owner.shape)} at the {site}. Use ap.players.tokens(lm, ids)."
            )
        masks = [x for name, x in call.tensors().items() if name == "attention_mask"]
        if any(bool((x == 0).any()) for x in masks):
            raise BadRequest(
                f"{infill!r}: the input is padded (its attention_mask has zeros), and the language "
                "model would read the padding. Ask about one text at a time, without padding."
            )
        keep = spread(gates, owner)[..., 0]
        return self.recorder.on(site, infill.fill(ids, keep, seeds), repr(infill))


def _wide(gates: Tensor, dtype: torch.dtype) -> Tensor:
    """Soft gates in float32 or wider: half precision would have 8 bits."""
    return (
        gates if gates.dtype == torch.bool else gates.to(torch.promote_types(dtype, torch.float32))
    )
