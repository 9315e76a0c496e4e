"""The methods that benchmarks/lds.py scores: each yields, by number of trainings, a function that
gives the credit of every row for every query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

import apportion as ap
from apportion.backward.response import (
    CG,
    TRAK,
    Arnoldi,
    Dense,
    EKFac,
    GradDot,
    Influence,
    KFac,
    LiSSA,
    Neighbours,
    Response,
    Source,
    TracIn,
    Unrolled,
)
from apportion.games import RefitGame
from apportion.training import TrainingRun, train
from benchmarks.digits_task import Task

Scored = Iterator[
    tuple[int, Callable[[], list[Tensor]]]
]  # by models: one credit, or several single ones
GRID = (1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 3e-2, 1e-1)
REFITS = {True: 6000, False: 1500}  # of the datamodel, by whether the model is small


@dataclass(eq=False)
class Case:
    """One task, with the models trained for it so far."""

    task: Task
    seed: int
    fast: bool
    trained: list[TrainingRun] = field(default_factory=list)

    def runs(self, count: int) -> list[TrainingRun]:
        """The first `count` models."""
        for k in range(len(self.trained), count):
            self.trained.append(train(self.task.recipe, seed=self.task.base + 200 + k))
        return self.trained[:count]

    @property
    def many(self) -> int:
        """How many models are averaged."""
        return 2 if self.fast or self.task.recipe.net.size > 3000 else 5


def response(how: Response) -> Callable[[Case], Scored]:
    """Single models (their mean score counts), and the average credit of several."""

    def method(case: Case) -> Scored:
        each: list[Tensor] = []

        def single() -> list[Tensor]:
            each.extend(how([run], case.task.queries) for run in case.runs(case.many))
            return each

        yield 1, single
        yield case.many, lambda: [torch.stack(each).mean(0)]

    return method


def jointly(how: Response) -> Callable[[Case], Scored]:
    """A response that combines its runs in a way of its own."""

    def method(case: Case) -> Scored:
        q = case.task.queries
        yield 1, lambda: [how([run], q) for run in case.runs(case.many)]
        yield case.many, lambda: [how(case.runs(case.many), q)]

    return method


def own_run(case: Case) -> Scored:
    """The metagradient of single runs, against a truth of other seeds: not what it is made for."""
    yield from response(Unrolled())(case)


def datamodel(case: Case) -> Scored:
    """Ridge on refits with a seed each, none of them scored on."""
    refits = 300 if case.fast else REFITS[case.task.recipe.net.size < 3000]

    def fit() -> list[Tensor]:
        game = RefitGame(case.task.recipe, case.task.queries, seeds=None)
        made = ap.LinearSurrogate(samples=refits, l2=0.05)
        return [ap.attribute(game, made, seed=case.seed + 7).scores]

    yield refits, fit


METHODS: dict[str, Callable[[Case], Scored]] = {
    "cosine": response(Neighbours()),
    "graddot": response(GradDot()),
    "tracin": response(TracIn()),
    "influence": response(Influence()),
    "influence-block": response(Influence(solver=Dense(blocks=True))),
    "cg": response(Influence(solver=CG(tolerance=1e-3))),
    "kfac": response(Influence(solver=KFac())),
    "ekfac": response(Influence(solver=EKFac())),
    "ekfac-sampled": response(Influence(solver=EKFac(labels="sampled"))),
    "ekfac-published": response(
        Influence(solver=EKFac(labels="sampled", basis="factors", share=1.0))
    ),
    "ekfac-refined": response(Influence(solver=EKFac(refine=3))),
    "ekfac-averaged": response(Influence(solver=EKFac(), at="averaged")),
    "trak": jointly(TRAK()),
    "trak-plain": jointly(TRAK(kernel="plain")),
    "lissa": response(Influence(solver=LiSSA())),
    "arnoldi": response(Influence(solver=Arnoldi())),
    "source": response(Source()),
    "source-ekfac": response(Source(spectral=EKFac())),
    "averaged": response(Influence(at="averaged")),
    "best": response(Influence(at="averaged")),  # of those that take at most five trainings
    "magic": own_run,
    "datamodel": datamodel,
}
