"""A folder holds one result: saving another kind there takes the first away, or leaves it whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from pathlib import Path

import pytest

import apportion as ap
from apportion.explanation import KEPT
from apportion.files import KINDS
from tests.report import made
from tests.small import table_game


def crossed() -> ap.Pairs:
    credit = ap.attribute(table_game(ap.values.Embedding()), ap.LeaveOneOut())
    return ap.pairs(credit, credit)


MADE: dict[str, Callable] = {
    "attribution": lambda: ap.attribute(table_game(), ap.LeaveOneOut()),
    "interactions": lambda: ap.attribute(table_game(), ap.SecondDifference()),
    "pairs": crossed,
    "explanation": made.plainly,
}
result = cache(lambda kind: MADE[kind]())
TWO = list(permutations(MADE, 2))


def files(kind: str) -> list[str]:
    return [f"{kind}.json", f"{kind}.safetensors"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_that_is_loaded_is_known() -> None:
    assert set(KINDS) == {*KEPT, "explanation"} == set(MADE)


@pytest.mark.parametrize(("first", "second"), product(MADE, MADE))
def test_what_was_saved_last_is_loaded(first, second, tmp_path) -> None:
    (tmp_path / "mine.json").write_text("mine")
    for kind in (first, second):
        result(kind).save(tmp_path)
        assert names(tmp_path) == sorted(["mine.json", *files(kind)])
        back = ap.load(tmp_path)
        assert type(back) is type(result(kind)) and str(back) == str(result(kind))
    assert (tmp_path / "mine.json").read_text() == "mine"


class Stopped(BaseException):
    """As an interruption is."""


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize(("first", "second"), TWO)
def test_a_folder_can_be_loaded_wherever_saving_stops(
    first, second, step, tmp_path, monkeypatch
) -> None:
    """Before each change of the folder in turn: two drafts, two new names, two old files."""
    result(first).save(tmp_path)
    done: list[str] = []

    def stopping(method: str) -> Callable:
        real = getattr(Path, method)

        def called(path: Path, *args: object, **options: object) -> object:
            tidied = path.suffix == ".part" and method == "unlink"
            if not tidied and (path.exists() or method == "write_bytes"):
                if len(done) == step:
                    raise Stopped
                done.append(method)
            return real(path, *args, **options)

        return called

    with monkeypatch.context() as patch:
        for method in ("write_bytes", "replace", "unlink"):
            patch.setattr(Path, method, stopping(method))
        try:
            result(second).save(tmp_path)
        except Stopped:
            assert step < 6
        else:
            assert len(done) == 6
    back = ap.load(tmp_path)
    assert str(back) in (str(result(first)), str(result(second)))
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize("kind", MADE)
def test_a_full_disk_leaves_what_was_there(kind, tmp_path, monkeypatch) -> None:
    before = result("attribution")
    before.save(tmp_path)

    def full(path: Path, blob: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ap.BadRequest, match="No space left on device"):
            result(kind).save(tmp_path)
    assert names(tmp_path) == files("attribution")
    assert str(ap.load(tmp_path)) == str(before)
