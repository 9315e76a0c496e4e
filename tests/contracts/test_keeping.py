"""A run on disk is the run that was kept, or it is refused with the name of what is wrong."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from apportion.training import (
    SGD,
    AdamW,
    Constant,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    keeping,
    load,
    margin,
    recipe_of,
    record,
    save,
    train,
)
from apportion.types import BadRequest
from tests.contracts.test_training import N, convolutional, loop, perceptron, recipe, rows
from tests.small import seeded


def same(a: TrainingRun, b: TrainingRun) -> None:
    """Bit for bit."""
    assert a.checkpoints.keys() == b.checkpoints.keys()
    for t, params in a.checkpoints.items():
        assert params.keys() == b.checkpoints[t].keys()
        assert all(torch.equal(p, b.checkpoints[t][k]) for k, p in params.items())
        assert all(p.dtype == b.checkpoints[t][k].dtype for k, p in params.items())
    for x, y in (
        (a.batches.index, b.batches.index), (a.batches.present, b.batches.present),
        (a.rates, b.rates), (a.reaches, b.reaches),
    ):  # fmt: skip
        assert torch.equal(x, y)
        assert x.dtype == y.dtype
    assert (a.seed, a.seconds, a.steps) == (b.seed, b.seconds, b.steps)


@pytest.fixture
def run() -> TrainingRun:
    return train(recipe(), seed=4)


@pytest.fixture
def folder(run: TrainingRun, tmp_path: Path) -> Path:
    return save(run, tmp_path / "run")


def recorded() -> TrainingRun:
    model = seeded(perceptron, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    with record(model, rows(), loss=cross_entropy, optimiser=optimiser, every=2) as tape:
        loop(tape, model, optimiser, rows())
    return tape.run()


def test_a_kept_run_comes_back_whole(run: TrainingRun, folder: Path) -> None:
    back = load(folder, recipe())
    same(run, back)
    back.verify(1e-12)


def test_a_recorded_run_comes_back_with_its_recipe(tmp_path: Path) -> None:
    run = recorded()
    save(run, tmp_path)
    told = recipe_of(tmp_path, build=perceptron, rows=rows(), loss=cross_entropy)
    assert (told.optimiser, told.schedule) == (run.recipe.optimiser, run.recipe.schedule)
    back = load(tmp_path, told)
    same(run, back)
    back.verify(1e-12)
    assert torch.equal(told.batches(0).index, run.batches.index)


def test_a_run_saved_over_another_replaces_it(folder: Path) -> None:
    other = train(recipe(), seed=5, keep=2)
    save(other, folder)
    same(other, load(folder, recipe()))
    assert len(list(folder.iterdir())) == 5  # facts, batches and three checkpoints


def test_files_of_others_stay(run: TrainingRun, folder: Path) -> None:
    (folder / "mine.safetensors").write_bytes(b"mine")
    save(run, folder)
    assert (folder / "mine.safetensors").read_bytes() == b"mine"


class Frozen(nn.Module):
    """Has a buffer that is read."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.net = perceptron()
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + self.shift)


def moved() -> Rows:
    x = rows().input.clone()
    x[0, 0] += 1e-9
    return Rows(x, rows().label)


CHANGES = {
    "optimiser options momentum 0.9": {"optimiser": SGD(weight_decay=1e-2)},
    "optimiser name SGD, the recipe name AdamW": {"optimiser": AdamW()},
    "schedule name": {"schedule": Constant(0.1)},
    "epochs 3, the recipe 4": {"epochs": 4},
    "batch 6, the recipe 7": {"batch": 7},
    "other training rows": {"rows": moved()},
    "has loss": {"loss": margin},
    "of another model": {"build": convolutional},
    "one start": {"start": recipe().begin(0)},
}


@pytest.mark.parametrize("told", list(CHANGES))
def test_a_run_of_another_recipe_is_refused(folder: Path, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        load(folder, replace(recipe(), **CHANGES[told]))


def test_a_run_of_other_frozen_values_start_or_order_is_refused(tmp_path: Path) -> None:
    def shifted(by: float) -> Recipe:
        return recipe(build=lambda: Frozen(by))

    save(train(shifted(0.5)), tmp_path / "a")
    load(tmp_path / "a", shifted(0.5))
    with pytest.raises(BadRequest, match="frozen parameters or buffers differ"):
        load(tmp_path / "a", shifted(0.25))
    run = recorded()
    save(run, tmp_path / "b")
    with pytest.raises(BadRequest, match="other parameters"):
        load(tmp_path / "b", replace(run.recipe, start=recipe().begin(8)))
    with pytest.raises(BadRequest, match="another order"):
        load(tmp_path / "b", replace(run.recipe, order=recipe(epochs=1).batches(3)))


def test_missing_and_damaged_files_are_refused_by_name(folder: Path) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        blob = path.read_bytes()
        for harmed in (blob[:-9], blob[:-1] + bytes([blob[-1] ^ 1]), b""):
            path.write_bytes(harmed)
            with pytest.raises(BadRequest, match=f"{path.name} is damaged"):
                load(folder, recipe())
        path.unlink()
        with pytest.raises(BadRequest, match=f"cannot read .*{path.name}"):
            load(folder, recipe())
        path.write_bytes(blob)
    load(folder, recipe())


def test_facts_that_are_not_ours_are_refused(folder: Path) -> None:
    path = folder / "run.json"
    text = path.read_text()
    body = json.loads(text)
    for told, match in (
        (text[:-20], "cannot read"),
        ("[]", "no apportion training-run"),
        (json.dumps({**body, "format": 2}), "another version"),
        (json.dumps({**body, "facts": {**body["facts"], "seed": 9}}), "checksum differs"),
    ):
        path.write_text(told)
        with pytest.raises(BadRequest, match=match):
            load(folder, recipe())
    lacking = {k: v for k, v in body.items() if k not in ("facts", "checksum")} | {"facts": {}}
    path.write_text(json.dumps({**lacking, "checksum": keeping._checksum(lacking)}))
    with pytest.raises(BadRequest, match="lacks 'rows'"):
        load(folder, recipe())
    with pytest.raises(BadRequest, match="lacks"):
        recipe_of(folder, build=perceptron, rows=rows(), loss=cross_entropy)
    path.unlink()
    with pytest.raises(BadRequest, match="cannot read"):
        load(folder, recipe())


@pytest.mark.parametrize("after", [0, 3])  # files that still fit
def test_a_full_disk_is_told_and_the_run_before_stays(
    run: TrainingRun, folder: Path, monkeypatch, after: int
) -> None:
    sync, done = keeping.os.fsync, []

    def full(handle: int) -> None:
        if len(done) == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(handle)
        sync(handle)

    monkeypatch.setattr(keeping.os, "fsync", full)
    with pytest.raises(BadRequest, match="No space left on device"):
        save(train(recipe(), seed=5), folder)
    assert not list(folder.glob(".*"))
    same(run, load(folder, recipe()))


def test_a_folder_that_cannot_be_made_is_told(run: TrainingRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="cannot keep the run in"):
        save(run, tmp_path / "file")


class Opaque:
    def rates(self, steps: int) -> torch.Tensor:
        return torch.full((steps,), 0.1, dtype=torch.float64)


@dataclass(frozen=True)
class Halving:
    rate: float

    def rates(self, steps: int) -> torch.Tensor:
        return self.rate * 0.5 ** torch.arange(steps, dtype=torch.float64)


def test_schedules_of_ones_own_are_kept_if_their_options_are_known(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="Opaque cannot be kept"):
        save(train(replace(recipe(), schedule=Opaque())), tmp_path)
    own = replace(recipe(), schedule=Halving(0.2))
    run = train(own)
    save(run, tmp_path)
    same(run, load(tmp_path, own))
    with pytest.raises(BadRequest, match=r"rate 0\.2, .* 0\.3"):
        load(tmp_path, replace(own, schedule=Halving(0.3)))
    with pytest.raises(BadRequest, match="Halving, which is not one of"):
        recipe_of(tmp_path, build=perceptron, rows=rows(), loss=cross_entropy)
    assert run.recipe.rows.n == N
