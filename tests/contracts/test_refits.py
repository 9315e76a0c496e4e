"""Many trainings at once are those one would have run one by one, and outlive a kill."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from apportion.training import SGD, Adam, AdamW, Constant, Cosine, Recipe, Rows, train
from apportion.training import refit as refits
from apportion.training.data import Queries
from apportion.training.fingerprint import of_code
from apportion.training.measures import cross_entropy, margin, squared_error
from apportion.training.optim import Optimiser
from apportion.training.refit import BlackBox, Refits
from apportion.types import BadRequest
from tests.contracts.test_training import N, convolutional, perceptron, recipe, rows
from tests.small import close, normal, seeded

MODELS = {"perceptron": perceptron, "convolutional": convolutional}
models = pytest.mark.parametrize("model", list(MODELS))
methods = pytest.mark.parametrize(
    "method", [SGD(momentum=0.9, weight_decay=1e-2), Adam(eps=1e-4), AdamW(eps=1e-4)]
)


def subsets(*sizes: int) -> Tensor:
    """Random rows present, one subset per size."""
    rng = Generator().manual_seed(5)
    order = torch.rand(len(sizes), N, generator=rng).argsort(1)
    return (order < torch.tensor(sizes)[:, None]).double()


def single(of: Recipe, kept: Tensor, seed: int) -> Tensor:
    """torch alone, on some rows, from the start and in the order of the seed."""
    model, order = seeded(of.build, seed), of.batches(seed, kept > 0)
    kind, options = {
        SGD: (torch.optim.SGD, {}), Adam: (torch.optim.Adam, {}), AdamW: (torch.optim.AdamW, {}),
    }[type(of.optimiser)]  # fmt: skip
    told = of.optimiser
    if isinstance(told, SGD):
        options = {"momentum": told.momentum}
    else:
        options = {"betas": told.betas, "eps": told.eps}
    optimiser = kind(model.parameters(), lr=1.0, weight_decay=told.weight_decay, **options)
    for t, rate in enumerate(of.schedule.rates(order.steps)):
        x, y = of.rows.take(order.index[t][order.present[t]])
        assert bool((kept[order.index[t][order.present[t]]] > 0).all())
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.param_groups[0]["lr"] = float(rate)
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@models
@methods
def test_a_batch_of_refits_is_the_same_as_single_trainings(model: str, method: Optimiser) -> None:
    of = recipe(method, MODELS[model])
    weights, seeds = subsets(N, 11, 11, 5, 1), torch.tensor([0, 1, 1, 2, 0])
    ends = Refits(of).params(weights, seeds)
    for end, kept, seed in zip(ends, weights, seeds, strict=True):
        close(end, single(of, kept, int(seed)), atol=1e-10)


@models
@methods
def test_stepping_together_and_one_after_the_other_is_the_same(
    model: str, method: Optimiser
) -> None:
    of = recipe(method, MODELS[model])
    weights, seeds = subsets(N, 11, 5), torch.tensor([0, 1, 2])
    starts = [of.begin(int(s)) for s in seeds]
    stacked = {k: torch.stack([p[k] for p in starts]) for k in of.net.names}
    plan = refits.plan_of(of, weights, seeds, "left out")
    at_once = of.stepper.together(stacked, plan, of.rows.take)
    in_turn = of.stepper.each(stacked, plan, of.rows.take)
    close(of.net.flat(at_once), of.net.flat(in_turn), atol=1e-10)


def test_a_refit_on_no_row_is_the_start_and_on_all_rows_the_training() -> None:
    of = recipe()
    none, full = Refits(of).params(subsets(0, N), torch.tensor([3, 3]))
    close(none, of.net.flat(of.begin(3)), atol=0)
    close(full, of.net.flat(train(of, seed=3).final), atol=1e-12)


@models
@methods
def test_reweighted_refits_replay_the_run_with_those_weights(model: str, method: Optimiser) -> None:
    of = recipe(method, MODELS[model])
    weights = torch.cat([subsets(11, 4), normal(2, N, seed=2).abs()])
    seeds = torch.tensor([0, 1, 0, 1])
    ends = Refits(of, "reweighted").params(weights, seeds)
    for end, own, seed in zip(ends, weights, seeds, strict=True):
        close(end, of.net.flat(train(of, seed=int(seed)).replay(own)), atol=1e-10)


def test_narrow_models_stay_narrow() -> None:
    """Also where a parameter is a single number, which wider rates would widen."""
    of = Recipe(
        build=lambda: perceptron().float(), rows=Rows(rows().input.float(), rows().label),
        loss=cross_entropy, optimiser=SGD(momentum=0.9), epochs=3, batch=6,
    )  # fmt: skip
    ends = Refits(of).params(subsets(N, 9), torch.tensor([0, 0]))
    assert ends.dtype == torch.float32
    close(ends[0], of.net.flat(train(of).final), atol=1e-5)


def test_values_are_those_of_the_trained_models() -> None:
    of, asked = recipe(), Queries(normal(4, 5, seed=8), torch.tensor([0, 1, 2, 0]))
    weights, seeds = subsets(12, 7), torch.tensor([0, 1])
    told = Refits(of).values(weights, seeds, asked)
    for row, end in zip(told, Refits(of).params(weights, seeds), strict=True):
        model = of.net.with_params(of.net.named(end))
        close(row, margin(model(asked.input), asked.label).detach())


# --- on disk ---

SEVEN = (subsets(11, 9, 7, 5, 3, 12, 2), torch.tensor([0, 1, 0, 1, 0, 1, 0]))


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch) -> None:
    monkeypatch.setattr(refits, "TOGETHER", 2)


def test_a_killed_sequence_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    told = Refits(recipe()).params(*SEVEN)
    first, fit, done = Refits(recipe(), folder=tmp_path), Refits._fit, []

    def dying(self: Refits, weights: Tensor, seeds: Tensor) -> Tensor:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(weights))
        return fit(self, weights, seeds)

    monkeypatch.setattr(Refits, "_fit", dying)
    with pytest.raises(KeyboardInterrupt):
        first.params(*SEVEN)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    (tmp_path / ".0123.part").write_bytes(b"half a file")  # of a kill while writing
    again = []

    def counting(self: Refits, weights: Tensor, seeds: Tensor) -> Tensor:
        again.append(len(weights))
        return fit(self, weights, seeds)

    monkeypatch.setattr(Refits, "_fit", counting)
    second = Refits(recipe(), folder=tmp_path).params(*SEVEN)
    assert torch.equal(second, told)
    assert sum(done) + sum(again) == 7
    third = Refits(recipe(), folder=tmp_path).params(*SEVEN)
    assert torch.equal(third, told)
    assert sum(done) + sum(again) == 7


def test_soft_weights_are_kept_as_they_are(tmp_path: Path) -> None:
    weights, seeds = torch.cat([subsets(5), normal(1, N, seed=2).abs()]), torch.tensor([0, 0])
    told = Refits(recipe(), "reweighted", tmp_path).params(weights, seeds)
    other = Refits(recipe(), "reweighted", tmp_path)
    assert len(other.known) == 2
    assert torch.equal(other.params(weights, seeds), told)
    assert len(other.known) == 2


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    Refits(recipe(), folder=tmp_path).params(SEVEN[0][:2], SEVEN[1][:2])
    return tmp_path


def moved() -> Rows:
    x = rows().input.clone()
    x[0, 0] += 1e-9
    return Rows(x, rows().label)


CHANGES = {
    "optimiser": {"optimiser": SGD()},
    "schedule": {"schedule": Constant(0.1)},
    "epochs": {"epochs": 4},
    "batch": {"batch": 7},
    "rows": {"rows": moved()},
    "loss": {"loss": margin},
    "model": {"build": convolutional},
    "start": {"start": recipe().begin(0)},
    "other start": {"start": recipe().begin(1)},
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_refits_of_another_recipe_are_refused(kept: Path, change: str) -> None:
    with pytest.raises(BadRequest, match="another recipe"):
        Refits(replace(recipe(), **CHANGES[change]), folder=kept)
    Refits(recipe(), folder=kept)


def test_refits_of_other_semantics_or_another_order_are_refused(tmp_path: Path, kept: Path) -> None:
    with pytest.raises(BadRequest, match="other semantics"):
        Refits(recipe(), "reweighted", kept)
    one, other = (replace(recipe(), order=recipe().batches(s)) for s in (0, 1))
    folder = tmp_path / "ordered"
    Refits(one, "reweighted", folder).params(SEVEN[0][:2], SEVEN[1][:2])
    with pytest.raises(BadRequest, match="another recipe"):
        Refits(other, "reweighted", folder)


def test_a_loss_is_told_by_what_it_does_not_by_where_it_lies() -> None:
    def told(loss: object) -> str:
        return Refits(replace(recipe(), loss=loss)).digest

    def made(power: int) -> object:
        return (lambda out, y: squared_error(out, F.one_hot(y, 3)) ** 2) if power == 2 else (
            lambda out, y: squared_error(out, F.one_hot(y, 3)) ** 3
        )  # fmt: skip

    assert told(made(2)) == told(made(2)) != told(made(3))
    loss = partial(F.cross_entropy, reduction="none")
    assert "0x" in repr(loss)
    assert "0x" not in of_code(loss)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_file_is_refused_by_name(kept: Path, harm: str) -> None:
    (path,) = kept.glob("*.safetensors")
    blob = bytearray(path.read_bytes())
    if harm == "cut":
        blob = blob[:-7]
    else:
        blob[-7] ^= 1
    path.write_bytes(blob)
    with pytest.raises(BadRequest, match=f"{path.name} is damaged"):
        Refits(recipe(), folder=kept)


def test_a_training_that_is_only_a_function_is_refitted() -> None:
    of = recipe()

    def fit(weights: Tensor, seed: int) -> nn.Module:
        return train(replace(of, rows=Rows(*of.rows.take(weights > 0))), seed=seed).model()

    weights, seeds = subsets(12, 7), torch.tensor([0, 1])
    box = Refits(BlackBox(fit, N, "perceptron on 22 rows"))
    close(box.params(weights, seeds), Refits(of).params(weights, seeds), atol=1e-10)


def test_weights_that_are_none_and_trainings_that_diverge_are_refused() -> None:
    weights = subsets(5, 5)
    for bad in (-1.0, float("nan")):
        weights[0, 0] = bad
        with pytest.raises(BadRequest, match="at least 0"):
            Refits(recipe()).params(weights, torch.tensor([0, 0]))
    wild = replace(recipe(SGD()), loss=lambda out, y: out.square().sum(-1), schedule=Cosine(1e6))
    with pytest.raises(BadRequest, match="2 of 2 trainings on other rows diverged"):
        Refits(wild).params(subsets(20, 20), torch.tensor([0, 1]))
    with pytest.raises(BadRequest, match="at least 1"):
        recipe(epochs=0)
