"""Where in the picture: an overlay in the colours of credit, and views of the same question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..attribution import Attribution
from ..players import Geometry
from ..wording import signed
from .encode import SMALL, palette, photograph, png, resized
from .words import capital, interval, noun, places, unit

FOR, AGAINST = (10, 95, 176), (217, 100, 15)  # on photographs, in light and dark alike
SHADES = 60  # of each colour in a drawn overlay
CELLS = 400  # regions that are drawn one by one
BROAD = 450.0  # width of the drawing in its own units
SMOOTH, FINE = 1.2, 64  # pixels of smoothing; of pictures at least this large
STRONGEST = 0.995  # share of the pixels below full colour
THUMB = (52, 76)
NUMBERED = 5


@dataclass(frozen=True)
class Region:
    """A rectangle of the overlay."""

    x: float
    y: float
    width: float
    height: float
    opacity: float
    negative: bool
    title: str


@dataclass(frozen=True)
class Number:
    """The rank of a player, written on the picture."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class View:
    """One way to look at the picture."""

    label: str
    over: bool  # whether credit lies over it, so that it turns grey
    caption: str
    regions: tuple[Region, ...] = ()
    numbers: tuple[Number, ...] = ()
    image: str = ""
    end: str = ""  # what full colour stands for
    verdict: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Picture:
    """The picture and its views."""

    base: str  # "" = there is no picture, only regions
    width: float
    height: float
    pixelated: bool
    views: tuple[View, ...]
    sentence: str

    @property
    def narrow(self) -> bool:
        """Whether it is higher than wide."""
        return self.height > self.width


def shape_of(credit: Attribution) -> Geometry | None:
    """The geometry of players that can be drawn on a picture."""
    for shape in credit.players.geometry.values():
        if shape.view == "image" and shape.site in credit.players.owner:
            return shape
    return None


def owners(credit: Attribution, shape: Geometry) -> np.ndarray:
    """Who owns each pixel, (height, width); -1 = nobody."""
    assert shape.site is not None
    owner = credit.players.owner[shape.site]
    if owner.ndim == 3 and owner.shape[2] == 1 < owner.shape[0]:
        owner = owner[None, :, :, 0]  # cells of a layer whose channels come last
    return owner.reshape(-1, *owner.shape[-2:])[0].cpu().numpy()


def pixels(picture: Tensor) -> np.ndarray:
    """A picture as (height, width, 3), whatever its channels."""
    seen = picture.cpu().numpy()
    seen = seen[:, :, None] if seen.ndim == 2 else seen
    return np.repeat(seen, 3, axis=2) if seen.shape[2] == 1 else seen[:, :, :3]


def picture(
    credit: Attribution,
    ranked: Sequence[int],
    *,
    more: Sequence[View] = (),
    absent: View | None = None,
) -> Picture | None:
    """The picture with the credit over it, and other views behind it."""
    shape = shape_of(credit)
    if shape is None:
        return None
    owner = owners(credit, shape)
    seen = None if shape.picture is None else pixels(shape.picture)
    height, width = (owner if seen is None else seen).shape[:2]
    size = (BROAD, round(BROAD * height / width, 1))
    kind = noun(credit)
    views = [overlay(credit, shape, capital(kind), size=size, ranked=ranked), *more]
    small = max(height, width) <= SMALL
    if seen is not None:
        inside = shape.site is not None and shape.site.path != ""  # cells of a layer
        model = "" if inside or owner.shape == seen.shape[:2] else (
            f" The model sees it at {owner.shape[1]} × {owner.shape[0]}."
        )  # fmt: skip
        label, caption = "Picture", f"The picture as given, {width} × {height} pixels.{model}"
        if shape.site is not None and shape.site in credit.players.views:
            word = credit.players.views[shape.site].name
            label, caption = (
                capital(word),
                f"The {word} of the picture: the brighter, the larger a coefficient.",
            )
        views.append(View(label, False, caption))
    views += [] if absent is None else [absent]
    best = credit.players.names[ranked[0]]
    told = f"The picture with the credit of {credit.players.n:,} {kind} over it; most for: {best}."
    return Picture("" if seen is None else photograph(seen), *size, small, tuple(views), told)


def overlay(
    credit: Attribution,
    shape: Geometry,
    label: str,
    *,
    size: tuple[float, float] = (BROAD, BROAD),
    ranked: Sequence[int] = (),
) -> View:
    """A credit in the colours of credit: rectangles where players are few, pixels where many."""
    owner, scores = owners(credit, shape), credit.scores.double().cpu().numpy()
    boxes = _boxes(owner, credit.players.n) if credit.players.n <= CELLS else None
    top = float(np.abs(scores).max()) or 1.0
    digits = places(credit)
    if boxes is None:
        return _drawn(credit, owner, scores, label)
    across, down = size[0] / owner.shape[1], size[1] / owner.shape[0]
    regions = []
    for i, (y, x, y1, x1) in enumerate(boxes):
        name, score, error, _ = credit[i]
        title = f"{name}: {interval(score, error, digits, credit.reach)} {unit(credit)}"
        box = (x * across, y * down, (x1 - x) * across, (y1 - y) * down)
        shade = round(abs(score) / top, 3)
        x_, y_, wide, high = (round(b, 1) for b in box)
        regions.append(Region(x_, y_, wide, high, shade, score < 0, title))
    chosen = [p for p in ranked[:NUMBERED] if scores[p] > 0]
    numbers = tuple(Number(regions[p].x, regions[p].y, str(k + 1)) for k, p in enumerate(chosen))
    last = f"Numbers 1 to {len(chosen)} match the list. " if len(chosen) > 1 else ""
    caption = f"{last}The picture turns grey under an overlay so that colour always means credit."
    return View(label, True, caption, tuple(regions), numbers, end=_end(top, credit))


def thumbs(credit: Attribution, listed: Sequence[int]) -> tuple[str, dict[int, float]]:
    """One sheet with the listed players' parts of the picture, and where each stands in it."""
    shape = shape_of(credit)
    if shape is None or shape.picture is None or not listed:
        return "", {}
    owner, seen = owners(credit, shape), pixels(shape.picture)
    down, across = seen.shape[0] / owner.shape[0], seen.shape[1] / owner.shape[1]
    cuts = []
    for player in listed:
        rows, columns = np.nonzero(owner == player)
        y, x = int(rows.min() * down), int(columns.min() * across)
        y1, x1 = (
            max(int((rows.max() + 1) * down), y + 1),
            max(int((columns.max() + 1) * across), x + 1),
        )
        cuts.append(resized(seen[y:y1, x:x1], *THUMB))
    last = max(len(cuts) - 1, 1)
    places_ = {p: round(100 * k / last, 3) for k, p in enumerate(listed)}
    sheet = np.concatenate(cuts)
    return (png(sheet) if max(seen.shape[:2]) <= SMALL else photograph(sheet, len(sheet))), places_


def _drawn(credit: Attribution, owner: np.ndarray, scores: np.ndarray, label: str) -> View:
    """Pixels or regions of any form, as a picture of few colours."""
    field = np.where(owner < 0, 0.0, scores[np.clip(owner, 0, None)])
    pixelwise = credit.players.n > CELLS
    fine = pixelwise and min(field.shape) >= FINE
    field = _smooth(field) if fine else field
    top = float(np.quantile(np.abs(field), STRONGEST)) if pixelwise else float(np.abs(field).max())
    top = top or float(np.abs(field).max()) or 1.0
    shade = np.rint(np.clip(np.abs(field) / top, 0, 1) * SHADES).astype(int)
    if not pixelwise:  # stripes carry the sign where colours do not
        row, column = np.indices(field.shape)
        shade = np.where((field < 0) & ((row + column) % 6 < 2), shade // 3, shade)
    index = np.where(field < 0, SHADES + 1 + shade, shade)
    ramp = np.linspace(0, 255, SHADES + 1).round()
    colours = np.concatenate(
        [np.column_stack([np.tile(rgb, (SHADES + 1, 1)), ramp]) for rgb in (FOR, AGAINST)]
    )
    words = [f"Smoothed by {SMOOTH} pixels for display."] if fine else []
    words += ["Full colour from the strongest half per cent up."] if pixelwise else []
    return View(
        label,
        True,
        " ".join(words),
        image=palette(index, colours),
        end=_end(top, credit),
        pixelated=max(owner.shape) <= SMALL,
    )


def _end(top: float, credit: Attribution) -> str:
    small = top < 0.05
    each = f" per {credit.players.kinds[0]}" if credit.players.n > CELLS else ""
    scaled, words = (1000 * top, "thousandths of ") if small else (top, "")
    return f"{signed(scaled, 1 if scaled >= 0.95 else 2)} {words}{unit(credit)}{each}"


def _boxes(owner: np.ndarray, n: int) -> list[tuple[int, int, int, int]] | None:
    """The rectangle of each player; None where one is no rectangle."""
    out = []
    for player in range(n):
        rows, columns = np.nonzero(owner == player)
        if len(rows) == 0:
            return None
        y, x, y1, x1 = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        if (y1 - y) * (x1 - x) != len(rows):
            return None
        out.append((int(y), int(x), int(y1), int(x1)))
    return out


def _smooth(field: np.ndarray) -> np.ndarray:
    reach = torch.arange(-4, 5, dtype=torch.float64)
    bell = torch.exp(-0.5 * (reach / SMOOTH) ** 2)
    bell = bell / bell.sum()
    x = torch.nn.functional.pad(torch.as_tensor(field)[None, None], (4, 4, 4, 4), "reflect")
    x = torch.nn.functional.conv2d(x, bell[None, None, :, None])
    return torch.nn.functional.conv2d(x, bell[None, None, None])[0, 0].numpy()


def other_views(
    others: Mapping[str, Attribution], verdicts: Mapping[str, tuple[str, str]]
) -> tuple[View, ...]:
    """Finer or other credit that lies on the picture too, each with what may be thought of it."""
    views = []
    for name, credit in others.items():
        shape = shape_of(credit)
        if shape is None:
            continue
        state, reason = verdicts.get(name, ("", ""))
        view = overlay(credit, shape, capital(name))
        words = f"{reason} {view.caption if not view.regions else ''}".strip()
        views.append(View(**{**vars(view), "numbers": (), "caption": words, "verdict": state}))
    return tuple(views)
