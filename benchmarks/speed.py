"""What does the library add to the bare passes of the model, and how long does captum take?

    OMP_NUM_THREADS=2 python -m benchmarks.speed        (ten minutes; needs captum and the zoo)

Everything is measured in one process, in turns, and told as ratios within a round; the middle one
of the rounds counts, low and high are the extreme ones.

overhead/TASK        our time over that of as many bare forward (and backward) passes as our answer
                     counts, both ends included, on the same input, parameters without gradient, at
                     the batch size that is fastest for them. The game stands and its batch size is
                     known. overhead/digits: milliseconds beyond the bare passes instead.
vs_captum/METHOD     captum's time at its defaults over ours, for the same number of evaluations of
                     EfficientNet-Lite0, of a game that stands.
vs_captum_best/METHOD   the same with captum's batch size and memory layout searched by hand.
vs_captum_whole/METHOD  captum's time at its defaults over ours with building the game, which takes
                     one forward pass more: what a single question costs.
setup/TASK           building the game, over the bare passes of the task.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from .measuring import Entry, spread
from .speed_tasks import Case, Task, cases

ROUNDS, SHORTLIST = 5, 2
HEAD = ("", "bare passes (batch)", "overhead", "v captum", "with set-up", "v captum at its best")


@dataclass(frozen=True)
class Times:
    """Seconds of each setting, one entry per round."""

    rounds: dict[str, list[float]]

    def best(self, kind: str) -> str:
        """The setting of a kind that was fastest in most rounds."""
        own = [name for name in self.rounds if name.split(":")[0] == kind]
        return min(own, key=lambda name: median(self.rounds[name]))

    def ratios(self, above: str, below: str) -> list[float]:
        pairs = zip(self.rounds[above], self.rounds[below], strict=True)
        return [a / b for a, b in pairs]


def clock(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def shortlist(kind: str, tasks: dict[str, Task]) -> dict[str, Task]:
    """The most promising settings, so that luck in a single run does not choose."""
    if not tasks:
        return {}
    next(iter(tasks.values()))()  # warm up
    tried = {name: clock(task) for name, task in tasks.items()}
    best = sorted(tried, key=lambda name: tried[name])[:SHORTLIST]
    return {f"{kind}:{name}": tasks[name] for name in best}


def measure(case: Case, rounds: int, settling: int) -> Times:
    """All settings of one case, in turns."""
    game = case.build()
    tasks: dict[str, Task] = {
        "ours": lambda: case.ask(game),
        "whole": lambda: case.ask(case.build()),
        "build": case.build,
    }
    for _ in range(settling):  # until the fastest batch size is known
        case.ask(game)
    tasks |= shortlist("bare", case.bare)
    if case.captum is not None:
        tasks["captum"] = case.captum
    tasks |= shortlist("tuned", case.tuned)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(clock(task))
    return Times(times)


def entries(case: Case, times: Times) -> dict[str, Entry]:
    """What is told of a case."""
    told: dict[str, Entry] = {}
    if case.task is not None:
        bare = times.best("bare")
        ratios = times.ratios("ours", bare)
        told[f"overhead/{case.task}"] = spread(ratios, "x bare passes")
        told[f"setup/{case.task}"] = spread(times.ratios("build", bare), "x bare passes")
        if case.milliseconds:
            beyond = zip(times.rounds["ours"], times.rounds[bare], strict=True)
            told[f"overhead/{case.task}"] = spread([1e3 * (a - b) for a, b in beyond], "ms")
    if case.captum is not None:
        told[f"vs_captum/{case.name}"] = spread(times.ratios("captum", "ours"), "x as fast")
        ratios = times.ratios("captum", "whole")
        told[f"vs_captum_whole/{case.name}"] = spread(ratios, "x as fast")
    if case.tuned:
        ratios = times.ratios(times.best("tuned"), "ours")
        told[f"vs_captum_best/{case.name}"] = spread(ratios, "x as fast")
    return told


def line(case: Case, times: Times, told: dict[str, Entry]) -> list[str]:
    """One row of the table."""

    def shown(kind: str) -> str:
        entry = told.get(f"{kind}/{case.name}") or told.get(f"{kind}/{case.task}")
        if entry is None:
            return ""
        digits = 0 if entry["unit"] == "ms" else 2
        unit = " ms" if entry["unit"] == "ms" else ""
        value, low, high = (f"{entry[k]:.{digits}f}" for k in ("value", "low", "high"))
        return f"{value}{unit} [{low}, {high}]"

    bare = ""
    if case.bare:
        name = times.best("bare")
        bare = f"{median(times.rounds[name]):.3f} s ({name.split(':')[1]})"
    best = shown("vs_captum_best")
    if case.tuned:
        best += f" ({times.best('tuned').split(':')[1]})"
    return [case.name, bare, shown("overhead"), shown("vs_captum"), shown("vs_captum_whole"), best]


def medians(told: dict[str, Entry]) -> dict[str, Entry]:
    """The middle method; its low and high are the slowest and fastest one against captum."""
    found = {}
    for kind in ("vs_captum", "vs_captum_whole", "vs_captum_best"):
        values = [float(e["value"]) for name, e in told.items() if name.startswith(f"{kind}/")]
        if values:
            middle = {"value": median(values), "low": min(values), "high": max(values)}
            found[f"{kind}/median"] = {**middle, "unit": "x as fast"}
    return found


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(text.rstrip() for text in lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time of answers over time of bare passes.")
    parser.add_argument("--seed", type=int, default=0, help="of noise and coalitions")
    parser.add_argument("--json", type=Path, help="write name -> {value, low, high, unit} here")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--fast", action="store_true", help="a smoke run: numbers mean nothing")
    return parser.parse_args()


def main() -> None:
    given, start = options(), time.perf_counter()
    told: dict[str, Entry] = {}
    rows = [list(HEAD)]
    chosen: list[Callable[[], Case]] = cases(given.seed, fast=given.fast, only=given.only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum tells that it sets requires_grad and hooks
        for build in chosen:
            case = build()
            times = measure(case, *((1, 0) if given.fast else (ROUNDS, case.settling)))
            own = entries(case, times)
            told |= own
            rows.append(line(case, times, own))
            print(rows[-1], flush=True)
    told |= medians(told)
    print(table(rows))
    for kind in ("vs_captum", "vs_captum_whole", "vs_captum_best"):
        if f"{kind}/median" in told:
            print(f"{kind}/median {float(told[f'{kind}/median']['value']):.2f}")
    print(f"{torch.get_num_threads()} threads, {time.perf_counter() - start:.0f} s in all")
    if given.json:
        given.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
