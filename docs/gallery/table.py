"""A table row: sampling until the leaders are set apart, and what the metrics say.

python docs/gallery/table.py [--fast]
"""

from __future__ import annotations

import sys

import apportion as ap


def main(fast: bool) -> None:
    subject = ap.zoo.load("breast-cancer")
    given = subject.prepare(ap.zoo.samples.sample("row"))
    players = ap.players.columns(given.x, subject.columns, values=given.row)
    rows = subject.background[: 4 if fast else 32]
    game = ap.ModelGame(
        subject.model, given.x, ap.values.Margin(1), players, ap.Blend(ap.removals.rows(rows))
    )
    estimator = ap.KernelShap(samples=400 if fast else 4000, until=ap.TopK(3))
    credit = ap.attribute(game, estimator, seed=0)
    print(credit)
    for name, metric in ap.evaluate.TABLE.items():
        print(f"    {name}: {metric(credit, game)}")


if __name__ == "__main__":
    main("--fast" in sys.argv)
