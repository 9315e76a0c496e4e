"""The verb and its answer: the same question gives the same bits, and files tell when they lie."""

from __future__ import annotations

import gc
import hashlib
import json
import pickle
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

import apportion as ap
from apportion.attribution import Attribution
from apportion.files import _digest
from apportion.games import Ledger, counted, toy
from apportion.players import same
from tests.contracts.made import WRAPPED, Counting, asking, mixed, stochastic, tiny
from tests.small import IDS, close, cnn, decoder, normal, table_game

WEIGHTS = torch.tensor([0.5, -3.0, 2.0, 0.0])


def credit_of(*scores: float, **more: Tensor) -> Attribution:
    return Attribution(torch.tensor(scores), toy.additive(torch.tensor(scores)).players, **more)


# -- the verb


def test_the_same_seed_and_batches_give_the_same_bits() -> None:
    for estimator in (ap.PermutationShapley(orders=4), ap.KernelShap(samples=40)):
        ask = lambda seed, e=estimator: ap.attribute(table_game(), e, seed=seed, chunk=3)
        one, two, other = ask(1), ask(1), ask(2)
        assert torch.equal(one.scores, two.scores) and torch.equal(one.error, two.error)
        assert not torch.equal(one.scores, other.scores)


def test_the_global_random_state_plays_no_part() -> None:
    before = torch.get_rng_state()
    first = ap.attribute(table_game(), ap.PermutationShapley(orders=4)).scores
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = ap.attribute(table_game(), ap.PermutationShapley(orders=4)).scores
    close(first, second, atol=1e-12)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("estimator", [ap.LeaveOneOut, ap.Gradient, ap.PathIntegral])
def test_a_class_is_no_estimator(estimator) -> None:
    with pytest.raises(ap.BadRequest, match=rf"make one: {estimator.__name__}\(\)"):
        ap.attribute(table_game(), estimator)


def test_the_answer_says_where_it_came_from() -> None:
    game = table_game(ap.values.Margin(2))
    credit = ap.attribute(game, ap.PermutationShapley(orders=4), seed=7, chunk=3)
    about = credit.provenance
    assert about.game == game.describe()
    assert (about.estimator, about.seed) == (repr(ap.PermutationShapley(orders=4)), 7)
    assert (about.exact, about.draws, about.chunk) == (True, 1, {"value": 3, "grad": 3})
    assert about.versions["torch"] == torch.__version__
    assert about.seconds > 0
    assert credit.players is game.players


def test_the_counted_cost_is_what_the_model_was_asked() -> None:
    model = tiny(Counting)
    game = asking(model)
    del model.rows[:]
    credit = ap.attribute(game, ap.LeaveOneOut())
    assert credit.cost == ap.Cost(evaluations=sum(model.rows)) == ap.Cost(evaluations=7)


@pytest.mark.parametrize("name", WRAPPED)
def test_any_wrapped_game_can_be_attributed(name) -> None:
    game = WRAPPED[name]()
    full = game.value(torch.ones(1, game.players.n, dtype=torch.bool))[0]
    left = game.value(~torch.eye(game.players.n, dtype=torch.bool))
    close(ap.attribute(game, ap.LeaveOneOut()).scores, full - left, atol=1e-12)


def test_a_step_is_no_absence() -> None:
    game = table_game(removal=ap.Blend(ap.removals.step()))
    with pytest.raises(ap.BadRequest, match=r"undefined under step\(1\.0\).*Gradient\(\)"):
        ap.attribute(game, ap.PermutationShapley(orders=2))
    credit = ap.attribute(game, ap.Gradient())
    x = game.question.call.args[0].clone().requires_grad_()
    game.question.model(x)[0, 1].backward()
    close(credit.scores, x.grad[0])
    game.question.model.zero_grad(set_to_none=True)


# -- reading the answer


def test_the_leaders_are_the_largest_by_size_or_the_most_positive() -> None:
    credit = credit_of(0.5, -3.0, 2.0, 0.0, error=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert [c.score for c in credit.top(3)] == [-3.0, 2.0, 0.5]
    assert [c.score for c in credit.top(3, signed=True)] == [2.0, 0.5, 0.0]
    assert [c.name for c in credit.top(1)] == ["player 1"]
    assert len(credit.top(99)) == 4
    first = credit.top(1)[0]
    assert credit["player 1"] == credit[1] == first
    assert first.error == pytest.approx(0.2) and first.kind == "player"
    with pytest.raises(ap.BadRequest, match="'nobody'"):
        credit["nobody"]


def test_the_credit_of_one_kind_is_its_part_of_the_scores() -> None:
    credit = ap.attribute(mixed(), ap.PermutationShapley(orders=4))
    parts = credit.by("column"), credit.by("neuron")
    assert torch.equal(torch.cat([p.scores for p in parts]), credit.scores)
    assert torch.equal(torch.cat([p.error for p in parts]), credit.error)
    assert parts[0].players.n == 6 and set(parts[1].players.kinds) == {"neuron"}
    close(parts[0].sum() + parts[1].sum(), credit.sum())
    assert parts[1].full is credit.full
    with pytest.raises(ap.BadRequest, match=r"'head'.*'column', 'neuron'"):
        credit.by("head")


def test_the_gap_is_what_the_sum_misses_and_only_where_it_is_promised() -> None:
    game = toy.moebius(5, 3, torch.Generator().manual_seed(0))
    shapley = ap.attribute(game, ap.PermutationShapley(orders=2))
    close(shapley.gap, shapley.full - shapley.none - shapley.sum())
    close(shapley.gap, torch.tensor(0.0))
    off = replace(shapley, scores=shapley.scores + 1)
    close(off.gap, torch.tensor(-5.0))
    assert replace(shapley, none=None).gap is None
    assert ap.attribute(game, ap.LeaveOneOut()).gap is None
    bent = replace(shapley, provenance=replace(shapley.provenance, exact=False))
    assert bent.gap is None


def test_one_output_of_several_is_that_of_the_picked_game() -> None:
    game = table_game(ap.values.Logit((0, 2)), instances=3)
    credit = ap.attribute(game, ap.PermutationShapley(orders=4))
    for i, j in ((0, 1), (2, 0)):
        one = credit.pick(i, j)
        alone = ap.attribute(ap.picked(game, i, j), ap.PermutationShapley(orders=4))
        for field in ("scores", "none", "full", "error", "gap"):
            close(getattr(one, field), getattr(alone, field), atol=1e-12)
        close(credit.pick(i).pick(j).scores, one.scores)
    close(credit.sum(), credit.scores.sum(-1))


@pytest.mark.parametrize("index", [(9,), (0, 2), (0, 0, 0), (0, 0, 0, 0), (-4,)])
def test_outputs_that_do_not_exist_cannot_be_picked(index) -> None:
    credit = ap.attribute(table_game(ap.values.Logit((0, 2)), instances=3), ap.LeaveOneOut())
    with pytest.raises(ap.BadRequest, match=r"outputs of shape \(3, 2\)"):
        credit.pick(*index)


@pytest.mark.parametrize("what", ["top", "to_frame", "[0]"])
def test_what_needs_one_output_says_so(what) -> None:
    credit = ap.attribute(table_game(ap.values.Logit((0, 2))), ap.LeaveOneOut())
    ask = {"top": credit.top, "to_frame": credit.to_frame, "[0]": lambda: credit[0]}
    with pytest.raises(ap.BadRequest, match=r"\(2,\).*credit\.pick"):
        ask[what]()
    assert "credit.pick" in str(credit)


def test_a_frame_has_one_row_per_player() -> None:
    with_error = credit_of(*WEIGHTS.tolist(), error=torch.full((4,), 0.25)).to_frame()
    assert list(with_error.columns) == ["player", "kind", "score", "error"]
    assert list(with_error.score) == WEIGHTS.tolist()
    assert list(with_error.player) == [f"player {i}" for i in range(4)]
    assert set(with_error.error) == {0.25}
    assert credit_of(1.0, 2.0).to_frame().error.isna().all()


def test_credit_below_its_own_error_is_called_noise() -> None:
    quiet, loud = torch.full((4,), 0.1), torch.full((4,), 2.0)
    assert not credit_of(*WEIGHTS.tolist(), error=quiet).noise
    assert credit_of(*WEIGHTS.tolist(), error=loud).noise
    assert not credit_of(*WEIGHTS.tolist()).noise
    assert "noise" in str(credit_of(*WEIGHTS.tolist(), error=loud))
    assert "noise" not in str(credit_of(*WEIGHTS.tolist(), error=quiet))


# -- files


@cache
def saved() -> dict[str, Attribution]:
    lm, x, model = decoder(), normal(1, 2, 8, 8), cnn()
    heads = ap.players.tokens(lm, IDS) | ap.players.heads(lm, count=2)
    cells = ap.players.patches(x, 4) | ap.players.channels(model, "4")
    draws = ap.attribute(stochastic(), ap.KernelShap(samples=12), seed=3, chunk=2)
    noted = replace(draws.provenance, notes=("a note", "\u201cquoted\u201d \U0001f600"))
    return {
        "text": ap.attribute(asking(lm, IDS, players=heads), ap.PermutationShapley(orders=2)),
        "picture": ap.attribute(asking(model, x, players=cells), ap.Gradient()),
        "several": ap.attribute(table_game(instances=2), ap.LeaveOneOut()),
        "draws": replace(draws, provenance=noted),
        "bare": credit_of(1.0, 2.0),
    }


@pytest.mark.parametrize("name", ["text", "picture", "several", "draws", "bare"])
def test_what_is_saved_is_what_is_loaded(name, tmp_path) -> None:
    credit = saved()[name]
    back = ap.load(credit.save(tmp_path / "a" / "b"))
    for field in ("scores", "none", "full", "error"):
        ours, theirs = getattr(credit, field), getattr(back, field)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), field
    assert same(credit.players, back.players)
    assert (credit.cost, credit.provenance) == (back.cost, back.provenance)
    assert str(credit) == str(back)
    for kind, shape in credit.players.geometry.items():
        read = back.players.geometry[kind]
        assert (shape.view, shape.site, shape.grid, shape.shown) == (
            read.view, read.site, read.grid, read.shown,
        )  # fmt: skip
        assert (shape.picture is None) == (read.picture is None)
        assert shape.picture is None or torch.equal(shape.picture, read.picture)


def test_nothing_in_the_files_is_a_pickle(tmp_path) -> None:
    folder = saved()["picture"].save(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == [
        "attribution.json",
        "attribution.safetensors",
    ]
    for path in folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(path.read_bytes())
    assert json.loads((folder / "attribution.json").read_text())["format"] == 1
    assert "scores" in load((folder / "attribution.safetensors").read_bytes())


def body(folder: Path) -> dict:
    return json.loads((folder / "attribution.json").read_text(encoding="utf-8"))


def rewrite(folder: Path, content: dict, *, forged: bool = False) -> None:
    if forged:  # somebody who knows how checksums are made
        content.pop("checksum", None)
        content["checksum"] = _digest(content)
    (folder / "attribution.json").write_text(json.dumps(content), encoding="utf-8")


def cut(folder: Path, name: str, share: float) -> None:
    blob = (folder / name).read_bytes()
    (folder / name).write_bytes(blob[: int(len(blob) * share)])


def flip(folder: Path) -> None:
    blob = bytearray((folder / "attribution.safetensors").read_bytes())
    blob[-1] ^= 1
    (folder / "attribution.safetensors").write_bytes(bytes(blob))


def rename(folder: Path) -> None:
    content = body(folder)
    content["facts"]["players"]["names"][0] = "somebody else"
    rewrite(folder, content)


def other_format(folder: Path) -> None:
    rewrite(folder, {**body(folder), "format": 2}, forged=True)


def fact_missing(folder: Path) -> None:
    content = body(folder)
    del content["facts"]["provenance"]["estimator"], content["facts"]["players"]
    rewrite(folder, content, forged=True)


def no_scores(folder: Path) -> None:
    path = folder / "attribution.safetensors"
    tensors = load(path.read_bytes())
    del tensors["scores"]
    path.write_bytes(save(tensors))
    content = body(folder)
    content["tensors"] = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(folder, content, forged=True)


DAMAGE = {
    "json cut short": lambda f: cut(f, "attribution.json", 0.5),
    "json empty": lambda f: cut(f, "attribution.json", 0),
    "tensors cut short": lambda f: cut(f, "attribution.safetensors", 0.9),
    "tensors empty": lambda f: cut(f, "attribution.safetensors", 0),
    "tensors gone": lambda f: (f / "attribution.safetensors").unlink(),
    "one bit flipped": flip,
    "a name changed": rename,
    "another format": other_format,
    "a list": lambda f: rewrite(f, []),
    "facts missing, checksum forged": fact_missing,
    "scores missing, checksum forged": no_scores,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_and_tampered_files_are_refused(damage, tmp_path) -> None:
    folder = saved()["bare"].save(tmp_path)
    DAMAGE[damage](folder)
    with pytest.raises(ap.BadRequest):
        ap.load(folder)


def test_folders_without_an_answer_are_refused(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ap.BadRequest, match="neither"):
            ap.load(path)
    taken = tmp_path / "file"
    taken.write_text("here")
    with pytest.raises(ap.BadRequest, match="cannot write"):
        saved()["bare"].save(taken)


def test_answers_do_not_keep_the_model_alive() -> None:
    model = tiny(Counting)
    credit = ap.attribute(counted(asking(model), Ledger()), ap.LeaveOneOut())
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None
    assert credit.scores.shape == (6,)


@pytest.mark.parametrize(
    ("estimator", "unit"),
    [
        (ap.Gradient(), " value"),
        (ap.GradientMoment(samples=8, start=0.0), " value²"),  # a variance
        (ap.Sobol(samples=8, designs=2), ""),  # a share
        (ap.Hsic(samples=16), ""),
    ],
)
def test_scores_have_the_unit_of_what_they_measure(estimator, unit, tmp_path) -> None:
    game = ap.toy.moebius(4, 2, torch.Generator().manual_seed(0))
    credit = ap.attribute(game, estimator)
    line = str(credit).splitlines()[1]
    assert line.split(" \u00b1 ")[0].endswith(unit if unit else tuple("0123456789"))
    assert ap.load(credit.save(tmp_path / "credit")).provenance.measure == unit.strip()


def test_a_lifted_function_is_called_by_its_name() -> None:
    """Not by an address, which differs from run to run."""

    def halves(game, rng):
        return ap.Attribution.of(game, torch.zeros(game.players.n))

    lifted = ap.from_function(halves, lambda n: ap.Cost(evaluations=0))
    credit = ap.attribute(ap.toy.additive(torch.ones(3)), lifted)
    assert credit.provenance.estimator == "halves"
    assert repr(ap.from_function(halves, lambda n: ap.Cost(), name="mine")) == "mine"
