"""TRAK of another library, run by that library's own Python: featurise and score, timed.

PYTHON benchmarks/peers/worker.py '{"peer": "traker", "folder": ..., ...}'
Prints one line of JSON; scores go to a file. Called by benchmarks/peers_examples.py.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

Checkpoints = list[dict[str, torch.Tensor]]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10))


def read(folder: Path) -> tuple[dict[str, torch.Tensor], Checkpoints]:
    """Rows and queries, and the parameters of every model."""
    data = {k: torch.from_numpy(v) for k, v in np.load(folder / "data.npz").items()}
    held = np.load(folder / "checkpoints.npz")
    count = len({name.split("/")[0] for name in held})
    names = [name.split("/")[1] for name in held if name.startswith("0/")]
    return data, [{k: torch.from_numpy(held[f"{m}/{k}"]) for k in names} for m in range(count)]


def traker(data: dict[str, torch.Tensor], checkpoints: Checkpoints, asked: dict) -> torch.Tensor:
    from trak import TRAKer

    size, n, q = asked["batch"], len(data["y"]), len(data["yq"])
    with tempfile.TemporaryDirectory() as folder:
        t = TRAKer(
            model=mlp(), task="image_classification", train_set_size=n, save_dir=folder,
            device="cpu", proj_dim=asked["k"], lambda_reg=asked["damping"],
            use_half_precision=asked["half"], logging_level=logging.ERROR,
        )  # fmt: skip
        for m, held in enumerate(checkpoints):
            t.load_checkpoint(held, model_id=m)
            for x, y in zip(data["x"].split(size), data["y"].split(size), strict=True):
                t.featurize((x, y), num_samples=len(y))
        t.finalize_features()
        for m, held in enumerate(checkpoints):
            t.start_scoring_checkpoint("asked", held, model_id=m, num_targets=q)
            t.score((data["xq"], data["yq"]), num_samples=q)
        scores = t.finalize_scores("asked")
        return torch.from_numpy(np.array(scores, dtype=np.float32)).T


def dattri(data: dict[str, torch.Tensor], checkpoints: Checkpoints, asked: dict) -> torch.Tensor:
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    model = mlp().eval()

    def logit(params, data_target):
        x, y = data_target
        out = torch.func.functional_call(model, params, x[None])
        log_p = -nn.functional.cross_entropy(out, y[None])
        return log_p - torch.log(1 - torch.exp(log_p))

    def margin(params, data_target):  # the same function without its loss of digits
        x, y = data_target
        out = torch.func.functional_call(model, params, x[None])
        own = out[0].gather(0, y[None])[0]
        return own - out[0].scatter(0, y[None], -torch.inf).logsumexp(0)

    def probability(params, data_target):
        x, y = data_target
        out = torch.func.functional_call(model, params, x[None])
        return torch.exp(-nn.functional.cross_entropy(out, y[None]))

    f = margin if asked["stable"] else logit
    task = AttributionTask(loss_func=f, model=model, checkpoints=checkpoints)
    options = {"proj_dim": asked["k"], "device": "cpu", "proj_type": asked["projection"]}
    how = TRAKAttributor(
        task=task, correct_probability_func=probability, device="cpu",
        projector_kwargs=options, regularization=asked["damping"],
    )  # fmt: skip
    rows = TensorDataset(data["x"], data["y"])
    how.cache(DataLoader(rows, batch_size=asked["batch"], shuffle=False))
    queries = TensorDataset(data["xq"], data["yq"])
    return how.attribute(DataLoader(queries, batch_size=len(queries), shuffle=False)).T


def timed(f: Callable[[], torch.Tensor], times: int) -> tuple[list[float], torch.Tensor]:
    """Seconds of repeated calls after one that does not count."""
    scores, seconds = f(), []
    for _ in range(times):
        begun = time.perf_counter()
        scores = f()
        seconds.append(time.perf_counter() - begun)
    return seconds, scores


def memory() -> float:
    """The most memory this program has held, in MB (as in benchmarks/measuring.py, which this
    Python may be unable to import).
    """
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) / 1024


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    data, checkpoints = read(Path(asked["folder"]))
    importlib.import_module({"traker": "trak", "dattri": "dattri.algorithm.trak"}[asked["peer"]])
    before = memory()
    run = {"traker": traker, "dattri": dattri}[asked["peer"]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        seconds, scores = timed(lambda: run(data, checkpoints, asked), asked["times"])
    np.save(asked["out"], scores.detach().numpy())
    print(json.dumps({"seconds": seconds, "peak_mb": memory(), "before_mb": before}))


if __name__ == "__main__":
    main()
