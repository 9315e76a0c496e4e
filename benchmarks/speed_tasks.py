"""The questions of `benchmarks.speed`: ours, the bare passes they amount to, and captum's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import captum.attr as peer
import torch
from torch import Tensor, nn

import apportion as ap

Task = Callable[[], object]

SIZES = (4, 8, 16, 32)
CAT, SIGMA = 285, 0.15


@dataclass(frozen=True)
class Case:
    """One question, asked in several ways that are to be timed."""

    name: str  # as captum's users call it, or the task
    build: Callable[[], ap.ModelGame]
    ask: Callable[[ap.ModelGame], object]
    bare: dict[str, Task] = field(default_factory=dict)  # by batch size
    captum: Task | None = None  # at its defaults
    tuned: dict[str, Task] = field(default_factory=dict)  # captum, by setting
    task: str | None = None  # name under which its overhead is told; None = it is not
    milliseconds: bool = False  # tell the difference, not the ratio
    settling: int = 3  # answers until the fastest batch size is known


@dataclass(frozen=True)
class Sizes:
    """How much is asked, the same of everyone."""

    steps: int = 50
    window: int = 16
    samples: int = 512
    captum_samples: int = 100  # one at a time these take a while
    orders: int = 2
    cell: int = 32
    noise: int = 25
    batches: tuple[int, ...] = SIZES


FAST = Sizes(2, 112, 16, 16, 2, 112, 2, (4,))


@dataclass(frozen=True)
class Photo:
    """EfficientNet-Lite0 and the picture of a cat."""

    model: nn.Module
    x: Tensor
    sizes: Sizes
    seed: int

    def game(self, players: ap.players.Players, removal: ap.removals.Removal) -> ap.ModelGame:
        return ap.ModelGame(self.model, self.x, ap.values.Logit(CAT), players, removal)

    def forwards(self, count: int) -> dict[str, Task]:
        return {f"{size}": lambda size=size: self._forwards(count, size) for size in self.batches}

    def gradients(self, count: int, ends: int = 0) -> dict[str, Task]:
        def run(size: int) -> None:
            for rows in batches(count, size):
                leaf = laid(self.x, rows).requires_grad_()
                torch.autograd.grad(self.model(leaf)[:, CAT].sum(), leaf)
            if ends:
                self._forwards(ends, ends)

        return {f"{size}": lambda size=size: run(size) for size in self.batches}

    def both_layouts(self, captum: Callable[[Tensor, int], Tensor]) -> dict[str, Task]:
        """Captum by batch size, on the picture as it is and with channels last."""
        tasks: dict[str, Task] = {}
        for size in self.batches:
            tasks[f"{size}"] = lambda size=size: captum(self.x, size)
            tasks[f"{size}, channels last"] = lambda size=size: captum(laid(self.x, 1), size)
        return tasks

    @property
    def batches(self) -> tuple[int, ...]:
        return self.sizes.batches

    @torch.no_grad()
    def _forwards(self, count: int, size: int) -> None:
        for rows in batches(count, size):
            self.model(laid(self.x, rows))


def photo(sizes: Sizes, seed: int) -> Photo:
    subject = ap.zoo.load("efficientnet-lite0")
    x = subject.prepare(ap.zoo.samples.sample("cat")).x
    return Photo(subject.model.requires_grad_(False), x, sizes, seed)


def laid(x: Tensor, rows: int) -> Tensor:
    return x.repeat(rows, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def batches(count: int, size: int) -> list[int]:
    return [min(size, count - done) for done in range(0, count, size)]


def zeros() -> ap.Blend:
    return ap.Blend(ap.removals.zeros())


def path_integral(on: Photo) -> Case:
    steps = on.sizes.steps

    def captum(given: Tensor, size: int | None = None) -> Tensor:
        method = peer.IntegratedGradients(on.model)
        return method.attribute(given, target=CAT, n_steps=steps, internal_batch_size=size)

    players, estimator = ap.players.pixels(on.x), ap.PathIntegral(steps=steps, tolerance=None)
    return Case(
        "integrated-gradients",
        lambda: on.game(players, zeros()),
        lambda game: ap.attribute(game, estimator),
        on.gradients(steps, ends=2),
        lambda: captum(on.x),
        on.both_layouts(captum),
        "path-integral",
    )


def saliency(on: Photo) -> Case:
    players, unit = ap.players.pixels(on.x), ap.Blend(ap.removals.step(1.0))

    def captum(given: Tensor) -> Tensor:
        return peer.Saliency(on.model).attribute(given, target=CAT, abs=False)

    return Case(
        "saliency",
        lambda: on.game(players, unit),
        lambda game: ap.attribute(game, ap.Gradient()),
        on.gradients(1),
        lambda: captum(on.x),
        {"as it is": lambda: captum(on.x), "channels last": lambda: captum(laid(on.x, 1))},
    )


def smoothgrad(on: Photo) -> Case:
    players, count = ap.players.pixels(on.x), on.sizes.noise
    noisy = ap.Jitter(ap.Blend(ap.removals.step(1.0)), SIGMA)

    def captum(given: Tensor, size: int | None = None) -> Tensor:
        method = peer.NoiseTunnel(peer.Saliency(on.model))
        return method.attribute(
            given, target=CAT, abs=False, stdevs=SIGMA, nt_samples=count,
            nt_samples_batch_size=None if size is None else min(size, count),
        )  # fmt: skip

    return Case(
        "smoothgrad",
        lambda: on.game(players, noisy),
        lambda game: ap.attribute(game, ap.AveragedGradient(samples=count), seed=on.seed),
        on.gradients(count),
        lambda: captum(on.x),
        on.both_layouts(captum),
    )


def occlusion(on: Photo) -> Case:
    window = on.sizes.window
    players = ap.players.patches(on.x, window)

    def captum(given: Tensor, size: int = 1) -> Tensor:
        shape = (3, window, window)
        return peer.Occlusion(on.model).attribute(
            given, shape, strides=shape, target=CAT, perturbations_per_eval=size
        )

    return Case(
        "occlusion",
        lambda: on.game(players, zeros()),
        lambda game: ap.attribute(game, ap.Occlusion(window=1, stride=1)),
        on.forwards(players.n + 1),
        lambda: captum(on.x),
        on.both_layouts(captum),
        "occlusion",
    )


def sampled(
    on: Photo, name: str, estimator: ap.estimators.Estimator, captum: Callable[..., Tensor]
) -> Case:
    """A method that asks for coalitions of square cells."""
    players = ap.players.patches(on.x, on.sizes.cell)
    return Case(
        name,
        lambda: on.game(players, zeros()),
        lambda game: ap.attribute(game, estimator, seed=on.seed),
        on.forwards(estimator.cost(players.n).evaluations),
        lambda: captum(on.x),
        on.both_layouts(captum),
    )


def cell_mask(on: Photo) -> Tensor:
    owner = next(iter(ap.players.patches(on.x, on.sizes.cell).owner.values()))
    return owner[None].expand(1, 3, -1, -1).contiguous()


def kernel_shap(on: Photo) -> Case:
    count, mask = on.sizes.captum_samples, cell_mask(on)

    def captum(given: Tensor, size: int = 1) -> Tensor:
        return peer.KernelShap(on.model).attribute(
            given, target=CAT, feature_mask=mask, n_samples=count, perturbations_per_eval=size
        )

    return sampled(on, "kernel-shap", ap.KernelShap(samples=count), captum)


def shapley_sampling(on: Photo) -> Case:
    orders, mask = on.sizes.orders, cell_mask(on)

    def captum(given: Tensor, size: int = 1) -> Tensor:
        return peer.ShapleyValueSampling(on.model).attribute(
            given, target=CAT, feature_mask=mask, n_samples=orders, perturbations_per_eval=size
        )

    return sampled(on, "shapley-sampling", ap.PermutationShapley(orders=orders), captum)


def lime(on: Photo) -> Case:
    count, mask = on.sizes.captum_samples, cell_mask(on)

    def captum(given: Tensor, size: int = 1) -> Tensor:
        return peer.Lime(on.model).attribute(
            given, target=CAT, feature_mask=mask, n_samples=count, perturbations_per_eval=size
        )

    return sampled(on, "lime", ap.Lime(samples=count), captum)


def cells(on: Photo) -> Case:
    """Kernel SHAP over the cells of the picture, against bare passes."""
    players, estimator = (
        ap.players.patches(on.x, on.sizes.cell),
        ap.KernelShap(samples=on.sizes.samples),
    )
    return Case(
        "kernel-shap-cells",
        lambda: on.game(players, zeros()),
        lambda game: ap.attribute(game, estimator, seed=on.seed),
        on.forwards(estimator.cost(players.n).evaluations),
        task="kernel-shap",
        settling=1,
    )


def tokens(sizes: Sizes) -> Case:
    """Leave-one-out over the tokens of a prompt."""
    subject = ap.zoo.load("smollm2")
    model = subject.model.requires_grad_(False)
    ids = subject.prepare(ap.zoo.samples.sample("text")).x
    players, value = ap.players.tokens(model, ids), ap.values.Logit(subject.index(" Mary"))

    @torch.no_grad()
    def bare(size: int) -> None:
        for rows in batches(players.n + 1, size):
            model(ids.repeat(rows, 1), use_cache=False, logits_to_keep=1)

    return Case(
        "leave-one-out-tokens",
        lambda: ap.ModelGame(model, ids, value, players, zeros()),
        lambda game: ap.attribute(game, ap.LeaveOneOut()),
        {f"{size}": lambda size=size: bare(size) for size in sizes.batches if size <= 16},
        task="leave-one-out",
        settling=8,  # fifteen evaluations tell little of a batch size
    )


def digits(sizes: Sizes, seed: int) -> Case:
    """What kernel SHAP costs besides the passes, where these are almost free."""
    subject = ap.zoo.load("digits")
    model = subject.model.requires_grad_(False)
    x = subject.prepare(ap.zoo.samples.sample("digit")).x
    players, estimator = ap.players.pixels(x), ap.KernelShap(samples=max(sizes.samples, 4 * 64))
    count = estimator.cost(players.n).evaluations

    @torch.no_grad()
    def bare(size: int) -> None:
        for rows in batches(count, size):
            model(x.repeat(rows, 1, 1, 1))

    return Case(
        "digits",
        lambda: ap.ModelGame(model, x, ap.values.Logit(3), players, zeros()),
        lambda game: ap.attribute(game, estimator, seed=seed),
        {f"{size}": lambda size=size: bare(size) for size in (16, 32, 64, 128, 256)},
        task="digits",
        milliseconds=True,
        settling=12,
    )


ON_PHOTO: dict[str, Callable[[Photo], Case]] = {
    "integrated-gradients": path_integral,
    "occlusion": occlusion,
    "kernel-shap-cells": cells,
    "saliency": saliency,
    "smoothgrad": smoothgrad,
    "kernel-shap": kernel_shap,
    "shapley-sampling": shapley_sampling,
    "lime": lime,
}


def cases(seed: int, *, fast: bool, only: str | None) -> list[Callable[[], Case]]:
    """Builders of the cases asked for; models are loaded when one is built."""
    sizes = FAST if fast else Sizes()
    every: dict[str, Callable[[], Case]] = {
        name: lambda make=make: make(photo(sizes, seed)) for name, make in ON_PHOTO.items()
    }
    every |= {"leave-one-out-tokens": lambda: tokens(sizes), "digits": lambda: digits(sizes, seed)}
    return [build for name, build in every.items() if only is None or only in name]
