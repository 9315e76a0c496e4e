"""Projected gradients of all training rows, block by block: in memory, or in files that outlast a
killed run and refuse to be read for anything they were not made of.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..progress import watched
from ..types import BadRequest
from .fingerprint import of_code, of_module, of_tensors
from .measures import Measure
from .optim import Params
from .persample import each, rows_at_once
from .project import Projection
from .run import TrainingRun

FORMAT = 1
BLOCK = 512  # rows of a block at most: memory does not grow with the rows
SHARD = 2**28  # bytes of one file, about
Make = Callable[[slice], Float[Tensor, "row k"]]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What features were made of; a store opens for nothing else."""

    rows: str  # digest of the training rows
    model: str  # digest of the module's code, frozen parameters and buffers
    parameters: tuple[str, ...]  # names of those differentiated by
    measure: str
    projection: str
    checkpoint: str  # digest of the parameters

    @classmethod
    def of(
        cls, run: TrainingRun, params: Params, measure: Measure, projection: Projection
    ) -> Origin:
        """Of the gradients of a measure at these parameters of a run."""
        return cls(
            rows=run.recipe.rows.digest,
            model=of_module(run.net.module),
            parameters=run.net.names,
            measure=f"{measure.name} {hashlib.sha256(of_code(measure.f).encode()).hexdigest()}",
            projection=repr(projection),
            checkpoint=of_tensors(dict(sorted(params.items()))),
        )


@dataclass(frozen=True, eq=False)
class Store:
    """A table (n, k) in blocks of rows. Without a folder the blocks stay in memory as they are.

    In a folder: header.json (sizes and origin); features-NNNNN.f32 with whole blocks in order, as
    little-endian float32; done.i64 with one number per block: 0, or its checksum + 1, written
    after its data. That outlasts the end of the process; after a power cut the checksums tell
    whether data were lost.
    """

    n: int
    k: int
    block: int
    origin: Origin
    folder: Path | None = None
    held: dict[int, Tensor] = field(default_factory=dict)
    checked: set[int] = field(default_factory=set)  # blocks whose checksum was compared

    def __post_init__(self) -> None:
        if self.folder is not None:
            _open(self.folder, self.header, self.blocks)

    @property
    def header(self) -> dict[str, Any]:
        """What the header says."""
        sizes = {"n": self.n, "k": self.k, "block": self.block, "shard": self.per_shard}
        origin = {**asdict(self.origin), "parameters": list(self.origin.parameters)}
        return {"format": FORMAT, "kind": "gradient store", **sizes, "origin": origin}

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.n // self.block)

    @property
    def per_shard(self) -> int:
        """Blocks in one file."""
        return max(SHARD // (4 * self.k * self.block), 1)

    def rows(self, i: int) -> slice:
        """The rows of a block."""
        return slice(i * self.block, min((i + 1) * self.block, self.n))

    def finished(self, i: int) -> bool:
        """Whether a block is there."""
        return i in self.held if self.folder is None else _checksum(self.folder, i) is not None

    def fill(self, make: Make) -> Store:
        """Makes the blocks that are missing."""
        left = [i for i in range(self.blocks) if not self.finished(i)]
        with watched("gradients of training rows", self.n) as tick:
            for i in left:
                self._keep(i, make(self.rows(i)))
                tick(self.block)
        return self

    def read(self, i: int) -> Float[Tensor, "row k"]:
        """One block."""
        if not self.finished(i):
            raise BadRequest(f"block {i} of the store was not finished; call fill(make) first")
        if self.folder is None:
            return self.held[i]
        own, told = self.rows(i), _checksum(self.folder, i)
        path, at, shape = *self._place(i), (own.stop - own.start, self.k)
        if not path.exists() or path.stat().st_size < at + 4 * shape[0] * shape[1]:
            raise _damaged(self.folder, f"{path.name} ends before block {i}")
        # mapped for this block alone, so that pages read before do not count as memory in use
        found = np.memmap(path, dtype="<f4", mode="c", offset=at, shape=shape)
        if i not in self.checked and zlib.crc32(found.data) != told:
            raise _damaged(self.folder, f"block {i} in {path.name} was changed")
        self.checked.add(i)
        return torch.from_numpy(found)

    def __iter__(self) -> Iterator[tuple[slice, Float[Tensor, "row k"]]]:
        for i in range(self.blocks):
            yield self.rows(i), self.read(i)

    def scores(self, directions: Float[Tensor, "query k"]) -> Float[Tensor, "query row"]:
        """Inner products of every row with each direction, block by block."""
        out = directions.new_empty(len(directions), self.n)
        for own, features in self:
            out[:, own] = directions @ features.to(directions).T
        return out

    def _place(self, i: int) -> tuple[Path, int]:
        assert self.folder is not None
        shard, within = divmod(i, self.per_shard)
        return self.folder / f"features-{shard:05d}.f32", within * self.block * self.k * 4

    def _keep(self, i: int, features: Tensor) -> None:
        own = self.rows(i)
        if features.shape != (own.stop - own.start, self.k):
            raise BadRequest(
                f"the features of rows {own.start} to {own.stop - 1} have shape "
                f"{tuple(features.shape)}; {own.stop - own.start} rows of {self.k} numbers are "
                "needed: one row per training row, after the projection"
            )
        if not math.isfinite(float(features.abs().amax())):
            raise BadRequest(
                f"gradients of rows {own.start} to {own.stop - 1} are NaN or infinite at this "
                "checkpoint; look at the model's outputs for these rows"
            )
        if self.folder is None:
            self.held[i] = features.detach()
            return
        data = np.ascontiguousarray(features.detach().cpu().numpy(), dtype="<f4")
        try:
            # written, not mapped: a full disk then says so in place of ending the process
            _write_at(*self._place(i), data.data)
            told = np.array([zlib.crc32(data.data) + 1], dtype="<i8")
            _write_at(self.folder / "done.i64", 8 * i, told.data)
        except OSError as failure:
            raise _unwritten(self.folder, failure) from failure


def featurise(
    run: TrainingRun, measure: Measure, projection: Projection, folder: Path | None = None
) -> Store:
    """The projected gradients of a measure of all training rows, at the end of a run."""
    net, params, rows = run.net, run.final, run.recipe.rows

    def make(own: slice) -> Float[Tensor, "row k"]:
        return projection(each(net, params, measure, *rows.take(own)))

    block = min(rows_at_once(net, params), BLOCK)
    origin = Origin.of(run, params, measure, projection)
    return Store(rows.n, projection.size(net.size), block, origin, folder).fill(make)


def _open(folder: Path, header: dict[str, Any], blocks: int) -> None:
    """Begins a store, or checks that the one there is this one and whole."""
    path = folder / "header.json"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "done.i64").write_bytes(bytes(8 * blocks))
            draft = folder / ".header.part"
            draft.write_text(json.dumps(header, indent=1, sort_keys=True), encoding="utf-8")
            draft.rename(path)
        except OSError as failure:
            raise _unwritten(folder, failure) from failure
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        done = (folder / "done.i64").stat().st_size
    except (OSError, ValueError, RecursionError) as failure:
        raise _damaged(folder, str(failure)) from failure
    if not isinstance(found, dict) or found.get("kind") != header["kind"]:
        raise BadRequest(f"{path} is no header of a gradient store; choose another folder")
    _same(folder, found, header)
    if done != 8 * blocks:
        raise _damaged(folder, f"done.i64 has {done} bytes in place of {8 * blocks}")


def _same(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuses a store of something else, and says what differs."""
    origin = found.get("origin")
    held = origin if isinstance(origin, dict) else {}
    pairs = [(name, held.get(name), told) for name, told in asked["origin"].items()]
    pairs += [(name, found.get(name), asked[name]) for name in asked if name != "origin"]
    for name, there, here in pairs:
        if there != here:
            what = WORDS.get(name, name)
            raise BadRequest(
                f"{folder} holds gradients of another {what}: it was made for {_short(there)}, and "
                f"{_short(here)} is asked. Give every {what} its own folder, or delete this one"
            )


WORDS = {
    "rows": "set of training rows", "parameters": "choice of parameters", "k": "feature length",
    "block": "block length", "shard": "file length",
}  # fmt: skip


def _short(x: object) -> str:
    """Enough of it to tell it from another."""
    text = " ".join(str(x).split())
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"


def _checksum(folder: Path, i: int) -> int | None:
    """The checksum of a finished block; None = not finished."""
    with (folder / "done.i64").open("rb") as file:
        file.seek(8 * i)
        told = int.from_bytes(file.read(8), "little")
    return told - 1 if told else None


def _write_at(path: Path, at: int, data: memoryview) -> None:
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(at)
        file.write(data)


def _damaged(folder: Path, why: str) -> BadRequest:
    return BadRequest(
        f"the gradient store in {folder} is damaged: {why}. Delete the folder, and the gradients "
        "are computed again"
    )


def _unwritten(folder: Path, failure: OSError) -> BadRequest:
    return BadRequest(
        f"cannot write gradients to {folder}: {failure.strerror or failure}. Blocks finished so "
        "far stay; make room or choose another folder, and ask again: it goes on after them"
    )
