"""A user's own PyTorch loop, recorded so that it can be replayed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..types import BadRequest
from .data import PerExample, Rows
from .net import Net, repeatable
from .optim import SGD, Adam, AdamW, Optimiser, Params, Recorded, State
from .run import Batches, Recipe, TrainingRun, seeded

Build = Callable[[], nn.Module]


def record(
    model: nn.Module,
    rows: Rows,
    *,
    loss: PerExample,
    optimiser: torch.optim.Optimizer,
    every: int = 100,
    build: Build | None = None,
) -> Tape:
    """A tape that listens to a training loop, from before its first step.

        tape = record(model, rows, loss=cross_entropy, optimiser=optimiser)
        for index in loader:                        # row numbers
            loss(model(rows.input[index]), rows.label[index]).mean().backward()
            optimiser.step()
            tape.step(index)                        # the rows this step read
            optimiser.zero_grad()
        run = tape.run()

    model      the module being trained; the tape reads it and changes nothing
    loss       loss(output, label) -> (row,); the loop descends its mean over the rows of a step
    optimiser  torch.optim.SGD, Adam or AdamW with one group of parameters
    every      steps between two kept checkpoints
    build      makes untrained models for refits by seed; None = refits start where this loop did
    """
    if every < 1:
        raise BadRequest(f"record(every={every}): a checkpoint is kept every 1 or more steps")
    method = translated(optimiser)
    _check_held(model, optimiser)
    blank = copy.deepcopy(model)
    blank.zero_grad(set_to_none=True)
    start = Net(model).own
    if build is not None:
        _check_built(blank, seeded(build, 0))
    recipe = Recipe(
        build=build if build is not None else lambda: copy.deepcopy(blank),
        rows=rows,
        loss=loss,
        optimiser=method,
        start=start if build is None else None,
    )
    return Tape(model, optimiser, recipe, every, {0: start})


@dataclass(eq=False)
class Tape:
    """What has been recorded so far; also a context manager, which stops listening at its end.

    Learning rates are read while the optimiser steps, so a scheduler may step before or after
    `step`.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    recipe: Recipe
    every: int
    checkpoints: dict[int, Params]
    rates: list[float] = field(default_factory=list)  # of every step of the optimiser
    reaches: list[float] = field(default_factory=list)
    batches: list[Tensor] = field(default_factory=list)  # of every recorded step
    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    handle: RemovableHandle = field(init=False)

    def __post_init__(self) -> None:
        self.handle = self.optimiser.register_step_post_hook(self._stepped)

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening to the optimiser; what was recorded stays."""
        self.handle.remove()

    def step(self, index: Tensor | Sequence[int]) -> None:
        """The rows, by number, whose mean loss the optimiser has just stepped down."""
        repeatable(self.model)  # a loop may call model.train() after the recording began
        self._check_count(len(self.batches) + 1)
        self.batches.append(_row_numbers(index, self.recipe.rows.n))
        if len(self.batches) % self.every == 0:
            self.checkpoints[len(self.batches)] = Net(self.model).own
        self.seconds = time.perf_counter() - self.begun

    def run(self, *, check: bool = True) -> TrainingRun:
        """The training so far. It is replayed, which takes about as long as it took, and refused if
        it does not end where the loop did; check=False leaves that out.
        """
        self._check_count(len(self.batches))
        steps = len(self.batches)
        if not steps:
            raise BadRequest(
                "nothing was recorded; call tape.step(rows) after each optimiser.step()"
            )
        read = sum(len(own) for own in self.batches)
        order = Batches.of(self.batches)
        recipe = replace(
            self.recipe,
            schedule=Recorded(tuple(self.rates)),
            epochs=max(round(read / self.recipe.rows.n), 1),
            batch=max(len(own) for own in self.batches),
            order=order,
        )
        run = TrainingRun(
            recipe,
            0,
            order,
            torch.tensor(self.rates, dtype=torch.float64),
            torch.tensor(self.reaches, dtype=torch.float64),
            {**self.checkpoints, steps: Net(self.model).own},
            self.seconds,
        )
        if check:
            run.verify()
        return run

    def _stepped(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Called by the optimiser after each of its steps."""
        now, method = translated(optimiser), self.recipe.optimiser
        if now != method:
            raise BadRequest(
                f"the optimiser's options changed during the loop, from {method} to {now}; only "
                "the learning rate may change. Record each stage by itself"
            )
        t, rate = len(self.rates), float(optimiser.param_groups[0]["lr"])
        self.rates.append(rate)
        self.reaches.append(method.reach(_memory(self.model, optimiser), rate, t))

    def _check_count(self, recorded: int) -> None:
        taken = len(self.rates)
        if taken != recorded:
            raise BadRequest(
                f"the optimiser took {taken} steps and {recorded} were recorded; call "
                "tape.step(rows) exactly once after each optimiser.step()"
            )


def _memory(model: nn.Module, optimiser: torch.optim.Optimizer) -> State:
    """The running squares of the gradients, where the optimiser keeps them."""
    seen = {
        name: optimiser.state[p]["exp_avg_sq"]
        for name, p in model.named_parameters()
        if p in optimiser.state and "exp_avg_sq" in optimiser.state[p]
    }
    return State({}, {"square": seen} if seen else {})


def translated(optimiser: torch.optim.Optimizer) -> Optimiser:
    """The same optimiser as a pure function; one that cannot be replayed is refused."""
    kind, groups = type(optimiser), optimiser.param_groups
    if kind not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        raise BadRequest(
            f"{kind.__module__}.{kind.__name__} cannot be replayed; record torch.optim.SGD, Adam "
            "or AdamW, or give the whole training as a function: training.refit.BlackBox"
        )
    if len(groups) != 1:
        raise BadRequest(
            f"the optimiser has {len(groups)} groups of parameters, and a replay steps all by one "
            f"rate: torch.optim.{kind.__name__}(model.parameters(), lr=...)"
        )
    group = groups[0]
    for name in ("dampening", "nesterov", "maximize", "amsgrad"):
        if group.get(name):
            raise BadRequest(
                f"torch.optim.{kind.__name__}({name}={group[name]}) cannot be replayed; leave "
                f"{name} out"
            )
    decay = float(group["weight_decay"])
    if kind is torch.optim.SGD:
        return SGD(momentum=float(group["momentum"]), weight_decay=decay)
    one, two = group["betas"]
    adam = AdamW if group.get("decoupled_weight_decay", kind is torch.optim.AdamW) else Adam
    return adam(betas=(float(one), float(two)), eps=float(group["eps"]), weight_decay=decay)


def _check_held(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """The optimiser is fresh and steps all free parameters of the model, and no others."""
    if optimiser.state:
        raise BadRequest(
            "the optimiser has stepped already, and a recording begins before the first step: make "
            "the optimiser anew, then record(...)"
        )
    held = {id(p) for p in optimiser.param_groups[0]["params"]}
    named = dict(model.named_parameters())
    idle = [name for name, p in named.items() if p.requires_grad and id(p) not in held]
    if idle:
        raise BadRequest(
            f"{len(idle)} parameters with requires_grad, such as {idle[0]!r}, are not stepped by "
            "the optimiser; give it model.parameters(), or freeze them: p.requires_grad_(False)"
        )
    foreign = held - {id(p) for p in named.values()}
    if foreign:
        raise BadRequest(
            f"the optimiser steps {len(foreign)} tensors that are not parameters of the model; "
            "register them in one module and record that"
        )


def _check_built(model: nn.Module, built: nn.Module) -> None:
    """`build` makes models that differ from the recorded one in their free parameters alone."""
    told, seen = _layout(model), _layout(built)
    odd = sorted(set(told.items()) ^ set(seen.items()))
    if odd:
        raise BadRequest(
            f"build() does not make the recorded model: they differ in {odd[0][0]!r}, {odd[0][1]}. "
            "Give the function that made this model, with the same parameters frozen, or build=None"
        )
    free, fixed = set(Net(model).names), built.state_dict()
    for name, x in model.state_dict().items():
        if name not in free and not torch.equal(x, fixed[name]):
            raise BadRequest(
                f"build() makes a model whose frozen {name!r} differs from the recorded model's; "
                "load the same values in build()"
            )


def _layout(model: nn.Module) -> dict[str, str]:
    """Shape and kind of every tensor of a model."""
    free = set(Net(model).names)
    return {
        name: f"{tuple(x.shape)} of {x.dtype}, {'free' if name in free else 'fixed'}"
        for name, x in model.state_dict().items()
    }


def _row_numbers(index: Tensor | Sequence[int], n: int) -> Tensor:
    """One step's row numbers as a tensor of its own."""
    rows = torch.as_tensor(index).detach().cpu()
    whole = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    if rows.ndim != 1 or not len(rows) or not whole:
        raise BadRequest(
            f"tape.step takes the numbers of the rows of one step, (row,), such as "
            f"tensor([4, 0, 7]); got {tuple(rows.shape)} of {rows.dtype}. Loop over "
            "DataLoader(range(n), batch_size=..., shuffle=True)"
        )
    if int(rows.min()) < 0 or int(rows.max()) >= n:
        raise BadRequest(
            f"tape.step got row numbers from {int(rows.min())} to {int(rows.max())}; there are {n} "
            f"rows, 0 to {n - 1}"
        )
    return rows.long().clone()
