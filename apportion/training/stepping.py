"""One step of a training as a pure function, and many trainings stepped together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vmap

from .data import Inputs, PerExample
from .net import Net
from .optim import Optimiser, Params, State


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step reads: the rows, how much each counts, and what their sum is divided by."""

    input: Inputs
    label: Tensor
    weights: Tensor  # (row,), bool or float
    size: Tensor  # the denominator, a number


@dataclass(frozen=True, eq=False)
class Stepper:
    """Steps a training: pure in state and weights, differentiable in both."""

    net: Net
    loss: PerExample
    optimiser: Optimiser

    def slope(self, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Gradient of sum of weight x loss / size."""

        def total(p: Params) -> Tensor:
            losses = self.loss(self.net(p, batch.input), batch.label)
            return (batch.weights.to(losses) * losses).sum() / batch.size.to(losses)

        return grad(total)(dict(params))

    def after(self, state: State, batch: Batch, rate: float | Tensor, t: int) -> State:
        """The state after step t, counted from 0."""
        return self.optimiser.step(state, self.slope(state.params, batch), rate, t)

    def together(
        self, starts: Params, plan: Plan, take: Callable[[Tensor], tuple[Inputs, Tensor]]
    ) -> dict[str, Tensor]:
        """The final parameters of many trainings, stacked along axis 0: one batched pass steps them
        all. Trainings that have taken their last step stay where they are.
        """
        state = vmap(self.optimiser.start)(dict(starts))
        kind = next(iter(starts.values())).dtype  # else wider rates would widen single numbers
        for t in range(plan.index.shape[1]):

            def one(
                state: State, own: tuple[Inputs, Tensor, Tensor, Tensor, Tensor], t: int = t
            ) -> State:
                return self.after(state, Batch(*own[:4]), own[4], t)

            x, y = take(plan.index[:, t])
            size, rate = plan.size[:, t].clamp(min=1).to(kind), plan.rate[:, t].to(kind)
            new = vmap(one)(state, (x, y, plan.weight[:, t], size, rate))
            live = plan.size[:, t] > 0
            state = new if bool(live.all()) else _where(live, new, state)
        return state.params

    def each(
        self, starts: Params, plan: Plan, take: Callable[[Tensor], tuple[Inputs, Tensor]]
    ) -> dict[str, Tensor]:
        """The same, one training after the other."""
        ends = []
        for m in range(len(plan.index)):
            state = self.optimiser.start({k: p[m] for k, p in starts.items()})
            for t in range(int((plan.size[m] > 0).sum())):
                x, y = take(plan.index[m, t])
                batch = Batch(x, y, plan.weight[m, t], plan.size[m, t])
                state = self.after(state, batch, float(plan.rate[m, t]), t)
            ends.append(state.params)
        return {k: torch.stack([end[k] for end in ends]) for k in starts}


@dataclass(frozen=True, eq=False)
class Plan:
    """What every one of several trainings reads in every step."""

    index: Int[Tensor, "model step row"]
    weight: Float[Tensor, "model step row"]
    size: Float[Tensor, "model step"]  # denominator; 0 = this training has ended
    rate: Float[Tensor, "model step"]


def _where(live: Tensor, new: State, old: State) -> State:
    """The new state of the trainings that are still running."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(live.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    params = {k: choose(p, old.params[k]) for k, p in new.params.items()}
    memory = {
        name: {k: choose(p, old.memory[name][k]) for k, p in held.items()}
        for name, held in new.memory.items()
    }
    return State(params, memory)
