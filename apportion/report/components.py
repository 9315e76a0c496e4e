"""Which parts of the model: sorted areas by layer, or a map of layers and heads."""

from __future__ import annotations

from dataclasses import dataclass

from ..attribution import Attribution
from ..players.parts import called, layer_number
from ..wording import plural, signed
from .heat_map import Map, heat_map
from .scale import Scale
from .words import interval, kinds, places, unit

MOST = 2000  # components that are drawn as cells
POINTS = 400  # corners of a sorted area, at most
BROAD, HIGH = 560.0, 54.0
TOP = 8  # rows of the table


@dataclass(frozen=True)
class Layer:
    """One layer's credits, largest first, as areas above and below a line."""

    name: str
    count: str
    above: str
    below: str
    zero: float
    largest: str
    sum: str
    sentence: str


@dataclass(frozen=True)
class Components:
    """Everything that is drawn of the credit inside the model."""

    layers: tuple[Layer, ...]
    maps: tuple[Map, ...]
    end: str
    sentence: str
    table: tuple[tuple[str, str], ...]
    rest: str
    unit: str
    total: str
    ends: str
    half: str


def components(credit: Attribution, total: tuple[str, str]) -> Components:
    """The drawings and numbers of one credit of components."""
    digits = places(credit)
    scores = credit.scores.double()
    ranked = scores.abs().argsort(descending=True).tolist()
    shown = ranked[:TOP]
    rest = scores.sum() - scores[shown].sum()
    left = credit.players.n - len(shown)
    maps = _maps(credit)
    return Components(
        () if maps else _layers(credit),
        maps,
        f"{signed(float(scores.abs().max()), digits)} {unit(credit)}",
        f"Credit of {credit.players.n:,} {kinds(credit)}; largest: "
        f"{credit.players.names[ranked[0]]}.",
        tuple((credit[i].name, interval(*credit[i][1:3], digits, credit.reach)) for i in shown),
        f"{left:,} others, together {signed(float(rest), digits)}" if left else "",
        unit(credit),
        *total,
        _half(credit),
    )


def _half(credit: Attribution) -> str:
    """How concentrated the credit is."""
    sizes = credit.scores.double().abs().sort(descending=True).values
    if not bool(sizes.any()) or len(sizes) < 10:
        return ""
    count = int((sizes.cumsum(0) < sizes.sum() / 2).sum()) + 1
    return f"The {count:,} largest of {len(sizes):,} hold half of all credit, signs left out."


def _layers(credit: Attribution) -> tuple[Layer, ...]:
    groups: dict[str, list[int]] = {}
    for player, site in enumerate(credit.players.home()):
        groups.setdefault(site.path, []).append(player)
    high = max(float(credit.scores.max()), 0.0)
    low = min(float(credit.scores.min()), 0.0)
    scale = Scale(low, high if high > low else low + 1, size=-HIGH, start=HIGH)
    return tuple(_layer(credit, path, players, scale) for path, players in groups.items())


def _layer(credit: Attribution, path: str, players: list[int], scale: Scale) -> Layer:
    scores = credit.scores[players].double()
    ordered = scores.sort(descending=True).values.tolist()
    largest = credit[players[int(scores.abs().argmax())]]
    digits = places(credit)
    kind = plural(credit.players.kinds[players[0]], len(players))
    name = called(path) or "the model"
    own = largest.name.removeprefix(f"{name}, ")
    best, sum_ = signed(largest.score, digits), signed(float(scores.sum()), digits)
    return Layer(
        name,
        f"{len(players):,} {kind}",
        _area([max(s, 0.0) for s in ordered], scale),
        _area([min(s, 0.0) for s in ordered], scale),
        scale.at(0.0),
        f"{best}, {own}",
        f"{sum_} {unit(credit)}",
        f"{name}: {len(players):,} {kind}, largest credit first; the largest is {best} "
        f"{unit(credit)}",
    )


def _area(ordered: list[float], scale: Scale) -> str:
    """Steps of equal width from zero, as one outline; gaps between few, corners left out of
    many.
    """
    n = len(ordered)
    if not any(ordered):
        return ""
    wide, zero = BROAD / n, scale.at(0.0)
    inner = 1.0 if n <= POINTS / 4 else 0.0
    take = range(n) if n <= POINTS else [k * n // POINTS for k in range(POINTS)]
    out = []
    for k, i in enumerate(take):
        if not ordered[i]:
            continue
        end = n if k + 1 == len(take) else take[k + 1]
        x, x1, y = round(i * wide, 1), round(end * wide - inner, 1), scale.at(ordered[i])
        out.append(f"M{x} {zero}V{y}H{x1}V{zero}Z")
    return "".join(out)


def _maps(credit: Attribution) -> tuple[Map, ...]:
    """The two maps; none where the players are no heads or MLPs, or too many."""
    if set(credit.players.kinds) - {"head", "mlp"} or credit.players.n > MOST:
        return ()
    places_: dict[str, list[int]] = {}
    for player, site in enumerate(credit.players.home()):
        places_.setdefault(layer_number(site.path), []).append(player)
    heads = [[p for p in row if credit.players.kinds[p] == "head"] for row in places_.values()]
    mlps = [[p for p in row if credit.players.kinds[p] == "mlp"] for row in places_.values()]
    most = max(map(len, heads))
    if most > 64 or max(map(len, mlps)) > 1 or len(places_) < 2:
        return ()
    grid = [(*row, *[-1] * (most - len(row))) for row in heads]
    last = [row[0] if row else -1 for row in mlps]
    rows = [(*row, *([mlp] if max(last) >= 0 else [])) for row, mlp in zip(grid, last, strict=True)]
    return (
        heat_map(credit, rows, most, tuple(places_), upright=False),
        heat_map(credit, rows, most, tuple(places_), upright=True),
    )
