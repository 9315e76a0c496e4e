"""Memory and time of one process, for benchmarks that start a fresh one for every measurement."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
Entry = dict[str, float | str]


def peak_mb() -> float:
    """The most memory this program has held. Not from getrusage, whose number a new process
    inherits from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell the peak memory of a process")


def fresh(command: list[str]) -> dict:
    """Runs a command on one thread; the last line it prints is json."""
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float], unit: str) -> Entry:
    """The middle one of repeated measurements, and the least and largest."""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return {"value": middle, "low": ordered[0], "high": ordered[-1], "unit": unit}
