"""What does the library add to the bare passes of the model, and what does captum?

    OMP_NUM_THREADS=2 python benchmarks/speed.py        (about a minute; needs captum and the zoo)

Everything is measured in one process, in turns, and shown as a ratio to the bare passes: as many
forward and backward passes as our answer counts, on the same input, parameters without gradient, at
the batch size that is fastest for them. `first` is our first answer, which also looks for the
batch size; `again` is every later one. Captum is shown as called by default, and at the fastest of
its batch sizes and memory layouts. `differs` is the largest difference between captum's answer and
ours, relative to our largest score: both answered the same question. Building a game costs one
more pass, which `set-up` shows as a share of the bare passes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import captum.attr as peer
import torch
from torch import Tensor, nn

import apportion as ap

ROUNDS, SHORTLIST, SIZES = 4, 2, (1, 2, 4, 8, 16)
STEPS, PATCH, CAT = 24, 32, 285

Task = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One question, asked in several ways that are to be timed."""

    name: str
    bare: dict[str, Task]  # by batch size
    build: Callable[[], ap.ModelGame]
    estimator: object
    default: Callable[[], Tensor]  # captum, as (player,)
    tuned: dict[str, Task]  # captum, by setting


def clock(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def quickest(times: dict[str, float], keep: int = 1) -> list[str]:
    return sorted(times, key=lambda name: times[name])[:keep]


def measure(case: Case) -> list[str]:
    game = case.build()
    own: dict[object, Task] = {
        "first": lambda: ap.attribute(game, case.estimator),
        "again": lambda: ap.attribute(game, case.estimator),
        "set-up": case.build,
        "default": case.default,
    }
    next(iter(case.bare.values()))()  # warm up
    times: dict[object, float] = {"first": clock(own.pop("first"))}
    # the most promising settings take part in the rounds, so that luck does not choose
    race: dict[object, Task] = {}
    for kind, settings in (("bare", case.bare), ("tuned", case.tuned)):
        tried = {name: clock(task) for name, task in settings.items()}
        race |= {(kind, name): settings[name] for name in quickest(tried, SHORTLIST)}
    tasks = {**own, **race}
    times |= dict.fromkeys(tasks, float("inf"))
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            times[name] = min(times[name], clock(task))
    bare, tuned = (
        quickest({key: times[key] for key in race if key[0] == kind})[0]
        for kind in ("bare", "tuned")
    )
    ours = ap.attribute(game, case.estimator).scores
    off = float((ours - case.default()).abs().max() / ours.abs().max())
    shown = ("first", "again", "set-up", "default", tuned)
    row = [case.name, f"{times[bare]:.2f} s ({bare[1]})"]
    row += [f"{times[name] / times[bare]:.2f}" for name in shown]
    row[-1] += f" ({tuned[1]})"
    return [*row, f"{times['again'] / times[tuned]:.2f}", f"{off:.0e}"]


def laid(x: Tensor, rows: int) -> Tensor:
    return x.repeat(rows, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def batches(count: int, size: int) -> list[int]:
    return [min(size, count - done) for done in range(0, count, size)]


def pictures() -> tuple[nn.Module, Tensor, ap.Blend]:
    subject = ap.zoo.load("efficientnet-lite0")
    x = subject.prepare(ap.zoo.samples.sample("cat")).x
    return subject.model.requires_grad_(False), x, ap.Blend(ap.removals.zeros())


def path_integral() -> Case:
    model, x, removal = pictures()

    def bare(size: int) -> None:
        for rows in batches(STEPS, size):
            leaf = laid(x, rows).requires_grad_()
            torch.autograd.grad(model(leaf)[:, CAT].sum(), leaf)
        with torch.no_grad():
            model(laid(x, 2))  # both ends

    def captum(given: Tensor, size: int | None = None) -> Tensor:
        theirs = peer.IntegratedGradients(model).attribute(
            given, target=CAT, n_steps=STEPS, internal_batch_size=size
        )
        return theirs[0].sum(0).flatten()

    return Case(
        f"PathIntegral, {STEPS} steps, EfficientNet-Lite0 pixels",
        {f"{size}": lambda size=size: bare(size) for size in SIZES},
        lambda: ap.ModelGame(model, x, ap.values.Logit(CAT), ap.players.pixels(x), removal),
        ap.PathIntegral(steps=STEPS, tolerance=None),
        lambda: captum(x),
        both_layouts(x, captum),
    )


def leave_one_out() -> Case:
    model, x, removal = pictures()
    players = ap.players.patches(x, PATCH)
    window = (3, PATCH, PATCH)

    @torch.no_grad()
    def bare(size: int) -> None:
        for rows in batches(players.n + 1, size):
            model(laid(x, rows))

    def captum(given: Tensor, size: int = 1) -> Tensor:
        theirs = peer.Occlusion(model).attribute(
            given, window, strides=window, target=CAT, perturbations_per_eval=size
        )
        return theirs[0, 0, ::PATCH, ::PATCH].flatten()

    return Case(
        f"LeaveOneOut, {players.n} patches, EfficientNet-Lite0",
        {f"{size}": lambda size=size: bare(size) for size in SIZES},
        lambda: ap.ModelGame(model, x, ap.values.Logit(CAT), players, removal),
        ap.LeaveOneOut(),
        lambda: captum(x),
        both_layouts(x, captum),
    )


def both_layouts(x: Tensor, captum: Callable[[Tensor, int], Tensor]) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for size in SIZES:
        tasks[f"{size}"] = lambda size=size: captum(x, size)
        tasks[f"{size}, channels last"] = lambda size=size: captum(laid(x, 1), size)
    return tasks


def gradient() -> Case:
    subject = ap.zoo.load("smollm2")
    model = subject.model.requires_grad_(False)
    ids = subject.prepare(ap.zoo.samples.sample("text")).x
    target, table = subject.index(" Mary"), model.get_input_embeddings()

    def bare() -> None:
        leaf = table(ids).requires_grad_()
        logits = model(inputs_embeds=leaf, use_cache=False, logits_to_keep=1).logits
        torch.autograd.grad(logits[0, -1, target], leaf)

    def captum(**options: object) -> Tensor:
        # captum wants a graph from the embedding on, which a frozen table does not start
        table.requires_grad_(True)
        try:
            method = peer.LayerGradientXActivation(
                lambda given: model(given, **options).logits[:, -1], table
            )
            return method.attribute(ids, target=target)[0].sum(-1).detach()
        finally:
            table.requires_grad_(False)

    return Case(
        f"Gradient, {ids.shape[1]} tokens, SmolLM2",
        {"1": bare},
        lambda: ap.ModelGame(
            model,
            ids,
            ap.values.Logit(target),
            ap.players.tokens(model, ids),
            ap.Blend(ap.removals.zeros()),
        ),
        ap.Gradient(),
        captum,
        {"one position": lambda: captum(use_cache=False, logits_to_keep=1)},
    )


HEAD = [
    "", "bare passes (batch)", "first", "again", "set-up", "captum", "captum tuned (batch)",
    "again / tuned", "differs",
]  # fmt: skip


def main() -> None:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum tells that it sets requires_grad and hooks
        rows = [HEAD, *(measure(case()) for case in (path_integral, leave_one_out, gradient))]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"\n{torch.get_num_threads()} threads, {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
