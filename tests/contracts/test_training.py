"""A training is told again: by replay as torch took it, from a user's own loop, and by refits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from apportion.training import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    record,
    train,
)
from apportion.training.optim import Optimiser
from apportion.training.refit import Refits
from apportion.types import BadRequest
from tests.small import close, normal, seeded, untouched

N = 22


class Scaled(nn.Module):
    """Has a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def perceptron(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    layers = [nn.Linear(5, 4), nn.Tanh(), Scaled(), nn.Linear(4, 3)]
    layers[2:2] = [nn.Dropout(dropout)] if dropout else []
    layers[1:1] = [nn.BatchNorm1d(4)] if norm else []
    return nn.Sequential(*layers).double()


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(),
        nn.Conv1d(4, 2, 3), nn.MaxPool1d(3), nn.Flatten(), nn.Linear(2, 3),
    ).double()  # fmt: skip


def rows(n: int = N) -> Rows:
    return Rows(normal(n, 5, seed=1), torch.arange(n) % 3)


def recipe(
    optimiser: Optimiser | None = None, build: object = perceptron, epochs: int = 3
) -> Recipe:
    return Recipe(
        build=build, rows=rows(), loss=cross_entropy, batch=6, epochs=epochs,
        optimiser=optimiser or SGD(momentum=0.9, weight_decay=1e-2),
        schedule=Cosine(0.1, floor=0.01, warmup=0.2),
    )  # fmt: skip


PAIRS = {
    "sgd": (SGD(), torch.optim.SGD, {}),
    "momentum": (
        SGD(momentum=0.9, weight_decay=0.03), torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 0.03},
    ),
    "adam": (
        Adam(betas=(0.8, 0.95), weight_decay=0.02), torch.optim.Adam,
        {"betas": (0.8, 0.95), "weight_decay": 0.02},
    ),
    "adamw": (AdamW(weight_decay=0.1, eps=1e-6), torch.optim.AdamW, {
        "weight_decay": 0.1, "eps": 1e-6,
    }),
}  # fmt: skip
pairs = pytest.mark.parametrize("pair", list(PAIRS))


@pairs
def test_every_step_is_that_of_torch(pair: str) -> None:
    ours, kind, options = PAIRS[pair]
    run = train(recipe(ours), seed=3)
    model = seeded(perceptron, 3)
    optimiser = kind(model.parameters(), lr=1.0, **options)
    told = run.states()
    next(told)
    for t, state in enumerate(told):
        own = run.batches.index[t][run.batches.present[t]]
        x, y = run.recipe.rows.take(own)
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.param_groups[0]["lr"] = float(run.rates[t])
        optimiser.step()
        for name, p in model.named_parameters():
            close(state.params[name], p.detach(), atol=1e-12)
    assert t == run.steps - 1


@pairs
@pytest.mark.parametrize("early", [True, False])  # the scheduler steps before tape.step, or after
def test_a_plain_loop_is_recorded_and_replays(pair: str, early: bool) -> None:
    _, kind, options = PAIRS[pair]
    model, data = seeded(perceptron, 1), rows()
    optimiser = kind(model.parameters(), lr=0.05, **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12)
    tape = record(model, data, loss=cross_entropy, optimiser=optimiser, every=5)
    rng, rates = Generator().manual_seed(0), []
    for _ in range(12):
        index = torch.randperm(N, generator=rng)[: 5 + len(rates) % 3]
        optimiser.zero_grad()
        F.cross_entropy(model(data.input[index]), data.label[index]).backward()
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        if early:
            schedule.step()
        tape.step(index.tolist() if early else index)
        if not early:
            schedule.step()
    run = tape.run(check=True)
    assert run.steps == 12
    assert sorted(run.checkpoints) == [0, 5, 10, 12]
    close(run.rates, torch.tensor(rates, dtype=torch.float64))
    for name, p in model.named_parameters():
        close(run.replay()[name], p.detach(), atol=1e-12)
        close(dict(run.model().named_parameters())[name], p.detach(), atol=0)
    told = list(run.states())
    for t, params in run.checkpoints.items():
        close(run.net.flat(params), run.net.flat(told[t].params), atol=1e-12)
    # the reaches are those of the same training run here
    reaches = [
        run.recipe.optimiser.reach(s, float(r), t)
        for t, (s, r) in enumerate(zip(told[1:], run.rates, strict=True))
    ]
    close(run.reaches, torch.tensor(reaches, dtype=torch.float64), rtol=1e-9)


def loop(tape: object, model: nn.Module, optimiser: torch.optim.Optimizer, data: Rows) -> None:
    for index in torch.arange(N).split(6):
        optimiser.zero_grad()
        F.cross_entropy(model(data.input[index]), data.label[index]).backward()
        optimiser.step()
        tape.step(index)


def recorded(build: object = None) -> TrainingRun:
    model = seeded(perceptron, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    with record(model, rows(), loss=cross_entropy, optimiser=optimiser, build=build) as tape:
        loop(tape, model, optimiser, rows())
    return tape.run(check=True)


def test_refits_of_a_recorded_run_start_as_it_did_or_by_seed() -> None:
    own, anew = recorded().recipe, recorded(perceptron).recipe
    assert all(torch.equal(own.begin(0)[k], p) for k, p in own.begin(5).items())
    for seed in (0, 5):
        told = seeded(perceptron, seed).state_dict()
        assert all(torch.equal(told[k], p) for k, p in anew.begin(seed).items())


def test_reweighted_refits_of_a_recorded_run_keep_its_order() -> None:
    run = recorded()
    weights = normal(2, N, seed=4).abs()
    ends = Refits(run.recipe, "reweighted").params(weights, torch.tensor([0, 7]))
    for w, end in zip(weights, ends, strict=True):
        close(end, run.net.flat(run.replay(w)), atol=1e-10)


def test_recording_leaves_the_model_and_the_optimiser_as_they_were() -> None:
    model = seeded(perceptron)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    with untouched(model):
        with record(model, rows(), loss=cross_entropy, optimiser=optimiser):
            assert len(optimiser._optimizer_step_post_hooks) == 1
        assert not optimiser._optimizer_step_post_hooks


def test_layers_that_draw_or_count_are_recorded_only_while_inactive() -> None:
    model, data = seeded(lambda: perceptron(0.5, True)), rows()  # in evaluation mode
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    tape = record(model, data, loss=cross_entropy, optimiser=optimiser)
    loop(tape, model, optimiser, data)
    tape.run(check=True)
    model.train()
    with torch.random.fork_rng(devices=[]), pytest.raises(BadRequest, match="cannot be replayed"):
        loop(tape, model, optimiser, data)


def start(
    model: nn.Module | None = None, optimiser: object = None, **options: object
) -> tuple[object, nn.Module, torch.optim.Optimizer]:
    model = model or seeded(perceptron)
    optimiser = optimiser or torch.optim.SGD(model.parameters(), lr=0.05)
    options = {"loss": cross_entropy, **options}
    return record(model, rows(), optimiser=optimiser, **options), model, optimiser


@pytest.mark.parametrize("broken", [{"dropout": 0.5}, {"norm": True}])
def test_active_layers_are_refused_at_once(broken: dict) -> None:
    with pytest.raises(BadRequest, match=r"get_submodule\('1'\)\.eval\(\)|get_submodule\('2'\)"):
        start(seeded(lambda: perceptron(**broken)).train())


def test_a_mean_loss_is_refused() -> None:
    with pytest.raises(BadRequest, match="reduction='none'"):
        start(loss=F.cross_entropy)
    with pytest.raises(BadRequest, match="reduction='none'"):
        replace(recipe(), loss=F.cross_entropy)


def test_an_order_that_was_not_the_loops_is_refused() -> None:
    tape, model, optimiser = start()
    data, order = rows(), torch.randperm(N, generator=Generator().manual_seed(1))
    for told, used in zip(torch.arange(N).split(6), order.split(6), strict=True):
        optimiser.zero_grad()
        F.cross_entropy(model(data.input[used]), data.label[used]).backward()
        optimiser.step()
        tape.step(told)
    assert tape.run(check=False).steps == 4
    with pytest.raises(BadRequest, match="does not replay"):
        tape.run(check=True)


class Noisy(nn.Linear):
    """Draws at random without saying so by its type."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5))


def test_hidden_randomness_is_refused_before_the_first_step() -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(BadRequest, match="drawn at random"):
        start(seeded(lambda: Noisy(5, 3)))


def test_steps_without_rows_and_rows_without_steps_are_refused() -> None:
    tape, model, optimiser = start()
    with pytest.raises(BadRequest, match="nothing was recorded"):
        tape.run()
    with pytest.raises(BadRequest, match="took 0 steps and 1 were"):
        tape.step([0])
    model(rows().input).sum().backward()
    optimiser.step()
    with pytest.raises(BadRequest, match="took 1 steps and 0 were"):
        tape.run()
    optimiser.step()
    with pytest.raises(BadRequest, match="took 2 steps and 1 were"):
        tape.step([0])


@pytest.mark.parametrize(
    "index",
    [[], [N], [-1], torch.ones(1, 2).long(), torch.tensor([0.5]), torch.ones(N, dtype=torch.bool)],
)
def test_what_is_no_list_of_row_numbers_is_refused(index: object) -> None:
    tape, model, optimiser = start()
    model(rows().input).sum().backward()
    optimiser.step()
    with pytest.raises(BadRequest, match=r"tape\.step"):
        tape.step(index)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1}),
        (torch.optim.SGD, {"maximize": True}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_optimisers_without_a_translation_are_refused(kind: type, options: dict) -> None:
    model = seeded(perceptron)
    with pytest.raises(BadRequest, match="cannot be replayed"):
        start(model, kind(model.parameters(), lr=0.1, **options))


def test_optimisers_that_do_not_hold_the_model_are_refused() -> None:
    model = seeded(perceptron)
    groups = [{"params": [p]} for p in model.parameters()]
    with pytest.raises(BadRequest, match="5 groups"):
        start(model, torch.optim.SGD(groups, lr=0.1))
    with pytest.raises(BadRequest, match="not stepped"):
        start(model, torch.optim.SGD(list(model.parameters())[1:], lr=0.1))
    more = [*model.parameters(), nn.Parameter(normal(2))]
    with pytest.raises(BadRequest, match="1 tensors that are not"):
        start(model, torch.optim.SGD(more, lr=0.1))
    used = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(rows().input).sum().backward()
    used.step()
    with pytest.raises(BadRequest, match="stepped already"):
        start(model, used)
    _, model, optimiser = start()
    optimiser.param_groups[0]["weight_decay"] = 0.5
    model(rows().input).sum().backward()
    with pytest.raises(BadRequest, match="options changed"):
        optimiser.step()


def test_a_build_of_another_model_is_refused() -> None:
    with pytest.raises(BadRequest, match="does not make the recorded model"):
        start(build=convolutional)
    frozen = seeded(perceptron)
    frozen[0].requires_grad_(False)

    def build() -> nn.Module:
        model = perceptron()
        model[0].requires_grad_(False)
        return model

    with pytest.raises(BadRequest, match=r"frozen '0\.weight' differs"):
        start(seeded(build, 3), build=build)
    start(seeded(build, 0), build=build)
    with pytest.raises(BadRequest, match="does not make"):
        start(frozen, build=perceptron)
    with pytest.raises(BadRequest, match="every=0"):
        start(every=0)


# --- rows ---


class Pairs(Dataset):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], int(self.y[i])


class Columns(Pairs):
    def __getitem__(self, i: int) -> dict:
        return {"ids": self.x[i], "mask": 2 * self.x[i], "label": int(self.y[i])}


def test_rows_are_the_same_however_they_are_given() -> None:
    x, y = rows().take(slice(None))
    told = Rows(x, y).digest
    assert Rows.of((x, y)).digest == told
    assert Rows.of(Pairs(x, y)).digest == told
    assert Rows.of(Columns(x, y), input="ids", label="label").digest == told
    both = Rows.of(Columns(x, y), input=["ids", "mask"], label="label")
    assert torch.equal(both.input["mask"], 2 * x)
    assert Rows(x.flip(0), y).digest != told
    with pytest.raises(BadRequest, match="ids, mask, label"):
        Rows.of(Columns(x, y))
    with pytest.raises(BadRequest, match="no column 'text'"):
        Rows.of(Columns(x, y), input="text", label="label")


def test_rows_that_do_not_match_or_are_none_are_refused() -> None:
    with pytest.raises(BadRequest, match="different numbers of rows"):
        Rows(normal(3, 5), torch.zeros(4))
    with pytest.raises(BadRequest, match="empty"):
        Rows(normal(0, 5), torch.zeros(0))
    with pytest.raises(BadRequest, match="empty"):
        Rows.of(Pairs(normal(0, 5), torch.zeros(0)))
    with pytest.raises(BadRequest, match=r"give \(x, y\)"):
        Rows.of(7)
