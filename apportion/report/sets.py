"""Scores of sets and of pairs of players: a map of the pairs, and the largest sets as bars."""

from __future__ import annotations

from typing import Any

from ..interactions import Interactions, SetCredit
from ..pairs import Pairs
from ..types import BadRequest
from ..wording import clock, decimals, signed
from .bar_chart import BAR, QUIET, bar_chart
from .grid import Grid, block, cells, grid
from .plot import matplotlib
from .words import capital, half

LISTED = 12


def plot(found: Interactions, *, top: int = 12, ax: Any = None) -> Any:
    """A figure: a map of the pairs where there are any, and bars of the `top` largest sets.

    With `ax` only one drawing is made, there. Needs matplotlib.
    """
    pyplot = matplotlib()
    if top < 1:
        raise BadRequest(f"plot(top={top}): draw at least one set")
    found.top(1)  # refuses scores of several outputs
    paired = bool((found.sets.sum(-1) == 2).any())
    if ax is not None:
        _map(found, ax) if paired else _bars(found, ax, top)
        return ax.figure
    side = max(3.6, min(0.22 * found.players.n, 9.0))
    high = max(BAR * min(top, len(found.sets)) + 0.9, 1.6, side if paired else 0)
    figure = pyplot.Figure(figsize=(side + 5.6 if paired else 6.4, high))
    if not paired:
        _bars(found, figure.subplots(), top)
    else:
        left, right = figure.subplots(1, 2, width_ratios=(side, 3.6))
        _map(found, left)
        _bars(found, right, top)
    figure.tight_layout()
    return figure


def html(found: Interactions) -> str:
    """One block: the map of pairs, the largest sets, and what they cost."""
    game = found.provenance.game
    head = f"{found.provenance.estimator or 'Scores'} of {len(found.sets):,} sets of "
    head += f"{found.players}" + (f" for {game.value}" if game is not None else "")
    cost = f"{capital(str(found.cost))}, {clock(found.provenance.seconds)}."
    if found.scores.ndim != 1:
        shape = tuple(found.scores.shape[:-1])
        return block(
            f"{head}, outputs {shape}; choose with interactions.pick(...)", Grid(), (), cost
        )
    names, unit = found.players.names, _unit(found)
    paired = bool((found.sets.sum(-1) == 2).any())
    drawn = grid(found.matrix(), names, names, unit) if paired else Grid()
    top = found.top(LISTED)
    places = decimals(abs(top[0].score)) if top else 2
    lines = [_line(found, credit, places) for credit in top]
    if found.gap is not None:
        cost += f" Gap to the whole: {signed(float(found.gap))} {unit}.".replace(" .", ".")
    return block(head, drawn, lines, cost)


def _line(found: Interactions, credit: SetCredit, places: int) -> str:
    width = half(credit.error, places, found.reach)
    between = f" ± {width}" if width else ""
    return f"{credit.name}: {signed(credit.score, places)}{between} {_unit(found)}".rstrip()


def _unit(found: Interactions) -> str:
    return found.provenance.game.unit if found.provenance.game is not None else ""


def _map(found: Interactions, ax: Any) -> None:
    cells(ax, found.matrix(), found.players.names, found.players.names)
    ax.set_title("Pairs: blue for, orange against", fontsize=9, color=QUIET, loc="left")


def _bars(found: Interactions, ax: Any, top: int) -> None:
    """Horizontal bars with 95 % intervals, the largest score on top."""
    rows = sorted(found.top(top), key=lambda credit: credit.score)
    bar_chart(ax, rows, found.reach, f"Score, {_unit(found)}".rstrip(", "))


def plot_pairs(found: Pairs, *, ax: Any = None) -> Any:
    """A map of the pairs, the first input down and the second across. Needs matplotlib."""
    pyplot = matplotlib()
    if ax is None:
        across, down = (max(3.0, min(0.3 * p.n, 9.0)) for p in (found.players_b, found.players_a))
        ax = pyplot.Figure(figsize=(across + 1.6, down + 1.2)).subplots()
    cells(ax, found.scores, found.players_a.names, found.players_b.names)
    ax.set_title("Pairs: blue for, orange against", fontsize=9, color=QUIET, loc="left")
    ax.figure.tight_layout()
    return ax.figure


def html_of_pairs(found: Pairs) -> str:
    """One block: the map of pairs, the largest of them, and the sum they make."""
    first = found.provenance[0]
    head = f"{found.players_a} × {found.players_b}"
    head += f", {first.estimator}" if first.estimator else ""
    top = found.top(LISTED)
    places = decimals(abs(top[0].score))
    lines = []
    for a, b, score, error in top:
        width = half(error, places, found.reach)
        lines.append(f"{a} × {b}: {signed(score, places)}" + (f" ± {width}" if width else ""))
    seconds = sum(about.seconds for about in found.provenance)
    note = f"Sum {signed(found.sum(), places)}."
    if found.ends.both is not None:
        note += f" Similarity {signed(found.ends.both, places)}."
    if found.gap is not None:
        note += f" Gap to its change: {signed(found.gap, places)}."
    note += f" {capital(str(found.cost))}, {clock(seconds)}."
    drawn = grid(found.scores, found.players_a.names, found.players_b.names)
    return block(head, drawn, lines, note)
