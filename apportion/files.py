"""Files that last: a json of plain facts and a safetensors of numbers, with checksums. Reading
never runs anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, int32

from .players import Geometry, Players
from .taps import Site
from .types import BadRequest
from .views import facts as view_facts
from .views import rebuilt

FORMAT = 1
KINDS = ("attribution", "interactions", "pairs", "explanation")  # a folder holds one of them


def write(path: str | Path, name: str, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Writes NAME.json and NAME.safetensors into a folder and takes away a result of another kind
    that was saved there; checksums tell damaged files when they are read.

    Both files are whole before either takes its name, and another kind goes last: of two kinds, one
    can be read wherever saving is interrupted.
    """
    folder = Path(path)
    blob = save({name: x.contiguous().clone() for name, x in tensors.items()})  # none share memory
    body = {
        "format": FORMAT,
        "kind": name,
        "facts": facts,
        "tensors": hashlib.sha256(blob).hexdigest(),
    }
    body["checksum"] = _digest(body)
    text = json.dumps(body, indent=1).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _place(folder, {f"{name}.safetensors": blob, f"{name}.json": text})
        for other in KINDS:
            if other != name:  # without its json there is no result
                (folder / f"{other}.json").unlink(missing_ok=True)
                (folder / f"{other}.safetensors").unlink(missing_ok=True)
    except OSError as failure:
        raise BadRequest(
            f"cannot write to {folder}: {failure.strerror or failure}; choose a folder you may "
            "write to"
        ) from failure
    return folder


def _place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Files under drafts' names first: one that cannot be written leaves what was there."""
    drafts = {folder / f".{file}.{os.getpid()}.part": folder / file for file in files}
    try:
        for draft, blob in zip(drafts, files.values(), strict=True):
            draft.write_bytes(blob)
        for draft, final in drafts.items():
            draft.replace(final)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def read(path: str | Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write` wrote; damaged, foreign or newer files are refused. Nothing in them is
    run.
    """
    folder = Path(path)
    try:
        body = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        blob = (folder / f"{name}.safetensors").read_bytes()
    except (OSError, ValueError, RecursionError) as failure:
        raise BadRequest(
            f"cannot read {folder / name}.json and .safetensors: {failure}; was the folder written "
            "by save()?"
        ) from failure
    if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("kind") != name:
        raise BadRequest(
            f"{folder / name}.json is no apportion {name} of format {FORMAT}; it may come from "
            "another version"
        )
    claimed = body.pop("checksum", None)
    if claimed != _digest(body) or body.get("tensors") != hashlib.sha256(blob).hexdigest():
        raise BadRequest(
            f"{folder} is damaged or was changed after it was saved: checksums differ. Save it "
            "again from the original."
        )
    try:
        return body["facts"], load(blob)
    except (SafetensorError, KeyError) as failure:
        raise BadRequest(f"{folder / name}.safetensors cannot be read: {failure}") from failure


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def pack_players(players: Players, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Players as plain facts and named tensors."""
    tensors = {f"{prefix}owner{i}": own.to(int32) for i, own in enumerate(players.owner.values())}
    shapes = {}
    for kind, g in players.geometry.items():
        shapes[kind] = {
            "view": g.view,
            "site": None if g.site is None else asdict(g.site),
            "grid": g.grid,
            "shown": g.shown,
        }
        if g.picture is not None:
            tensors[f"{prefix}picture.{kind}"] = g.picture
        if g.trace is not None:
            tensors[f"{prefix}trace.{kind}"] = g.trace
    sites, views = [asdict(site) for site in players.owner], []
    for site, view in players.views.items():
        told, numbers = view_facts(view)
        views.append({"site": list(players.owner).index(site), **told})
        if numbers is not None:
            tensors[f"{prefix}view{views[-1]['site']}"] = numbers
    return {
        "names": players.names,
        "kinds": players.kinds,
        "sites": sites,
        "geometry": shapes,
        "views": views,
    }, tensors


def unpack_players(facts: dict[str, Any], tensors: Mapping[str, Tensor], prefix: str) -> Players:
    """The inverse of `pack_players`."""
    owner = {
        Site(**site): tensors[f"{prefix}owner{i}"].long() for i, site in enumerate(facts["sites"])
    }
    geometry = {}
    for kind, g in facts["geometry"].items():
        site = None if g["site"] is None else Site(**g["site"])
        grid = None if g["grid"] is None else tuple(g["grid"])
        geometry[kind] = Geometry(
            g["view"],
            site,
            grid,
            tensors.get(f"{prefix}picture.{kind}"),
            tuple(g["shown"]),
            tensors.get(f"{prefix}trace.{kind}"),
        )
    views = {}
    for told in facts.get("views", ()):  # files of players without views have none
        options = {k: v for k, v in told.items() if k != "site"}
        numbers = tensors.get(f"{prefix}view{told['site']}")
        views[list(owner)[told["site"]]] = rebuilt(options, numbers)
    return Players(tuple(facts["names"]), tuple(facts["kinds"]), owner, geometry, views)
