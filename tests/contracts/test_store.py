"""The gradient store: goes on after a kill with the same bits, and is refused for anything it was
not made of.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import apportion as ap
from apportion.training import (
    Constant,
    Identity,
    Rademacher,
    Recipe,
    Rows,
    SparseJL,
    TrainingRun,
    cross_entropy,
    featurise,
    margin,
    train,
)
from apportion.training import store as stores
from apportion.training.store import Origin, Store
from tests.small import close, normal, seeded

N = 23


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(stores, "BLOCK", 4)
    monkeypatch.setattr(stores, "SHARD", 2 * 4 * 4 * 5)  # two blocks of 5 numbers a row


def made(seed: int = 0, shift: float = 0.0, act: type = nn.Tanh) -> TrainingRun:
    x = normal(N, 6, seed=1, dtype=torch.float32)
    x[0, 0] += shift
    recipe = Recipe(
        build=lambda: seeded(
            lambda: nn.Sequential(nn.Linear(6, 5), act(), nn.Linear(5, 3)), seed, torch.float32
        ),
        rows=Rows(x, torch.arange(N) % 3), loss=cross_entropy, schedule=Constant(0.1), epochs=1,
    )  # fmt: skip
    return train(recipe, seed=seed, keep=1)


def told(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def content(store: Store) -> torch.Tensor:
    return torch.cat([features for _, features in store])


def killed_after(monkeypatch, blocks: int, failure: BaseException) -> None:
    """The gradient of the next block raises."""
    real, calls = stores.each, []

    def each(*given: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) > blocks:
            raise failure
        return real(*given)

    monkeypatch.setattr(stores, "each", each)


@pytest.mark.parametrize("projection", [Rademacher(5), SparseJL(5), Identity()])
def test_disk_and_memory_hold_the_same_bits(tmp_path, projection) -> None:
    run = made()
    kept, held = (featurise(run, margin, projection, folder) for folder in (tmp_path, None))
    assert torch.equal(content(kept), content(held))
    assert content(held).shape == (N, projection.size(run.net.size))
    u = normal(3, kept.k)
    close(kept.scores(u), u @ content(held).double().T, atol=1e-12)


@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
@pytest.mark.parametrize("failure", [RuntimeError("stopped"), KeyboardInterrupt()])
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, monkeypatch, blocks, failure) -> None:
    run, a, b = made(), tmp_path / "a", tmp_path / "b"
    featurise(run, margin, Rademacher(5), a)
    with monkeypatch.context() as inside, pytest.raises(type(failure)):
        killed_after(inside, blocks, failure)
        featurise(run, margin, Rademacher(5), b)
    left = -(-N // 4) - blocks
    with monkeypatch.context() as inside:
        killed_after(inside, left, AssertionError("finished blocks are not made again"))
        featurise(run, margin, Rademacher(5), b)
    assert told(a) == told(b)


def test_a_block_cut_off_while_being_written_is_made_again(tmp_path, monkeypatch) -> None:
    run, a, b = made(), tmp_path / "a", tmp_path / "b"
    featurise(run, margin, Rademacher(5), a)
    with monkeypatch.context() as inside, pytest.raises(RuntimeError):
        killed_after(inside, 3, RuntimeError("stopped"))
        featurise(run, margin, Rademacher(5), b)
    with (b / "features-00001.f32").open("ab") as file:
        file.write(b"half a block")
    featurise(run, margin, Rademacher(5), b)
    assert told(a) == told(b)


def test_files_are_split_into_shards_of_whole_blocks(tmp_path) -> None:
    featurise(made(), margin, Rademacher(5), tmp_path)
    shards = sorted(tmp_path.glob("*.f32"))
    sizes = [path.stat().st_size for path in shards]
    assert [path.name for path in shards] == [f"features-0000{i}.f32" for i in range(3)]
    assert sizes == [2 * 4 * 5 * 4, 2 * 4 * 5 * 4, (N - 16) * 5 * 4]


OTHERS = {
    "set of training rows": lambda f: featurise(made(shift=1.0), margin, Rademacher(5), f),
    "checkpoint": lambda f: featurise(made(seed=1), margin, Rademacher(5), f),
    "model": lambda f: featurise(made(act=nn.Sigmoid), margin, Rademacher(5), f),
    "measure": lambda f: featurise(made(), cross_entropy, Rademacher(5), f),
    "projection": lambda f: featurise(made(), margin, Rademacher(5, seed=1), f),
}


@pytest.mark.parametrize("what", list(OTHERS))
def test_a_store_of_something_else_is_refused(tmp_path, what) -> None:
    featurise(made(), margin, Rademacher(5), tmp_path)
    before = told(tmp_path)
    with pytest.raises(ap.BadRequest, match=r"gradients of another .* its own folder") as refusal:
        OTHERS[what](tmp_path)
    assert f"another {what}" in str(refusal.value)
    assert told(tmp_path) == before


def test_other_parameters_are_refused(tmp_path) -> None:
    kept = featurise(made(), margin, Rademacher(5), tmp_path)
    other = replace(kept.origin, parameters=("2.weight",))
    with pytest.raises(ap.BadRequest, match="choice of parameters"):
        Store(kept.n, kept.k, kept.block, other, tmp_path)
    with pytest.raises(ap.BadRequest, match="another block length: it was made for 4, and 8"):
        Store(kept.n, kept.k, 8, kept.origin, tmp_path)


def spoil(path: Path, how: str) -> None:
    blob = path.read_bytes()
    if how == "truncated":
        path.write_bytes(blob[: len(blob) - 7])
    elif how == "changed":
        path.write_bytes(blob[:9] + bytes([blob[9] ^ 1]) + blob[10:])
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\x00not json")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("features-00002.f32", "truncated"), ("features-00000.f32", "truncated"),
        ("features-00001.f32", "changed"), ("features-00001.f32", "missing"),
        ("done.i64", "truncated"), ("done.i64", "changed"), ("done.i64", "missing"),
        ("header.json", "truncated"), ("header.json", "garbage"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, name, how) -> None:
    run = made()
    featurise(run, margin, Rademacher(5), tmp_path)
    spoil(tmp_path / name, how)
    with pytest.raises(ap.BadRequest, match=r"damaged.*Delete the folder"):
        content(featurise(run, margin, Rademacher(5), tmp_path))


@pytest.mark.parametrize("text", ["[1]", '{"kind": "something else"}'])
def test_a_foreign_header_is_refused(tmp_path, text) -> None:
    (tmp_path / "header.json").write_text(text)
    (tmp_path / "done.i64").write_bytes(b"")
    with pytest.raises(ap.BadRequest, match="choose another folder"):
        featurise(made(), margin, Rademacher(5), tmp_path)


def test_a_full_disk_is_said_and_finished_blocks_stay(tmp_path, monkeypatch) -> None:
    """A limit on the size of a file stands for the disk: the system refuses the write likewise."""
    monkeypatch.setattr(stores, "SHARD", 2**40)
    run = made()
    whole = content(featurise(run, margin, Identity()))
    size = 4 * whole.shape[1] * 4  # bytes of a block
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * size + size // 2, hard))
    try:
        with pytest.raises(ap.BadRequest, match="make room") as refusal:
            featurise(run, margin, Identity(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "finished so far stay" in str(refusal.value)
    with monkeypatch.context() as inside:
        killed_after(inside, -(-N // 4) - 3, AssertionError("three blocks are there"))
        again = featurise(run, margin, Identity(), tmp_path)
    assert torch.equal(content(again), whole)


def test_a_folder_that_cannot_be_made_is_said(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ap.BadRequest, match="choose another folder"):
        featurise(made(), margin, Rademacher(5), tmp_path / "file")


def plain_store(folder: Path | None) -> Store:
    origin = Origin(rows="", checkpoint="", model="", parameters=(), projection="", measure="")
    return Store(6, 5, 4, origin, folder)


@pytest.mark.parametrize("on_disk", [True, False])
def test_features_of_the_wrong_kind_are_refused(tmp_path, on_disk) -> None:
    folder = tmp_path if on_disk else None
    with pytest.raises(ap.BadRequest, match="rows of 5 numbers"):
        plain_store(folder).fill(lambda own: torch.zeros(own.stop - own.start, 6))
    with pytest.raises(ap.BadRequest, match="NaN or infinite"):
        plain_store(folder).fill(lambda own: torch.full((own.stop - own.start, 5), torch.nan))


def test_an_unfinished_block_is_not_read(tmp_path) -> None:
    with pytest.raises(ap.BadRequest, match="was not finished"):
        plain_store(tmp_path).read(1)
    with pytest.raises(ap.BadRequest, match="was not finished"):
        plain_store(None).read(1)


def test_rows_are_featurised_by_their_own_gradient() -> None:
    run = made()
    found = content(featurise(run, margin, Identity()))
    x, y = run.recipe.rows.take(slice(None))
    model = run.model()
    for i in (0, 7, N - 1):
        value = margin(model(x[i : i + 1]), y[i : i + 1])[0]
        slopes = torch.autograd.grad(value, list(model.parameters()))
        close(found[i], torch.cat([s.flatten() for s in slopes]), atol=1e-5)
