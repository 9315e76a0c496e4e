"""Why leave-one-out and Shapley values differ with both right: players that stand in for each
other.

    python docs/gallery/stand_ins.py [--fast]

The value is 1 as soon as one of two witnesses is present, and a third player adds 0.2 of its own.
"""

from __future__ import annotations

import sys

import torch

import apportion as ap

NAMES = ("witness A", "witness B", "bystander", "helper")


def value(gates: torch.Tensor) -> torch.Tensor:
    return (gates[:, 0] | gates[:, 1]).double() + 0.2 * gates[:, 3].double()


def main(fast: bool) -> None:
    game = ap.FunctionGame(value, NAMES)
    estimators = [ap.LeaveOneOut(), ap.KernelShap(samples=16)]
    estimators += [] if fast else [ap.PermutationShapley(orders=200), ap.LinearSurrogate()]
    print(f"{'':<22}" + "".join(f"{name:>12}" for name in NAMES))
    for estimator in estimators:
        scores = ap.attribute(game, estimator).scores.tolist()
        print(f"{type(estimator).__name__:<22}" + "".join(f"{s:>12.2f}" for s in scores))
    # the joint effect tells the story that single effects hide
    credit = ap.attribute(game, ap.KernelShap(samples=16))
    print(
        "both witnesses removed together:", ap.evaluate.joint_removal(credit, game, k=2, random=5)
    )


if __name__ == "__main__":
    main("--fast" in sys.argv)
