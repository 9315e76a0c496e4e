"""Where removals meet players: which removal a site gets, how draws are shared, and who cannot be
removed at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..players import Players
from ..removals import ENDLESS, Reference, Removal
from ..taps import Site
from ..types import BadRequest
from ..views import View
from .record import Recorder

FEW = 4  # inputs of a reference that never ends; noise moves whatever can be moved at once
ROUNDING = 64  # units in the last place that coefficients of equal tensors may differ by


def kind_at(players: Players) -> dict[Site, str]:
    """The kind of player at each site; one site holds one kind."""
    found = {}
    single = list(players.counts) if len(players.counts) == 1 else None
    for site, owner in players.owner.items():
        kinds = single or sorted({players.kinds[i] for i in owner.unique().tolist() if i >= 0})
        if len(kinds) > 1:
            raise BadRequest(
                f"the {site} holds players of kinds {kinds}; one site has one removal, so one kind"
            )
        found[site] = kinds[0]
    return found


def by_kind(players: Players, removal: Removal | Mapping[str, Removal]) -> dict[str, Removal]:
    """One removal per kind of player."""
    if not isinstance(players, Players):
        raise BadRequest(
            f"players={players!r} ({type(players).__name__}) are no players; build them from the "
            "input, such as ap.players.columns(x)"
        )
    kinds = list(players.counts)
    each = dict(removal) if isinstance(removal, Mapping) else dict.fromkeys(kinds, removal)
    for what in each.values():
        if isinstance(what, type):
            raise BadRequest(
                f"removal={what.__name__} is a class; make one: ap.{what.__name__}(...)"
            )
        if isinstance(what, Reference):
            raise BadRequest(
                f"removal={what!r} says what stands in, not how; write ap.Blend({what!r})"
            )
        if not isinstance(what, Removal):
            raise BadRequest(
                f"removal={what!r} ({type(what).__name__}) is no removal; write "
                "ap.Blend(ap.removals.zeros()), or another reference of ap.removals.TABLE"
            )
    if set(each) != set(kinds):
        raise BadRequest(
            f"removal= needs exactly one entry per kind of player, {kinds}; got {list(each)}"
        )
    return each


def draws_of(removal: Mapping[str, Removal]) -> int | None:
    """Draws of the game: the removals share them, so finite pools must be equally large."""
    counts = {r.draws for r in removal.values()} - {1}
    if len(counts - {None}) > 1:
        sizes = sorted(c for c in counts if c is not None)
        raise BadRequest(
            f"removals with {sizes} draws cannot share one draw; give pools of one size"
        )
    if not counts:
        return 1
    return None if None in counts else next(iter(counts))


def idle_players(
    players: Players, activations: Mapping[Site, Tensor], recorder: Recorder
) -> list[int]:
    """Players whose elements all equal their replacement, in every draw there is."""
    moved = torch.zeros(players.n, dtype=torch.bool)
    for site, x in activations.items():
        reference, owner = recorder.references[site], players.owner[site]
        for index in range(_looked_at(reference)):
            absent = recorder.absent(site, x[None], torch.tensor([index])).to(x.device)[0]
            differs = _differs(x, absent, players.views.get(site)).any(0).cpu()
            padded = owner.reshape((1,) * (differs.ndim - owner.ndim) + tuple(owner.shape))
            hit = padded.expand(differs.shape)[differs]
            moved[hit[hit >= 0]] = True
            if bool(moved.all()):
                return []
    return (~moved).nonzero().flatten().tolist()


def _looked_at(reference: Reference) -> int:
    """How many of its inputs tell who is idle: all there are."""
    if reference.pooled:
        return 1
    return FEW if reference.size == ENDLESS else reference.size


def _differs(x: Tensor, absent: Tensor, view: View | None) -> Tensor:
    """Where the two are not the same; coefficients are so up to the rounding of a view."""
    if view is None:
        return x != absent
    kind = torch.promote_types(x.dtype, torch.float32)
    here, there = view.analysis(x.to(kind)), view.analysis(absent.to(kind))
    scale = float(torch.maximum(here.abs().max(), there.abs().max()))
    return (here - there).abs() > ROUNDING * torch.finfo(kind).eps * scale


def idle_note(players: Players, removal: Mapping[str, Removal], idle: list[int]) -> tuple[str, ...]:
    """Tells who cannot earn credit; refuses a game in which nobody can."""
    if len(idle) == players.n:
        removals = ", ".join(map(str, removal.values()))
        raise BadRequest(
            f"the reference equals the input on every element that {players} own (removal: "
            f"{removals}), so absence changes nothing. Choose another reference: blur(...), "
            "mean(rows), zeros(), or a counterfactual input."
        )
    if not idle:
        return ()
    named = ", ".join(players.names[i] for i in idle[:3]) + (", ..." if len(idle) > 3 else "")
    return (
        f"{len(idle)} of {players.n} players equal their replacement ({named}): leaving them out "
        "changes nothing, and what an estimator gives them is noise or their neighbours'",
    )


def refuse_undefined(removals: Iterable[Removal]) -> None:
    """A displacement of one unit is no absence, so nothing is worth v(no player) under it."""
    undefined = [r.reference for r in removals if not r.reference.absence]
    if undefined:
        raise BadRequest(
            f"v(no player) is undefined under {undefined[0]!r}: it is a unit displacement, not an "
            "absence. Use Gradient() or AveragedGradient(), or a removal such as Blend(zeros())."
        )
