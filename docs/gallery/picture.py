"""One picture, three quantities: occlusion, Shapley values, integrated gradients on the same 49
patches.

    python docs/gallery/picture.py [--fast]

All three answer "which patches?" for the log-odds of "Egyptian cat", and each is right about its
own question. Insertion minus deletion says which order of patches the model responds to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import apportion as ap

OUT = Path(__file__).parent / "out"


def main(fast: bool) -> None:
    subject = ap.zoo.load("efficientnet-lite0")
    photo = ap.zoo.samples.sample("cat")
    x = subject.prepare(photo).x
    players = ap.players.patches(x, 75 if fast else 32, photo)
    removal = ap.Blend(ap.removals.blur(20))
    game = ap.ModelGame(subject.model, x, ap.values.Margin(285), players, removal)
    estimators = {
        "occlusion": ap.LeaveOneOut(),
        "Shapley value": ap.PermutationShapley(orders=4 if fast else 16),
        "integrated gradients": ap.PathIntegral(steps=8 if fast else 32),
    }
    OUT.mkdir(exist_ok=True)
    for name, estimator in estimators.items():
        credit = ap.attribute(game, estimator, seed=0)
        score = ap.evaluate.insertion_minus_deletion(
            credit, game, random=3 if fast else 39, steps=4 if fast else 14
        )
        print(f"{name}: {', '.join(c.name for c in credit.top(3, signed=True))}")
        print(f"    insertion minus deletion {score}")
        credit.plot().savefig(OUT / f"picture-{name.replace(' ', '-')}.png", dpi=110)


if __name__ == "__main__":
    main("--fast" in sys.argv)
