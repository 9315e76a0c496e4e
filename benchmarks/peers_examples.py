"""TRAK here and in traker and dattri, side by side: the same five models, the same projection size,
one thread, training excluded. How long featurising and scoring take, how much memory, and how well
the scores predict what training on half of the rows does.

python -m benchmarks.peers_examples --peers /tmp/peers/bin/python [--seed 0] [--json FILE] [--fast]

The other libraries live in an environment of their own (benchmarks/peers/environment.txt). Each is
given its fastest settings among those tried, and the damping with the best score among multiples of
our rule, chosen on the truth: in their favour. traker keeps features on disk, so it is compared
with ours on disk; dattri keeps them in memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from apportion.backward.response import TRAK, by_training
from apportion.backward.response.trak import slopes_of
from apportion.evaluate.datamodeling import per_query, subsets
from apportion.training import TrainingRun, margin
from benchmarks.digits_task import Task, task
from benchmarks.lds_extra import entry
from benchmarks.measuring import ROOT, Entry, fresh, peak_mb, spread

K, MODELS = 1024, 5
# how each can be called. Left out after a look: half precision in traker, its default (9 s in place
# of 1 s on this processor), and batches of 100 (1.3 times as long in both)
WAYS: dict[str, list[dict]] = {
    "traker": [{"half": False, "batch": 1000}, {"half": False, "batch": 250}],
    "dattri": [
        {"projection": "normal", "stable": True, "batch": 1000},
        {"projection": "rademacher", "stable": True, "batch": 1000},
        {"projection": "normal", "stable": True, "batch": 250},
    ],
}
DAMPINGS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the rule; 0 is the default of both


def write(folder: Path, t: Task, runs: list[TrainingRun]) -> None:
    """Everything a worker needs, without pickle."""
    x, y = t.recipe.rows.take(slice(None))
    np.savez(folder / "data.npz", x=x, y=y, xq=t.queries.input, yq=t.queries.labels)
    held = {f"{m}/{k}": v.numpy() for m, run in enumerate(runs) for k, v in run.final.items()}
    np.savez(folder / "checkpoints.npz", **held)
    reached = {str(m): run.reaches.numpy() for m, run in enumerate(runs)}
    np.savez(folder / "reaches.npz", **reached)


def ours(asked: dict) -> dict:
    """Our side, in a process of its own: the runs are put together from files."""
    torch.set_num_threads(1)
    folder, t = Path(asked["folder"]), task("mlp", asked["seed"], rows=asked["rows"])
    held, reaches = np.load(folder / "checkpoints.npz"), np.load(folder / "reaches.npz")
    runs, none = [], torch.zeros(0, dtype=torch.float64)
    for m in range(asked["models"]):
        params = {k: torch.from_numpy(held[f"{m}/{k}"]) for k in t.recipe.net.names}
        reached = torch.from_numpy(reaches[str(m)])
        batches = t.recipe.batches(m)
        runs.append(TrainingRun(t.recipe, m, batches, none, reached, {batches.steps: params}))
    before, seconds = peak_mb(), []
    for _ in range(asked["times"] + 1):
        with tempfile.TemporaryDirectory() as kept:
            how = TRAK(k=asked["k"], folder=Path(kept) if asked["on_disk"] else None)
            begun = time.perf_counter()
            scores = how(runs, t.queries)
            seconds.append(time.perf_counter() - begun)
    np.save(asked["out"], scores.numpy())
    return {"seconds": seconds[1:], "peak_mb": peak_mb(), "before_mb": before}


class Bench:
    """One task and its truth, and where the workers find it."""

    def __init__(self, seed: int, fast: bool, peers: str, folder: Path) -> None:
        self.t = task("mlp", seed, epochs=3 if fast else 30, rows=150 if fast else 1000)
        self.runs = self.t.runs(2 if fast else MODELS, keep=1)
        rng = Generator().manual_seed(seed + 1)
        self.present = subsets(self.t.recipe.rows.n, 8 if fast else 60, 0.5, rng)
        self.truth = self.t.truth(self.present, [100, 101]).mean(1)
        self.peers, self.times = peers, 1 if fast else 3
        self.basic = {
            "folder": str(folder), "out": str(folder / "scores.npy"), "k": K, "seed": seed,
            "rows": self.t.recipe.rows.n, "models": len(self.runs), "times": self.times,
        }  # fmt: skip
        write(folder, self.t, self.runs)

    def rule(self, peer: str) -> float:
        """Our damping of the plain kernel in the scale of a library's features."""
        bend = float(np.mean([slopes_of(run, margin)[1].mean() for run in self.runs]))
        p = self.t.recipe.net.size
        scale = {"traker": K / p, "dattri": 1 / p}[peer]
        return self.t.recipe.rows.n * by_training(self.runs[0]) / bend * scale

    def peer(self, name: str, way: dict, damping: float) -> tuple[dict, Tensor]:
        asked = {**self.basic, "peer": name, "damping": damping, **way}
        got = fresh([self.peers, str(ROOT / "benchmarks/peers/worker.py"), json.dumps(asked)])
        return got, self.score()

    def own(self, on_disk: bool) -> tuple[dict, Tensor]:
        asked = json.dumps({**self.basic, "on_disk": on_disk})
        got = fresh([sys.executable, "-m", "benchmarks.peers_examples", "--worker", asked])
        return got, self.score()

    def score(self) -> Tensor:
        """The datamodeling score of what the last worker left, by query."""
        scores = torch.from_numpy(np.load(self.basic["out"])).double()
        return per_query(scores, self.present, self.truth)


def middle(got: dict) -> float:
    return sorted(got["seconds"])[len(got["seconds"]) // 2]


def against(bench: Bench, name: str, rounds: int) -> dict[str, Entry]:
    """One library: its best damping, its fastest way, then both sides in turns."""
    scales = DAMPINGS if rounds > 1 else (0.0, 1.0)
    tried = [bench.peer(name, WAYS[name][0], c * bench.rule(name))[1] for c in scales]
    best = max(range(len(tried)), key=lambda i: float(tried[i].nan_to_num(-1).mean()))
    damping = scales[best] * bench.rule(name)
    ways = [bench.peer(name, way, damping) for way in WAYS[name]]
    fastest = min(range(len(ways)), key=lambda i: middle(ways[i][0]))
    told = {
        f"lds/{name}": entry(ways[fastest][1]),
        f"lds/{name} as called by default": entry(tried[0].nan_to_num(0.0)),
    }
    ratios, theirs, mine, memory, own_memory = [], [], [], [], []
    for _ in range(rounds):
        own, credit = bench.own(on_disk=name == "traker")
        other, _ = bench.peer(name, WAYS[name][fastest], damping)
        ratios.append(middle(own) / middle(other))
        mine += own["seconds"]
        theirs += other["seconds"]
        memory.append(other["peak_mb"] - other["before_mb"])
        own_memory.append(own["peak_mb"] - own["before_mb"])
    kept = "on disk" if name == "traker" else "in memory"
    told[f"seconds_ratio/{name}"] = spread(ratios, "ours / theirs")
    told[f"lds_difference/{name}"] = entry(credit - ways[fastest][1], "ours - theirs")
    told[f"seconds/ours, {kept}"] = spread(mine, "s")
    told[f"seconds/{name}"] = spread(theirs, "s")
    told[f"added_mb/ours, {kept}"] = spread(own_memory, "MB beyond libraries and data")
    told[f"added_mb/{name}"] = spread(memory, "MB beyond libraries and data")
    told[f"peak_mb/{name}"] = spread([other["peak_mb"]], "MB")
    told[f"peak_mb/ours, {kept}"] = spread([own["peak_mb"]], "MB")
    told["lds/ours"] = entry(credit)
    print(f"{name}: damping {scales[best]:g} x our rule, called with {WAYS[name][fastest]}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the Python of the other libraries' environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fast", action="store_true", help="a smoke run on 150 rows")
    parser.add_argument("--worker", help="one measurement of our side in this process")
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(ours(json.loads(asked.worker))))
        return
    if not asked.peers:
        parser.error("--peers PYTHON is needed: see benchmarks/peers/environment.txt")
    told: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.seed, asked.fast, asked.peers, Path(folder))
        for name in WAYS:
            told |= against(bench, name, 1 if asked.fast else 5)
    for name, got in sorted(told.items()):
        print(f"{name:36} {got['value']:9.3f} [{got['low']:.3f}, {got['high']:.3f}] {got['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
