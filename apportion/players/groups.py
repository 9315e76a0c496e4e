"""Players made of labels, groups and whole inputs: segments, column groups, modalities."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from ..taps import Part, Site
from ..types import BadRequest, told
from .base import PRESENT, Geometry, Players, unique
from .image import seen_by_people
from .table import columns


def segments(
    x: Tensor,
    labels: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    names: Mapping[int, str] | Sequence[str] | None = None,
    *,
    picture: Any = None,
    part: Part = None,
) -> Players:
    """One player per label of a map or volume over the last axes of `x`: organs, superpixels of any
    method, sleep stages. All channels together; negative labels are always present.

    `labels`: integers, or one boolean mask per segment, which may not overlap (elements in no mask
    are always present). `names` by label, or in order of label. Supervoxels are
    `segments(x, skimage.segmentation.slic(volume, channel_axis=None))`. Credit of
    a dense output by predicted segments is Agg2Exp's table [chrabaszcz2024].
    """
    given = _tensor(labels)
    if not isinstance(given, Tensor):
        given = _of_masks(given)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        remedy = "labels.astype(int)" if isinstance(labels, np.ndarray) else "labels.long()"
        raise BadRequest(
            f"segments(labels=...) holds {given.dtype}; give integers: {remedy}, or a list of "
            "boolean masks"
        )
    space = tuple(x.shape[1:])[-given.ndim :] if given.ndim else ()
    if not given.ndim or tuple(given.shape) != space:
        raise BadRequest(
            f"labels of shape {tuple(given.shape)} do not lie over the last axes of an input "
            f"{tuple(x.shape)} (batch first); give one label per place, such as "
            f"{tuple(x.shape[2:]) or tuple(x.shape[1:])}"
        )
    found = [label for label in given.unique().tolist() if label >= 0]
    if not found:
        raise BadRequest("there are no players: every label is negative, which means present")
    called = _called(found, names)
    places = given.cpu().long().contiguous()  # torch warns of others, and copies them itself
    index = torch.searchsorted(torch.tensor(found), places)
    owner = torch.where(given.cpu() < 0, PRESENT, index)
    site = Site("", "in", part)
    flat = given.ndim == 2 and x.ndim > 2
    geometry = (
        Geometry("image", site, None, seen_by_people(x, picture)) if flat else Geometry("parts")
    )
    return Players(called, ("segment",) * len(called), {site: owner}, {"segment": geometry})


def column_groups(
    x: Tensor,
    groups: Mapping[str, Sequence[int | str]],
    names: Sequence[str] | None = None,
    *,
    values: Sequence[float] | None = None,
    part: Part = None,
) -> Players:
    """One player per group of a row's columns, given by number or by name: the columns of a one-hot
    code, of one instrument, of one source. Columns in no group are players of their own.
    """
    if not isinstance(groups, Mapping):
        raise BadRequest(
            f"column_groups(x, groups): a {type(groups).__name__} was given; a group has a name "
            "and its columns: {'size': [0, 1], ...}"
        )
    if not groups:
        raise BadRequest("column_groups(x, {}): name at least one, {'size': [0, 1], ...}")
    fine = columns(x, names, values=values, part=part)
    places = {name: i for i, name in enumerate(fine.names)}
    chosen: dict[int, str] = {}
    for group, members in groups.items():
        for member in _members(group, members):
            place = places.get(member, -1) if isinstance(member, str) else _number(group, member)
            if not 0 <= place < fine.n:
                raise BadRequest(
                    f"the group {group!r} names the column {member!r}; there are {fine.n}, 0 to "
                    f"{fine.n - 1}, called {', '.join(fine.names[:4])}, ..."
                )
            if place in chosen:
                raise BadRequest(
                    f"the column {fine.names[place]!r} is in {chosen[place]!r} and in {group!r}; "
                    "a column is in one group"
                )
            chosen[place] = group
    labels = [chosen.get(i, name) for i, name in enumerate(fine.names)]
    alone = {name for i, name in enumerate(fine.names) if i not in chosen}
    clash = alone & set(groups)
    if clash:
        raise BadRequest(
            f"{min(clash)!r} is both a group and a column outside of it; rename the group"
        )
    return fine.grouped(labels).renamed("column group")


def _members(group: str, members: object) -> list[Any]:
    """The columns of a group: several, or one in a list."""
    loose = isinstance(members, str) or not isinstance(members, Iterable)
    if loose or (isinstance(members, Tensor | np.ndarray) and members.ndim != 1):
        raise BadRequest(
            f"the group {group!r} is {told(members)}, a {type(members).__name__}; its columns are "
            f"a list, also where there is one: {{{group!r}: [{told(members) if loose else 0}]}}"
        )
    listed = list(members) if isinstance(members, Iterable) else []
    if not listed:
        raise BadRequest(f"the group {group!r} has no columns; leave it out")
    return listed


def _number(group: str, member: object) -> int:
    """A column by its number; 0.5 is none, though int() would make it 0."""
    if isinstance(member, SupportsIndex) and not isinstance(member, bool | np.bool_):
        try:
            return operator.index(member)
        except TypeError:  # a tensor that holds no integer
            pass
    raise BadRequest(
        f"the group {group!r} names the column {member!r}, a {type(member).__name__}; give columns "
        f"by number or by name: {{{group!r}: [0, 1]}}"
    )


def modalities(groups: Mapping[str, Part | Players]) -> Players:
    """One player per modality: a whole part of the model's input by its position or name, or all of
    some players as one.

        modalities({"image": "pixel_values", "question": tokens(lm, ids)})

    The dimensions of a fusion layer are neurons: `neurons(model, "fuse").merge([...], [...])`. Each
    modality is a kind of its own, so that absence may differ: removal={"image": ..., ...}. Shares
    of credit per modality are MAEA's [jain2023].
    """
    if len(groups) < 1:
        raise BadRequest("modalities({}): name at least one, {'image': 'pixel_values', ...}")
    made = []
    for name, what in groups.items():
        if isinstance(what, Players):
            owner: Mapping[Site, Tensor] = what.merge([range(what.n)]).owner
            views = what.views
        else:
            owner, views = {Site("", "in", what): torch.zeros(1, dtype=torch.long)}, {}
        made.append(Players((name,), (name,), owner, {name: Geometry("parts")}, views))
    return reduce(or_, made)


def _tensor(given: Any) -> Any:
    """Arrays of numpy as tensors, whatever their strides and integers; all else as it is."""
    if not isinstance(given, np.ndarray):
        return given
    if given.dtype.kind not in "iubf":
        raise BadRequest(
            f"segments(labels=...) holds {given.dtype}; give integers, one label per place of x"
        )
    return torch.from_numpy(given.astype({"b": bool, "f": np.float64}.get(given.dtype.kind, int)))


def _of_masks(given: Sequence[Tensor | np.ndarray]) -> Tensor:
    """Labels of masks that do not overlap; -1 where there is none."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise BadRequest(
            f"segments(labels=...) got a {type(given).__name__}; give a tensor or an array of "
            "integer labels, one per place of x, or a list of boolean masks, one per segment"
        )
    if not given:
        raise BadRequest(
            "segments(labels=[]): there are no masks, so no players; give a list of boolean masks, "
            "one per segment at least, or a tensor of integer labels"
        )
    masks = []
    for k, mask in enumerate(map(_tensor, given)):
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise BadRequest(
                f"segments(labels=[...]) holds {got} at {k}; a list holds boolean masks, one per "
                "segment: [map == k for k in (1, 2)]. A map of integer labels is given alone: "
                "segments(x, map)"
            )
        masks.append(mask)
    if len({tuple(m.shape) for m in masks}) > 1:
        raise BadRequest(
            f"masks of shapes {[tuple(m.shape) for m in masks]} do not lie over the same places"
        )
    labels = torch.full(masks[0].shape, PRESENT)
    for k, mask in enumerate(masks):
        both = mask.cpu() & (labels >= 0)
        if bool(both.any()):
            place = tuple(both.nonzero()[0].tolist())
            other = int(labels[place])
            raise BadRequest(
                f"masks {other} and {k} overlap at {int((both & (labels == other)).sum())} places, "
                f"the first is {place}; players partition: give what they share to one of them "
                f"(masks[{k}] & ~masks[{other}]) or to a segment of its own"
            )
        if not bool(mask.any()):
            raise BadRequest(f"mask {k} is empty; leave it out")
        labels[mask.cpu()] = k
    return labels


def _called(found: list[int], names: Mapping[int, str] | Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(f"segment {label}" for label in found)
    if isinstance(names, Mapping):
        return unique([names.get(label, f"segment {label}") for label in found])
    if len(names) != len(found):
        raise BadRequest(
            f"{len(names)} names for {len(found)} labels, {found[:4]} ...; give names={{label: "
            "name}, which may leave labels out"
        )
    return unique(list(names))
