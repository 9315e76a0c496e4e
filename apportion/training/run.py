"""A training that can be told again: what it started from, which rows every step read, and how it
stepped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from ..progress import watched
from ..types import BadRequest
from .data import PerExample, Rows
from .net import Net, repeatable
from .optim import SGD, Constant, Optimiser, Params, Schedule, State
from .stepping import Batch, Stepper

PASSES = 4  # over the same rows, that must agree; each with a random state of its own
KEEP = 6  # checkpoints of a run, equally spaced


@dataclass(frozen=True, eq=False)
class Batches:
    """The rows of every step; steps of fewer rows are filled up with rows that count nothing."""

    index: Int[Tensor, "step row"]
    present: Bool[Tensor, "step row"]

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.index)

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> Batches:
        """From one tensor of row numbers per step."""
        width = max((len(r) for r in rows), default=1)
        index = torch.zeros(len(rows), width, dtype=torch.long)
        present = torch.zeros(len(rows), width, dtype=torch.bool)
        for t, own in enumerate(rows):
            index[t] = own[0]  # what fills up is read as well, so it is one of the step's own rows
            index[t, : len(own)] = own
            present[t, : len(own)] = True
        return cls(index, present)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe:
    """How a model is trained, up to a seed that chooses its start and the order of the rows."""

    build: Callable[[], nn.Module]  # makes an untrained model; its random start follows the seed
    rows: Rows
    loss: PerExample  # loss(output, label) -> (row,): one number per example, not their mean
    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = Constant(0.1)
    epochs: int = 10
    batch: int = 50
    start: Params | None = None  # where every training starts; None = as built, by seed
    order: Batches | None = None  # the rows of every step, as recorded; None = shuffled by seed

    def __post_init__(self) -> None:
        for name, given in (("epochs", self.epochs), ("batch", self.batch)):
            if given < 1:
                raise BadRequest(f"Recipe({name}={given}): at least 1 is needed")
        if not isinstance(self.rows, Rows):
            raise BadRequest(
                f"Recipe(rows=...) is a {type(self.rows).__name__}; make rows: "
                "training.Rows.of((x, y))"
            )
        self._check_loss()

    @cached_property
    def net(self) -> Net:
        """The model as a function of its parameters."""
        return Net(repeatable(seeded(self.build, 0)))

    @property
    def one(self) -> bool:
        """Whether every seed gives the same training: start and order are both recorded."""
        return self.start is not None and self.order is not None

    @cached_property
    def stepper(self) -> Stepper:
        """One step of the training as a function."""
        return Stepper(self.net, self.loss, self.optimiser)

    def begin(self, seed: int) -> dict[str, Tensor]:
        """The parameters a training with this seed starts from."""
        if self.start is not None:
            return {k: p.clone() for k, p in self.start.items()}
        return Net(seeded(self.build, seed)).own

    def batches(self, seed: int, keep: Bool[Tensor, "row"] | None = None) -> Batches:
        """The order of the rows by seed: every epoch shuffles all of them, or those kept."""
        if keep is None and self.order is not None:
            return self.order
        rng = Generator().manual_seed(seed)
        among = torch.arange(self.rows.n) if keep is None else keep.nonzero().flatten()
        if not len(among):
            return Batches.of([])
        steps: list[Tensor] = []
        for _ in range(self.epochs):
            steps += among[torch.randperm(len(among), generator=rng)].split(self.batch)
        return Batches.of(steps)

    def _check_loss(self) -> None:
        """A loss answers for each row by itself, and twice the same: a mean hides which row it is
        about, and what is drawn at random cannot be replayed.
        """
        two = torch.arange(min(2, self.rows.n))
        losses, *others = (self._losses(two, seed) for seed in range(PASSES))
        alone = [self._losses(own) for own in two.split(1)]
        if losses.shape != (len(two),):
            raise BadRequest(
                f"the loss of {len(two)} rows is {tuple(losses.shape)}, but one number per row, "
                f"({len(two)},), is needed: attribution asks what each row did. Write "
                "reduction='none', and sum over all axes but the first"
            )
        if not all(torch.equal(losses.nan_to_num(), other.nan_to_num()) for other in others):
            raise BadRequest(
                "passes over the same rows give different losses: something inside the model "
                "or the loss is drawn at random (dropout of an attention, noise). Switch it off: "
                "a run that cannot be replayed cannot be attributed"
            )
        apart = torch.cat(alone).nan_to_num()
        if not torch.allclose(losses.nan_to_num(), apart, rtol=1e-3, atol=1e-5):
            raise BadRequest(
                f"the loss of two rows together, {losses.tolist()}, is not that of each by itself, "
                f"{apart.tolist()}: it is averaged over the batch, or rows see each other. Return "
                "one number per row: reduction='none', and no division by the batch size"
            )

    def _losses(self, index: Tensor, seed: int = 0) -> Tensor:
        x, y = self.rows.take(index)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                losses = self.loss(self.net(self.net.own, x), y)
            except (RuntimeError, IndexError, ValueError) as failure:
                raise BadRequest(
                    f"the loss of {len(index)} training rows cannot be computed: {failure}. Try "
                    "loss(model(x[:2]), y[:2]), which must give one number per row"
                ) from failure
        if not isinstance(losses, Tensor):
            raise BadRequest(f"the loss is a {type(losses).__name__}; it returns a tensor (row,)")
        return losses


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """One training, recorded: replaying it gives the same parameters."""

    recipe: Recipe
    seed: int
    batches: Batches
    rates: Float[Tensor, "step"]
    reaches: Float[Tensor, "step"]  # how far each step carries along a constant gradient of 1
    checkpoints: Mapping[int, Params]  # by number of steps taken; 0 and the last are always there
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self.batches.steps

    @property
    def net(self) -> Net:
        """The model as a function of its parameters."""
        return self.recipe.net

    @property
    def final(self) -> Params:
        """The parameters at the end."""
        return self.checkpoints[self.steps]

    def model(self) -> nn.Module:
        """The trained model, a module of its own in evaluation mode."""
        return self.net.with_params(self.final)

    @property
    def spaced(self) -> tuple[int, ...]:
        """The checkpoints after the start, in order: where gradients are averaged."""
        return tuple(sorted(step for step in self.checkpoints if step > 0))

    def reached(self, start: int = 0, stop: int | None = None) -> float:
        """Sum of the reaches of some steps: c = sum of rates / (1 - momentum) for SGD."""
        return float(self.reaches[start:stop].sum())

    def states(
        self, weights: Float[Tensor, "row"] | None = None, *, start: State | None = None
    ) -> Iterator[State]:
        """Every state of the training from its start on, one after each step, with each row's loss
        weighted; order and denominators as recorded.
        """
        state = self.recipe.optimiser.start(self.checkpoints[0]) if start is None else start
        yield state
        for t in range(self.steps):
            state = self.step(state, t, weights)
            yield state

    def step(self, state: State, t: int, weights: Tensor | None = None) -> State:
        """The state after step t from the one before it."""
        index, present = self.batches.index[t], self.batches.present[t]
        own = present if weights is None else present * weights[index]
        batch = Batch(*self.recipe.rows.take(index), own, present.sum())
        return self.recipe.stepper.after(state, batch, float(self.rates[t]), t)

    def replay(self, weights: Float[Tensor, "row"] | None = None) -> Params:
        """The final parameters of the same training with other loss weights."""
        *_, last = self.states(weights)
        return last.params

    def verify(self, tolerance: float = 1e-3) -> None:
        """Replays the run and refuses it if it does not arrive where the record says."""
        told, seen = self.net.flat(self.final), self.net.flat(self.replay())
        moved = self.net.flat(self.checkpoints[0]) - told
        off = float((told - seen).norm() / moved.norm().clamp(min=1e-30))
        if not off <= tolerance:
            raise BadRequest(
                f"the record does not replay: the parameters end {off:.2g} of the way travelled "
                "from where they were recorded. Record the rows of every step in the order they "
                "were used, one tape.step(rows) after each optimiser.step(), and leave nothing "
                "random inside the step (dropout, augmentation, unrecorded clipping)"
            )


def train(recipe: Recipe, *, seed: int = 0, keep: int = KEEP) -> TrainingRun:
    """Trains by the recipe and keeps `keep` equally spaced checkpoints besides the start."""
    batches = recipe.batches(seed)
    if keep < 1:
        raise BadRequest(f"train(keep={keep}): at least the last checkpoint is kept")
    rates = recipe.schedule.rates(batches.steps)
    wanted = {round(batches.steps * k / keep) for k in range(keep + 1)}
    blank = TrainingRun(recipe, seed, batches, rates, torch.zeros_like(rates), {
        0: recipe.begin(seed)
    })  # fmt: skip
    begun, kept, reaches = time.perf_counter(), {}, []
    with watched("training", batches.steps) as tick:
        for t, state in enumerate(blank.states()):
            if t in wanted:
                kept[t] = state.params
            if t:
                reaches.append(recipe.optimiser.reach(state, float(rates[t - 1]), t - 1))
                tick(1)
    final = recipe.net.flat(kept[batches.steps])
    if not bool(torch.isfinite(final).all()):
        raise BadRequest(
            f"the training diverged: after {batches.steps} steps parameters are NaN or infinite. "
            "Lower the learning rate of the schedule, or raise the batch size"
        )
    spent = time.perf_counter() - begun
    reached = torch.tensor(reaches, dtype=torch.float64)
    return TrainingRun(recipe, seed, batches, rates, reached, kept, spent)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A freshly built model that depends on the seed alone; the global random state is left as it
    was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
