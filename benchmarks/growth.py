"""How time and memory of TRAK grow with the training rows: features kept on disk, 40 queries
scored, on synthetic rows under the network of the digits task. A fresh process for every number.

python -m benchmarks.growth [--seed 0] [--json FILE] [--fast]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator

from apportion.backward.response import TRAK
from apportion.training import Constant, Queries, Recipe, Rows, train
from benchmarks.digits_task import task
from benchmarks.measuring import Entry, fresh, peak_mb, spread

SIZES, QUERIES, K = (1000, 4000, 16000), 40, 1024


def one(n: int, seed: int) -> dict[str, float]:
    """Featurises n rows and scores them; training is not counted."""
    torch.set_num_threads(1)
    rng = Generator().manual_seed(seed)
    x, y = torch.rand(n, 64, generator=rng), torch.randint(10, (n,), generator=rng)
    own: Recipe = task("mlp", seed).recipe
    recipe = replace(own, rows=Rows(x, y), epochs=1, schedule=Constant(0.01))
    run = train(recipe, seed=seed, keep=1)
    queries = Queries(torch.rand(QUERIES, 64, generator=rng), torch.arange(QUERIES) % 10)
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        TRAK(k=K, folder=Path(folder))([run], queries)
        seconds = time.perf_counter() - begun
        disk = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {
        "seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, "disk_mb": disk / 2**20
    }  # fmt: skip


def run(sizes: tuple[int, ...], seed: int, times: int) -> dict[str, Entry]:
    seen: dict[int, list[dict[str, float]]] = {n: [] for n in sizes}
    for _ in range(times):  # sizes in turn, so that a busy minute does not meet one of them alone
        for n in sizes:
            own = [sys.executable, "-m", "benchmarks.growth", "--rows", str(n), "--seed", str(seed)]
            seen[n].append(fresh(own))
    told: dict[str, Entry] = {}
    for name, unit in (("seconds", "s"), ("peak_mb", "MB"), ("before_mb", "MB"), ("disk_mb", "MB")):
        for n in sizes:
            told[f"{name}/{n}"] = spread([got[name] for got in seen[n]], unit)
    ends = [[got["seconds"] for got in seen[n]] for n in (sizes[0], sizes[-1])]
    steps = math.log(sizes[-1] / sizes[0])
    powers = [math.log(b / a) / steps for a, b in zip(*ends, strict=True)]
    told["seconds/power of n"] = spread(powers, "1 = linear")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fast", action="store_true", help="a smoke run on few rows")
    parser.add_argument("--rows", type=int, help="one measurement in this process")
    asked = parser.parse_args()
    if asked.rows is not None:
        print(json.dumps(one(asked.rows, asked.seed)))
        return
    told = run((200, 800) if asked.fast else SIZES, asked.seed, 1 if asked.fast else 5)
    for name, got in told.items():
        print(f"{name:24} {got['value']:10.3f} [{got['low']:.3f}, {got['high']:.3f}] {got['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
