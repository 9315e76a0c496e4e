"""How well each method predicts what training on half of the rows does: the linear datamodeling
score on digits, with its ceilings. Methods and their options are in benchmarks/lds_methods.py.

python -m benchmarks.lds --model mlp|cnn [--epochs 30] [--methods a,b] [--sets 60]
[--truth-seeds 2] [--paired] [--seed 0] [--json FILE] [--fast]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Generator, Tensor

from apportion.evaluate.datamodeling import per_query, seed_agreement, subsets
from benchmarks.digits_task import Task, task
from benchmarks.lds_extra import Entry, damping_grid, entry, magic, paired
from benchmarks.lds_methods import METHODS, Case

FIRST, OTHERS = 100, 10  # training seeds of the truth count from here; so many more bound it


def show(name: str, got: Entry, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"  {seconds:6.1f} s"
    print(
        f"{name:32} {got['value']:+.3f} [{got['low']:+.3f}, {got['high']:+.3f}]{took}", flush=True
    )


def ceilings(values: Tensor, seeds: int) -> dict[str, Entry]:
    """Seed agreement, and the limit for any predictor: seeds of the truth v many others."""
    own, others = values[:, :seeds].mean(1), values[:, seeds:].mean(1)
    return {
        "agreement/2v2": entry(seed_agreement(values[:, :2].mean(1), values[:, 2:4].mean(1))),
        "agreement/1v1": entry(seed_agreement(values[:, 0], values[:, 1])),
        "ceiling": entry(seed_agreement(own, others)),
    }


def run(asked: argparse.Namespace) -> dict[str, Entry]:
    name = "tiny" if asked.fast else asked.model
    t: Task = task(name, asked.seed, epochs=asked.epochs, rows=150 if asked.fast else 1000)
    rng = Generator().manual_seed(asked.seed + 1)
    n, sets = t.recipe.rows.n, 8 if asked.fast else asked.sets
    present = subsets(n, sets, 0.5, rng)
    others = 2 if asked.fast else OTHERS
    seeds = list(range(FIRST, FIRST + asked.truth_seeds + others))
    begun = time.perf_counter()
    values = t.truth(present, seeds)
    print(f"{sets} subsets x {len(seeds)} seeds trained in {time.perf_counter() - begun:.0f} s")
    told = ceilings(values, asked.truth_seeds)
    for name, got in told.items():
        show(name, got)
    truth = values[:, : asked.truth_seeds].mean(1)
    case = Case(t, asked.seed, asked.fast)
    wanted = asked.methods.split(",") if asked.methods else list(METHODS)
    for name in wanted:
        for models, scores in METHODS[name](case):
            begun = time.perf_counter()
            singles = [per_query(credit.double(), present, truth) for credit in scores()]
            each = torch.stack(singles).mean(0)
            key = f"lds/{name}/{models}"
            told[key] = entry(each)
            show(key, told[key], time.perf_counter() - begun)
    if asked.paired:
        told |= paired(case, present, truth, show)
    if not asked.methods:
        told |= damping_grid(case, present, truth, show)
        told |= magic(t, asked.seed, asked.fast, show)
    return told


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--sets", type=int, default=60, help="half-size subsets scored on")
    parser.add_argument("--truth-seeds", type=int, default=2, help="seeds averaged in the truth")
    parser.add_argument("--methods", default="", help="comma-separated; all by default")
    parser.add_argument("--paired", action="store_true", help="differences query by query")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fast", action="store_true", help="a smoke run on 150 rows")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.fast:
        asked.epochs = 2
    told = run(asked)
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
