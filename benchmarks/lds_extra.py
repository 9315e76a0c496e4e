"""What benchmarks/lds.py shows beside the table: damping, and unrolling against refits of its own
run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Generator, Tensor

from apportion.backward.response import (
    EKFac,
    Influence,
    Response,
    Source,
    Unrolled,
    by_training,
    smoothness,
)
from apportion.evaluate.datamodeling import bootstrap, per_query, subsets
from apportion.games import RefitGame
from apportion.training import Constant, train
from benchmarks.digits_task import Task
from benchmarks.lds_methods import GRID, Case

Entry = dict[str, float | str]
Show = Callable[[str, Entry], None]
SETS = 60
FINE = (1e-5, 3e-5)  # EK-FAC wants less damping


def entry(each: Tensor, unit: str = "rank correlation") -> Entry:
    """Mean over queries and its 95% bootstrap interval over queries."""
    low, high, _ = bootstrap(each, Generator().manual_seed(0))
    return {"value": float(each.mean()), "low": low, "high": high, "unit": unit}


def damping_grid(case: Case, present: Tensor, truth: Tensor, show: Show) -> dict[str, Entry]:
    """Influence by damping, against the damping of the rule."""
    told: dict[str, Entry] = {}
    runs = case.runs(case.many)
    for damping in (None, *GRID):
        how = Influence(damping=damping)
        credit = how(runs, case.task.queries)
        named = f"{by_training(runs[0]):.5f} (rule)" if damping is None else f"{damping:g}"
        told[f"damping/influence/{case.many}/{named}"] = entry(per_query(credit, present, truth))
    for name, got in told.items():
        show(name, got)
    return told


def paired(case: Case, present: Tensor, truth: Tensor, show: Show) -> dict[str, Entry]:
    """Differences query by query: SOURCE with EK-FAC against EK-FAC influence at the damping that
    is best on the truth itself, and averaged checkpoints against the final ones.
    """
    runs, q = case.runs(case.many), case.task.queries

    def score(how: Response) -> Tensor:
        return per_query(how(runs, q), present, truth)

    grid = [score(Influence(solver=EKFac(share=1.0), damping=d)) for d in (*FINE, *GRID)]
    best = max(grid, key=lambda each: float(each.mean()))
    pairs = {
        "source-ekfac minus best ekfac": score(Source(spectral=EKFac())) - best,
        "source minus influence": score(Source()) - score(Influence()),
        "averaged minus influence": score(Influence(at="averaged")) - score(Influence()),
    }
    told = {f"paired/{name}/{case.many}": entry(each) for name, each in pairs.items()}
    for name, got in told.items():
        show(name, got)
    return told


def magic(t: Task, seed: int, fast: bool, show: Show) -> dict[str, Entry]:
    """Unrolling against refits of its own run: same start, order and denominators, weight 0."""
    told: dict[str, Entry] = {}
    for rate in (0.02,) if fast else (0.02, 0.1, 0.3):
        recipe = replace(t.recipe, schedule=Constant(rate))
        run = train(recipe, seed=t.base + 200)
        smooth = smoothness(run)
        told[f"smoothness/lr{rate:g}"] = {
            "value": smooth,
            "low": smooth,
            "high": smooth,
            "unit": "",
        }
        game = RefitGame(run, t.queries, seeds=(run.seed,), semantics="reweighted")
        for at in (1.0, 0.5):
            credit = Unrolled(at=at)([run], t.queries)
            for removed in (0.02, 0.1, 0.5):
                rng = Generator().manual_seed(seed + 2)
                present = subsets(t.recipe.rows.n, SETS, 1 - removed, rng)
                each = per_query(credit, present, game.value(present))
                told[f"own_run/lr{rate:g}/at{at:g}/removed{removed:g}"] = entry(each)
    for name, got in told.items():
        show(name, got)
    return told
