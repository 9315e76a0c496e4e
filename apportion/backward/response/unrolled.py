"""The exact derivative of a whole training by the weights of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.func import vjp, vmap

from ...progress import watched
from ...training.data import Queries
from ...training.optim import State
from ...training.persample import of_queries
from ...training.run import TrainingRun
from ...training.stepping import Batch
from ...types import BadRequest
from .base import Ingredient, finite, over_runs

BYTES = 2**30  # of states held at once
SMOOTH = 0.9  # metasmoothness below which the derivative is not believed


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """Differentiates through every step of the run: the metagradient, computed backwards from
    replayed states (known as MAGIC where predictions of refits are made with it).

        tau_i = d value(end of training) / d w_i,    every step weighting row i's loss by w_i

    Exact for this run: same start, same order, same denominators. Says nothing about what another
    seed would have done. `at` moves the point where the derivative is taken: at the share of rows
    that a removal keeps it predicts that removal better than at 1. Takes about as long as ten
    trainings; memory for the states of sqrt(steps) steps where all do not fit.
    """

    at: float = 1.0  # weight of every row where the derivative is taken

    exact: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ingredient]] = frozenset({"states"})
    cites: ClassVar[tuple[str, ...]] = ("ilyas2025", "engstrom2025")

    def __post_init__(self) -> None:
        if not 0 < self.at < float("inf"):
            raise BadRequest(f"Unrolled(at={self.at}): a weight above 0 is needed, usually 1")

    def passes(self, run: TrainingRun) -> float:
        return 4 * run.steps * run.recipe.batch / run.recipe.rows.n

    def notes(self, runs: Sequence[TrainingRun]) -> tuple[str, ...]:
        worst = min(smoothness(run) for run in runs)
        told = f"metasmoothness {worst:.2f} (1 = smooth)"
        if worst >= SMOOTH:
            return (told,)
        return (
            f"{told}: this training is rough, small changes of weights throw it elsewhere, and its "
            "derivative predicts no refit; lower the learning rate or enlarge the batches",
        )

    def __call__(self, runs: Sequence[TrainingRun], queries: Queries) -> Float[Tensor, "query row"]:
        return over_runs(runs, lambda run: self._one(run, queries))

    def _one(self, run: TrainingRun, queries: Queries) -> Float[Tensor, "query row"]:
        like = next(iter(run.final.values()))
        weights = torch.full((run.recipe.rows.n,), self.at, dtype=like.dtype, device=like.device)
        credit = like.new_zeros(queries.n, run.recipe.rows.n)
        pull: State | None = None
        with watched("differentiating through training", run.steps) as tick:
            for t, before, after in backwards(run, weights):
                if pull is None:
                    pull = _start(run, after, queries)
                pull, slope = _back(run, before, t, weights, pull)
                credit.index_add_(1, run.batches.index[t].to(credit.device), slope)
                tick(1)
        if not bool(torch.isfinite(credit).all()):
            raise BadRequest(
                "the derivative of the training is NaN or infinite. With Adam or AdamW the root of "
                "the mean square has no derivative at 0: train with eps_root=1e-8 or more. "
                "Otherwise the training is too rough: see smoothness(run)"
            )
        return finite(credit)


def _start(run: TrainingRun, last: State, queries: Queries) -> State:
    """The gradient of the values by the last state; the optimiser's memory does not matter."""
    pull = run.net.named(of_queries(run.net, last.params, queries))
    memory = {
        name: {k: x.new_zeros(queries.n, *x.shape) for k, x in held.items()}
        for name, held in last.memory.items()
    }
    return State(pull, memory)


def _back(
    run: TrainingRun, state: State, t: int, weights: Tensor, pull: State
) -> tuple[State, Float[Tensor, "query row"]]:
    """One step backwards: the gradients by the state before it, and by the weights it used."""
    index, present = run.batches.index[t], run.batches.present[t]
    rows = run.recipe.rows.take(index)

    def step(state: State, own: Tensor) -> State:
        batch = Batch(*rows, own * present.to(own.device), present.sum())
        return run.recipe.stepper.after(state, batch, float(run.rates[t]), t)

    _, back, *_ = vjp(step, state, weights[index])
    before, slope = vmap(back)(pull)
    return before, slope.detach()


def backwards(
    run: TrainingRun, weights: Float[Tensor, "row"], limit: int = BYTES
) -> Iterator[tuple[int, State, State]]:
    """Step t with the states before and after it, from the last step to the first.

    All states where they fit into `limit` bytes; else every sqrt(T)-th is kept, and the stretches
    between are replayed one at a time.
    """
    first = run.recipe.optimiser.start(run.checkpoints[0])
    fit = max(limit // _bytes(first), 2)
    stride = 1 if run.steps < fit else max(isqrt(run.steps), -(-run.steps // fit), 1)
    marks = {t: s for t, s in enumerate(run.states(weights)) if t % stride == 0 or t == run.steps}
    after = marks[run.steps]
    for begin in reversed(range(0, run.steps, stride)):
        stretch = [marks[begin]]
        for t in range(begin, min(begin + stride, run.steps) - 1):
            stretch.append(run.step(stretch[-1], t, weights))
        for t in reversed(range(begin, min(begin + stride, run.steps))):
            before = stretch[t - begin]
            yield t, before, after
            after = before


def _bytes(state: State) -> int:
    held = [state.params, *state.memory.values()]
    return sum(x.numel() * x.element_size() for part in held for x in part.values())


def smoothness(run: TrainingRun, *, step: float = 0.1, seed: int = 0) -> float:
    """Metasmoothness: trains at weights 1, 1 + h v and 1 + 2 h v for a random v, and asks how much
    of the parameters' movement goes on in the same direction. 1 = smooth, 0 = chaos [engstrom2025].

    Three trainings. Near 1 does not yet make predictions good; below 0.9 they are worthless.
    """
    rng = Generator().manual_seed(seed)
    v = torch.randn(run.recipe.rows.n, generator=rng)
    ends = [run.net.flat(run.replay((1 + k * step * v).clamp(min=0))).double() for k in range(3)]
    if not all(bool(torch.isfinite(end).all()) for end in ends):
        return -1.0
    share = (ends[2] - ends[0]).abs()
    agree = (ends[1] - ends[0]).sign() * (ends[2] - ends[1]).sign()
    return float((share * agree).sum() / share.sum().clamp(min=1e-30))
