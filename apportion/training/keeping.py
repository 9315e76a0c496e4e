"""A recorded training on disk: facts as json, numbers as safetensors. Reading never runs code."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed
from torch import Tensor, nn

from ..types import BadRequest
from .data import PerExample, Rows
from .fingerprint import of_code, of_module
from .optim import SGD, Adam, AdamW, Constant, Cosine, Params, Recorded
from .run import Batches, Recipe, TrainingRun

FORMAT = 1
KIND = "training-run"
# what a recipe can be told from; names in a file select among these and nothing else
OPTIMISERS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
SCHEDULES = {"Constant": Constant, "Cosine": Cosine, "Recorded": Recorded}


def save(run: TrainingRun, folder: str | Path) -> Path:
    """Writes a run into a folder: run.json, one file per checkpoint, one for the batches.

    run.json names the others by their checksum and is written last, so a run saved there before
    stays readable until this one is whole. Size: checkpoints x parameters.
    """
    home = Path(folder)
    facts = {**_of_recipe(run.recipe), "seed": run.seed, "seconds": run.seconds}
    path = home / "run.json"
    try:
        home.mkdir(parents=True, exist_ok=True)
        files = {name: _write_tensors(home, name, told) for name, told in _parts(run)}
        body = {"format": FORMAT, "kind": KIND, "facts": facts, "files": files}
        body["checksum"] = _checksum(body)
        _write(path, json.dumps(body, indent=1).encode())
    except OSError as failure:
        raise BadRequest(
            f"cannot keep the run in {home}: {failure.strerror or failure}. A run kept there "
            "before is still whole; make room or choose another folder, and save again"
        ) from failure
    kept = {_file(name, digest) for name, digest in files.items()}
    for old in home.glob("*.safetensors"):
        if old.name not in kept and old.name.startswith(("step-", "batches-")):
            old.unlink(missing_ok=True)
    return home


def load(folder: str | Path, recipe: Recipe) -> TrainingRun:
    """The run kept in a folder, if it is one of this recipe: same rows, model, optimiser, schedule,
    epochs and batch; damaged or missing files are refused by name.
    """
    home = Path(folder)
    body = _body(home)
    with _asking(home):
        facts, files = body["facts"], body["files"]
    own = _of_recipe(recipe)
    with _asking(home):
        _compare(home, facts, own)
        told = {name: _read_tensors(home, name, digest) for name, digest in files.items()}
        order = told.pop("batches")
        steps = {int(name.removeprefix("step-")): params for name, params in told.items()}
        device = next(iter(recipe.net.own.values())).device
        run = TrainingRun(
            recipe,
            facts["seed"],
            _order(order),
            order["rates"],
            order["reaches"],
            {t: {k: steps[t][k].to(device) for k in recipe.net.names} for t in sorted(steps)},
            facts["seconds"],
        )
    _check_whole(home, run)
    return run


def recipe_of(
    folder: str | Path, *, build: Callable[[], nn.Module], rows: Rows, loss: PerExample
) -> Recipe:
    """The recipe of a kept run, for `load`: optimiser, schedule, epochs, batch, recorded start and
    order are read from the folder; what is code or data is given.
    """
    home = Path(folder)
    body = _body(home)
    with _asking(home):
        facts, files = body["facts"], body["files"]
        start, order = None, None
        if facts["one start"]:
            start = _read_tensors(home, _step(0), files[_step(0)])
        if facts["one order"]:
            order = _order(_read_tensors(home, "batches", files["batches"]))
        known = {name: facts[name] for name in ("epochs", "batch")}
        optimiser = _made(facts["optimiser"], OPTIMISERS)
        schedule = _made(facts["schedule"], SCHEDULES)
    return Recipe(
        build=build,
        rows=rows,
        loss=loss,
        optimiser=optimiser,
        schedule=schedule,
        epochs=known["epochs"],
        batch=known["batch"],
        start=start,
        order=order,
    )


@contextmanager
def _asking(home: Path) -> Iterator[None]:
    """Inside, facts that are missing or of another kind are told as such."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as failure:
        raise BadRequest(
            f"{home / 'run.json'} lacks {failure}; it was not written by training.save"
        ) from failure


def _made(told: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]) -> Any:
    if told["name"] not in known:
        raise BadRequest(
            f"the run was trained with {told['name']}, which is not one of {', '.join(known)}; "
            "make its recipe by hand: Recipe(optimiser=..., schedule=...)"
        )
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in told["options"].items()}
    return known[told["name"]](**options)


@dataclass(frozen=True)
class _Fact:
    """What is compared, and what to do where it differs."""

    name: str
    remedy: str


FACTS = (
    _Fact("rows", "these are other training rows, or in another order; load the run's own"),
    _Fact("parameters", "the run is of another model; build the one it was trained on"),
    _Fact("fixed", "the run is of another model: frozen parameters or buffers differ; load them"),
    _Fact("optimiser", "give the recipe the run's optimiser"),
    _Fact("schedule", "give the recipe the run's schedule"),
    _Fact("epochs", "give the recipe the run's epochs"),
    _Fact("batch", "give the recipe the run's batch"),
    _Fact("loss", "give the recipe the loss the run was trained with"),
    _Fact("one start", "a run starts as built, or where Recipe(start=...) says; give the same"),
    _Fact("one order", "rows come shuffled by seed, or as Recipe(order=...) says; give the same"),
)


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain facts, equal for equal trainings."""
    net = recipe.net
    return {
        "rows": recipe.rows.digest,
        "parameters": {k: [str(p.dtype), list(p.shape)] for k, p in net.own.items()},
        "fixed": of_module(net.module),
        "optimiser": _options(recipe.optimiser),
        "schedule": _options(recipe.schedule),
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "loss": hashlib.sha256(of_code(recipe.loss).encode()).hexdigest(),
        "one start": recipe.start is not None,
        "one order": recipe.order is not None,
    }


def _order(told: Mapping[str, Tensor]) -> Batches:
    return Batches(told["index"], told["present"])


def _compare(home: Path, kept: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    own = json.loads(json.dumps(recipe))  # as it would have been read
    for fact in FACTS:
        told, asked = kept[fact.name], own[fact.name]
        if told != asked:
            was, now = _where(told, asked)
            raise BadRequest(
                f"the run kept in {home} has {fact.name} {was}, the recipe {now}: {fact.remedy}. "
                "training.recipe_of(folder, build=..., rows=..., loss=...) reads what the folder "
                "knows"
            )


def _where(told: Any, asked: Any) -> tuple[str, str]:
    """Both sides of a difference, short enough to read: of mappings the first differing entry."""
    if isinstance(told, dict) and isinstance(asked, dict):
        key = next(k for k in (*told, *asked) if told.get(k) != asked.get(k))
        was, now = _where(told.get(key), asked.get(key))
        return f"{key} {was}", f"{key} {now}"
    if isinstance(told, list) and isinstance(asked, list) and len(told) == len(asked) > 4:
        at = next(i for i, (a, b) in enumerate(zip(told, asked, strict=True)) if a != b)
        return f"{told[at]} at step {at}", f"{asked[at]}"
    return tuple(f"{text[:77]}..." if len(text) > 80 else text for text in map(str, (told, asked)))  # type: ignore[return-value]


def _options(part: Any) -> dict[str, Any]:
    """An optimiser or schedule by name and fields."""
    if not is_dataclass(part) or isinstance(part, type):
        raise BadRequest(
            f"{type(part).__name__} cannot be kept: its options are unknown. Make it a frozen "
            "dataclass whose fields are its options"
        )
    return {"name": type(part).__name__, "options": asdict(part)}


def _step(t: int) -> str:
    return f"step-{t:08d}"


def _parts(run: TrainingRun) -> Iterator[tuple[str, Params]]:
    """Everything of a run that is numbers, file by file."""
    order = run.batches
    yield (
        "batches",
        {
            "index": order.index,
            "present": order.present,
            "rates": run.rates,
            "reaches": run.reaches,
        },
    )
    for t, params in sorted(run.checkpoints.items()):
        yield _step(t), params


def _file(name: str, digest: str) -> str:
    return f"{name}-{digest[:16]}.safetensors"


def _write_tensors(home: Path, name: str, told: Params) -> str:
    """Writes one file of tensors, named by its checksum; the checksum."""
    # none share memory, which safetensors refuses
    blob = packed({k: x.detach().cpu().contiguous().clone() for k, x in told.items()})
    digest = hashlib.sha256(blob).hexdigest()
    _write(home / _file(name, digest), blob)
    return digest


def _write(path: Path, blob: bytes) -> None:
    """A file that is there whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(blob)
            out.flush()
            os.fsync(out.fileno())  # else a power cut can leave the name without the content
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read_tensors(home: Path, name: str, digest: str) -> dict[str, Tensor]:
    path = home / _file(name, digest)
    try:
        blob = path.read_bytes()
    except OSError as failure:
        raise BadRequest(
            f"cannot read {path}, which run.json names: {failure.strerror or failure}; the run is "
            "not whole. Copy the folder again, or train again and save"
        ) from failure
    if hashlib.sha256(blob).hexdigest() != digest:
        raise BadRequest(
            f"{path} is damaged: {len(blob):,} bytes whose checksum differs from the one in "
            "run.json. Copy the folder again, or train again and save"
        )
    try:
        return unpacked(blob)
    except SafetensorError as failure:
        raise BadRequest(f"{path} cannot be read: {failure}; train again and save") from failure


def _body(home: Path) -> dict[str, Any]:
    """What run.json says, its checksum checked."""
    path = home / "run.json"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as failure:
        raise BadRequest(
            f"cannot read {path}: {failure}; give the folder of training.save(run, folder)"
        ) from failure
    if not isinstance(body, dict) or body.get("kind") != KIND or body.get("format") != FORMAT:
        raise BadRequest(
            f"{path} is no apportion {KIND} of format {FORMAT}; it may come from another version. "
            "Train again and save"
        )
    claimed = body.pop("checksum", None)
    if claimed != _checksum(body):
        raise BadRequest(
            f"{path} is damaged or was changed after it was saved: its checksum differs. Copy the "
            "folder again, or train again and save"
        )
    return body


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _check_whole(home: Path, run: TrainingRun) -> None:
    """Start and end are there, every checkpoint has the model's parameters, and a recorded start
    and order are the recipe's.
    """
    missing = [_step(t) for t in (0, run.steps) if t not in run.checkpoints]
    if missing:
        raise BadRequest(f"{home / 'run.json'} names no {missing[0]}; train again and save")
    shapes = {k: p.shape for k, p in run.net.own.items()}
    for t, params in run.checkpoints.items():
        if {k: p.shape for k, p in params.items()} != shapes:
            raise BadRequest(
                f"{home / _step(t)} holds parameters of another model; train again and save"
            )
    start, order = run.recipe.start, run.recipe.order
    if order is not None and not (
        torch.equal(order.index, run.batches.index)
        and torch.equal(order.present, run.batches.present)
    ):
        raise BadRequest(
            f"the run kept in {home} read its rows in another order than Recipe(order=...); "
            "training.recipe_of(folder, ...) reads the run's own"
        )
    if start is not None and any(
        not torch.equal(p.cpu(), start[k].cpu()) for k, p in run.checkpoints[0].items()
    ):
        raise BadRequest(
            f"the run kept in {home} started from other parameters than Recipe(start=...); "
            "training.recipe_of(folder, ...) reads the run's own"
        )
