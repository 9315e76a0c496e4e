"""Which Shapley estimator errs least at one budget? RMSE by players and samples.

    python benchmarks/precision.py

Games: a small network on the breast-cancer table (columns merged to groups, exact by enumeration),
random games with interactions of three players (exact by closed form; with two players both
estimators are exact), and the 49 patches of a photo under EfficientNet-Lite0, where no exact value
is known: there the spread of four seeds tells the error, but for a bias. Last, ways to draw
orders of arrival. Takes about four minutes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

import apportion as ap
from apportion.games import Game

RUNS = 8


def toy(players: int, order: int) -> tuple[str, Game, Tensor]:
    game = ap.toy.moebius(players, order, Generator().manual_seed(0))
    return f"random, sets of {order}", game, game.shapley()


def network(groups: int) -> tuple[str, Game, Tensor]:
    subject = ap.zoo.load("breast-cancer")
    x = subject.prepare(ap.zoo.samples.sample("row")).x
    columns = ap.players.columns(x, subject.columns)
    parts = [list(range(i, columns.n, groups)) for i in range(groups)]
    removal = ap.Blend(ap.removals.mean(subject.background))
    game = ap.ModelGame(subject.model, x, ap.values.Margin(0), columns.merge(parts), removal)
    return "network", game, ap.attribute(game, ap.KernelShap(samples=2**groups)).scores


def rmse(game: Game, exact: Tensor, estimator: object, seeds: int = RUNS) -> float:
    """Root of the mean squared error over players and seeds, relative to that of zero credit."""
    errors = [ap.attribute(game, estimator, seed=s).scores - exact for s in range(seeds)]
    return float(torch.stack(errors).square().mean().sqrt() / exact.square().mean().sqrt())


def permutations(players: int, samples: int) -> ap.PermutationShapley:
    return ap.PermutationShapley(orders=(samples - 2) // (players - 1) // 2 * 2)


def photo(samples: int) -> None:
    subject = ap.zoo.load("efficientnet-lite0")
    x = subject.prepare(ap.zoo.samples.sample("cat")).x
    patches, removal = ap.players.patches(x, 32), ap.Blend(ap.removals.blur(20))
    game = ap.ModelGame(subject.model, x, ap.values.Margin(285), patches, removal)
    orthogonal = replace(permutations(49, samples), sampling=ap.Orders.ORTHOGONAL)
    corrected = ap.ControlVariateShapley(samples=samples)
    for estimator in (
        permutations(49, samples),
        orthogonal,
        ap.KernelShap(samples=samples),
        corrected,
    ):
        runs = torch.stack(
            [ap.attribute(game, estimator, seed=s).scores.double() for s in range(4)]
        )
        error = float(runs.var(0).mean().sqrt())
        pairs = torch.triu_indices(4, 4, 1)
        alike = float(torch.corrcoef(runs)[pairs[0], pairs[1]].mean())
        name = type(estimator).__name__ + ("-orthogonal" if estimator is orthogonal else "")
        print(f"{name:<29} RMSE {error:.3f} nats, two seeds correlate {alike:.2f}")


def spread_orders() -> None:
    """Orders of arrival that are independent, or spread evenly."""
    kinds = (ap.Orders.INDEPENDENT, ap.Orders.ORTHOGONAL, ap.Orders.SOBOL)
    print("orders of arrival, relative RMSE over 24 seeds; in pairs with their reverse, or without")
    print(f"{'players':>8} {'orders':>7}  {'':<8}" + "".join(f" {k.value:>12}" for k in kinds))
    for n in (10, 20):
        _, game, exact = toy(n, 3)
        for orders in (32, 128, 512):
            for paired in (True, False):
                told = [
                    rmse(
                        game,
                        exact,
                        ap.PermutationShapley(orders=orders, paired=paired, sampling=k),
                        24,
                    )
                    for k in kinds
                ]
                name = "pairs" if paired else "single"
                print(f"{n:>8} {orders:>7}  {name:<8}" + "".join(f" {x:>12.4f}" for x in told))


def main() -> None:
    print(f"relative RMSE over {RUNS} seeds")
    print(f"{'players':>8} {'samples':>8}  {'game':<22} {'permutation':>12} {'kernel':>8}")
    for n, games in ((10, [toy(10, 3), network(10)]), (20, [toy(20, 3)]), (30, [toy(30, 3)])):
        pairs = 2 * (1 + n + n * (n - 1) // 2)
        for name, game, exact in games:
            for samples in (pairs // 4, pairs // 2, pairs):
                a = rmse(game, exact, permutations(n, samples))
                b = rmse(game, exact, ap.KernelShap(samples=samples))
                print(f"{n:>8} {samples:>8}  {name:<22} {a:>12.3f} {b:>8.3f}")
    print("49 patches of a photo, 770 samples:")
    photo(770)
    spread_orders()


if __name__ == "__main__":
    main()
