"""Benchmark commands run, write what they promise, and follow their seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ESTIMATORS = (
    "graddot", "cosine", "influence", "cg", "lissa", "arnoldi", "kfac", "ekfac", "trak", "source",
    "averaged", "magic", "tracin", "datamodel", "best",
)  # fmt: skip


def run(name: str, path: Path, *words: str) -> dict[str, dict]:
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", "--fast", *words]
    done = subprocess.run(
        [*command, "--json", str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(path.read_text())
    assert all(set(entry) == {"value", "low", "high", "unit"} for entry in told.values())
    return told


@pytest.mark.slow
def test_lds_scores_every_estimator(tmp_path) -> None:
    told = run("lds", tmp_path / "a.json", "--seed", "1")
    scored = {key.split("/")[1] for key in told if key.startswith("lds/")}
    assert set(ESTIMATORS) <= scored
    assert "ceiling" in told
    assert all(e["low"] <= e["value"] <= e["high"] for e in told.values())
    again = run("lds", tmp_path / "b.json", "--seed", "1", "--methods", "averaged")
    other = run("lds", tmp_path / "c.json", "--seed", "2", "--methods", "averaged")
    key = "lds/averaged/1"
    assert again[key] == told[key] != other[key]


@pytest.mark.slow
def test_growth_measures_time_and_memory(tmp_path) -> None:
    told = run("growth", tmp_path / "a.json")
    seconds, memory = (
        {key.split("/")[1] for key in told if key.startswith(kind)}
        for kind in ("seconds/", "peak_mb/")
    )
    assert len([n for n in seconds if n.isdigit()]) >= 2
    assert {n for n in seconds if n.isdigit()} == {n for n in memory if n.isdigit()}


METHODS = (
    "saliency", "integrated-gradients", "smoothgrad", "occlusion", "kernel-shap",
    "shapley-sampling", "lime", "median",
)  # fmt: skip
TASKS = ("path-integral", "occlusion", "kernel-shap", "leave-one-out", "digits")


@pytest.mark.slow
@pytest.mark.peer
def test_speed_tells_every_ratio(tmp_path) -> None:
    told = run("speed", tmp_path / "a.json")
    assert {f"vs_captum/{name}" for name in METHODS} <= told.keys()
    assert {f"vs_captum_best/{name}" for name in METHODS} <= told.keys()
    assert {f"overhead/{name}" for name in TASKS} <= told.keys()
    assert all(e["low"] <= e["value"] <= e["high"] for e in told.values())


@pytest.mark.slow
def test_error_compares_estimators_at_counted_evaluations(tmp_path) -> None:
    told = run("error", tmp_path / "a.json", "--seed", "1")
    keys = {key.split("/")[1] for key in told if key.startswith("rmse/")}
    peers = {"captum-KernelShap", "shap-KernelExplainer", "shap-Permutation", "shapiq-KernelSHAP"}
    assert peers | {"GaussianProcessShapley", "KernelShap"} <= keys
    tasks = {f"evaluations_ratio/{task}" for task in ("mlp", "toy", "random")}
    assert tasks | {"evaluations_ratio"} <= set(told)
    assert all(e["low"] <= e["value"] <= e["high"] for e in told.values())
    other = run("error", tmp_path / "b.json", "--seed", "2")
    assert told["rmse/KernelShap/64"] != other["rmse/KernelShap/64"]
