"""How many evaluations each Shapley estimator needs for a given error, beside captum, shap and
shapiq: RMSE against exact values, relative to their size, at equal counted evaluations.

python -m benchmarks.error [--seed 0] [--runs 3] [--json FILE] [--fast]

`evaluations_ratio/<task>` is the evaluations OURS needs for the error that the best peer has with
512, over 512; `evaluations_ratio` the worst of the games with structure. OURS is one row on every
task and at every budget; the best peer may be another one on each. On the games of order three
kADDSHAP(max_order=3) is told the order; it is listed, and compared in `told/toy` alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Generator

import apportion as ap
from benchmarks.error_peers import FEW, PEERS, TOLD, Asked, quietly
from benchmarks.error_tasks import TASKS, Table
from benchmarks.measuring import Entry

OURS = "GaussianProcessShapley"
BUDGETS, REFERENCE = (64, 128, 192, 256, 384, 512, 1024), 512
SHORT = (64, 128)
Squares = dict[str, dict[int, list[float]]]  # by estimator and budget: squared error of each run


def permutations(n: int, budget: int) -> ap.PermutationShapley:
    return ap.PermutationShapley(orders=max((budget - 2) // (n - 1) // 2 * 2, 2))


OWN: dict[str, Callable[[int, int], object]] = {
    OURS: lambda n, budget: ap.GaussianProcessShapley(samples=budget),
    "KernelShap": lambda n, budget: ap.KernelShap(samples=budget),
    "PermutationShapley": permutations,
    "PermutationShapley-orthogonal": lambda n, budget: replace(
        permutations(n, budget), sampling=ap.Orders.ORTHOGONAL
    ),
    **{
        f"ControlVariateShapley-{kind.value}": lambda n, budget, kind=kind: (
            ap.ControlVariateShapley(samples=budget, proposal=kind)
        )
        for kind in (ap.Proposal.SURROGATE, ap.Proposal.LINEAR, ap.Proposal.NONE)
    },
}


def relative(scores: np.ndarray, table: Table) -> float:
    """Mean squared error, relative to that of zero credit."""
    return float(((scores - table.truth) ** 2).mean() / (table.truth**2).mean())


def one_run(tables: list[Table], names: list[str], budgets: tuple[int, ...], seed: int) -> Squares:
    """Squared errors averaged over the games of one seed."""
    found: Squares = {}
    for name in [*OWN, *names]:
        for budget in budgets:
            errors = [once(name, table, budget, seed) for table in tables]
            if None not in errors:
                found.setdefault(name, {})[budget] = [float(np.mean(errors))]
    return found


def once(name: str, table: Table, budget: int, seed: int) -> float | None:
    """The squared error of one estimate; None where a peer cannot be run with so little."""
    if name in OWN:
        credit = ap.attribute(table.game, OWN[name](table.n, budget), seed=seed)
        asked, scores = credit.cost.evaluations, credit.scores.numpy()
    else:
        game = Asked(table)
        try:
            scores = quietly(PEERS[name], game, budget, seed)
        except (ValueError, np.linalg.LinAlgError):
            return None
        asked = game.rows
    if asked > budget:
        raise SystemExit(f"{name} asked {asked} times with a budget of {budget}")
    return relative(scores, table)


def needed(curve: dict[int, float], error: float) -> float:
    """Evaluations at which a curve first reaches an error, between budgets on logarithmic axes."""
    budgets = sorted(curve)
    if curve[budgets[0]] <= error:
        return budgets[0]
    for a, b in pairwise(budgets):
        if curve[b] <= error:
            share = np.log(curve[a] / error) / np.log(curve[a] / max(curve[b], 1e-300))
            return float(np.exp(np.log(a) + share * np.log(b / a)))
    return float("inf")


def ratio(curves: dict[str, dict[int, float]], peers: list[str], reference: int) -> float:
    """Evaluations of OURS for the error the best of these peers has at the reference, relative."""
    best = min(curves[name].get(reference, float("inf")) for name in peers if name in curves)
    return needed(curves[OURS], best) / reference


def roots(found: Squares, run: int | None = None) -> dict[str, dict[int, float]]:
    return {
        name: {b: float(np.mean(e if run is None else e[run])) ** 0.5 for b, e in curve.items()}
        for name, curve in found.items()
    }


def compare(task: str, found: Squares, reference: int) -> dict[str, Entry]:
    """The entries of one task."""
    told: dict[str, Entry] = {}
    tail = "" if task == "mlp" else f"/{task}"
    for name, curve in found.items():
        for budget, errors in curve.items():
            each = [e**0.5 for e in errors]
            entry = {"value": float(np.mean(errors)) ** 0.5, "low": min(each), "high": max(each)}
            told[f"rmse/{name}/{budget}{tail}"] = {**entry, "unit": "relative to zero credit"}
    peers = [name for name in found if name in PEERS and (task != "toy" or name != TOLD)]
    runs = len(next(iter(found[OURS].values())))
    told[f"evaluations_ratio/{task}"] = ranged(found, peers, reference, runs)
    if task == "toy" and TOLD in found:
        told["told/toy"] = ranged(found, [TOLD], reference, runs)
    return told


def ranged(found: Squares, peers: list[str], reference: int, runs: int) -> Entry:
    singles = [ratio(roots(found, run), peers, reference) for run in range(runs)]
    value = ratio(roots(found), peers, reference)
    return {
        "value": value,
        "low": min([value, *singles]),
        "high": max([value, *singles]),
        "unit": f"evaluations / {reference}",
    }


def merge(runs: list[Squares]) -> Squares:
    """Only what every run could do."""
    first = runs[0]
    return {
        name: {
            b: [e for run in runs for e in run[name][b]]
            for b in first[name]
            if all(b in run.get(name, {}) for run in runs)
        }
        for name in first
    }


def show(task: str, found: Squares, told: dict[str, Entry]) -> None:
    budgets = sorted({b for curve in found.values() for b in curve})
    print(f"\n{task:<30}" + "".join(f"{b:>10}" for b in budgets))
    for name, curve in roots(found).items():
        cells = (f"{curve[b]:>10.2g}" if b in curve else f"{'-':>10}" for b in budgets)
        print(f"{name:<30}" + "".join(cells))
    for key in (f"evaluations_ratio/{task}", f"told/{task}"):
        if key in told:
            e = told[key]
            print(f"{key}: {e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]", flush=True)


def run(asked: argparse.Namespace) -> dict[str, Entry]:
    torch.set_num_threads(1)
    budgets, reference = (SHORT, SHORT[-1]) if asked.fast else (BUDGETS, REFERENCE)
    names = list(FEW if asked.fast else PEERS)
    told: dict[str, Entry] = {}
    rng = Generator().manual_seed(asked.seed)
    seeds = torch.randint(2**20, (1 if asked.fast else asked.runs,), generator=rng).tolist()
    for task, make in TASKS.items():
        rows = 1 if asked.fast else 3
        found = merge([one_run(make(s, rows), names, budgets, s) for s in seeds])
        told |= compare(task, found, reference)
        show(task, found, told)
    structured = [told[f"evaluations_ratio/{task}"] for task in TASKS if task != "random"]
    told["evaluations_ratio"] = max(structured, key=lambda e: e["value"])
    print(f"\nevaluations_ratio {told['evaluations_ratio']['value']:.2f}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3, help="networks and draws of each kind")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fast", action="store_true", help="a smoke run")
    asked = parser.parse_args()
    told = run(asked)
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
