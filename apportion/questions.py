"""What `why` asks by default: players, removals and alternatives for pictures, texts and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from . import players as who
from . import removals as how
from .backward import CP_LRP
from .estimators import Estimator, Gradient, LeaveOneOut
from .games import Game, ModelGame
from .players import Players
from .removals import Blend, Reference, Removal
from .subject import Prepared, Subject
from .trust import Absence
from .types import BadRequest
from .values import Logit, Value

CELLS = (49, 25, 16, 9)  # of a picture, finest first
TEXTS = (64, 32, 16, 8)  # players of a text, at most
ROWS = (32, 16, 8)  # background rows of a table
SMALL = 32  # pixels; on smaller pictures a blur leaves nearly everything in place
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@runtime_checkable
class WithSpecialTokens(Protocol):
    """A tokenizer that names its special tokens, as Hugging Face's do."""

    @property
    def all_special_ids(self) -> list[int]: ...


@dataclass(frozen=True, eq=False)
class Setup:
    """One question: a game, and what surrounds it."""

    game: ModelGame
    absent: str  # what absence means, in a word or two
    code: str  # the game as an expression over subject, model, x
    absence: Absence | None = None  # another meaning of it
    beside: Mapping[str, tuple[Estimator, Game | None]] = field(default_factory=dict)
    finer: ModelGame | None = None  # the same question about pixels, where there are any
    notes: tuple[str, ...] = ()  # what could not be asked


def levels(subject: Subject) -> int:
    """How many times the question can be made coarser, plus one."""
    return len({"image": CELLS, "text": TEXTS}.get(subject.kind, ROWS))


def features(subject: Subject, given: Prepared, value: Value, level: int) -> Setup:
    """Which parts of the input? `level` 0 is the finest question."""
    if subject.kind == "image":
        return _cells(subject, given, value, CELLS[level])
    if subject.kind == "text":
        return _tokens(subject, given, value, TEXTS[level])
    return _columns(subject, given, value, ROWS[level])


def components(subject: Subject, given: Prepared, value: Value, level: int) -> Setup | str:
    """Which parts of the model? Or why that cannot be asked."""
    try:
        if subject.kind == "image":
            return _channels(subject, given, value)
        if subject.kind == "text":
            return _heads(subject, given, value)
        return _neurons(subject, given, value, ROWS[level])
    except BadRequest as failure:
        return str(failure)


# -- pictures


def _cells(subject: Subject, given: Prepared, value: Value, cells: int) -> Setup:
    x = given.x
    if x.ndim < 4:
        raise BadRequest(
            f"a picture has axes (batch, channel, height, width); got {tuple(x.shape)}"
        )
    side = round(math.sqrt(x.shape[-1] * x.shape[-2] / cells))
    size = max(1, min(side, *x.shape[-2:]))
    removal, absent, code = _blank(subject, x)
    other = how.counterfactual(x.mean((-1, -2), keepdim=True).expand_as(x))
    players = who.patches(x, size, given.picture)
    game = ModelGame(subject.model, x, value, players, removal)
    finer = ModelGame(subject.model, x, value, who.pixels(x, given.picture), removal)
    return Setup(
        game,
        absent,
        f"ap.ModelGame(model, x, value, ap.players.patches(x, {size}), {code})",
        Absence("flat grey" if x.shape[-3] == 1 else "the picture's mean colour", Blend(other)),
        {"leave-one-out": (LeaveOneOut(), None)},
        finer,
    )


def _blank(subject: Subject, x: Tensor) -> tuple[Removal, str, str]:
    side = min(x.shape[-2:])
    if side >= SMALL:
        sigma = float(max(1, round(side / 11)))
        removal = Blend(how.blur(sigma))
        return removal, "blurred", f"ap.Blend(ap.removals.blur({sigma:g}))"
    if isinstance(subject.background, Tensor):
        removal = Blend(how.mean(subject.background))
        code = "ap.Blend(ap.removals.mean(subject.background))"
        return removal, "the average of other pictures", code
    return Blend(how.zeros()), "black", "ap.Blend(ap.removals.zeros())"


def _channels(subject: Subject, given: Prepared, value: Value) -> Setup:
    layers = [p for p, m in subject.model.named_modules() if isinstance(m, CONVOLUTIONS)]
    if not layers:
        raise BadRequest("the model has no convolution whose channels could be asked about")
    layer = layers[-1]
    removal, absent, code = _blank(subject, given.x)
    players = who.channels(subject.model, layer, input=given.x)
    game = ModelGame(subject.model, given.x, value, players, removal)
    absent = {"blurred": "its activation on the blurred picture"}.get(
        absent, "its usual activation"
    )
    return Setup(
        game,
        absent,
        f"ap.ModelGame(model, x, value, ap.players.channels(model, {layer!r}), {code})",
    )


# -- texts


def _tokens(subject: Subject, given: Prepared, value: Value, most: int) -> Setup:
    ids, lm = given.x, subject.model
    players, code = _pieces(subject, ids, most)
    windows = subject.windows(ids.shape[1]) if isinstance(subject.background, str) else None
    if windows is None:
        removal: Removal = Blend(how.zeros())
        absent, how_code, other = "the zero embedding", "ap.Blend(ap.removals.zeros())", None
    else:
        removal = Blend(how.mean(windows))
        absent = "the mean embedding of other text"
        how_code = f"ap.Blend(ap.removals.mean(subject.windows({ids.shape[1]})))"
        other = Absence("words of another text", Blend(how.counterfactual(windows[:1])))
    game = ModelGame(lm, ids, value, players, removal)
    beside: dict[str, tuple[Estimator, Game | None]] = {"leave-one-out": (LeaveOneOut(), None)}
    notes = []
    try:
        # conserved only for values linear in the logits, so relevance explains the logit
        own = Logit(value.target) if not value.linear and _has_target(value) else value  # type: ignore[attr-defined]
        relevance = ModelGame(lm, ids, own, players, Blend(how.zeros())).under(CP_LRP)
        beside["layer-wise relevance"] = (Gradient(), relevance)
    except BadRequest as failure:
        notes.append(f"layer-wise relevance: {failure}")
    return Setup(
        game,
        absent,
        f"ap.ModelGame(model, x, value, {code}, {how_code})",
        other,
        beside,
        notes=tuple(notes),
    )


def _pieces(subject: Subject, ids: Tensor, most: int) -> tuple[Players, str]:
    """Tokens without the special ones; words where they are many, runs of words where still too
    many.
    """
    tokenizer, lm = subject.tokenizer, subject.model
    special = set(tokenizer.all_special_ids) if isinstance(tokenizer, WithSpecialTokens) else set()
    places = [p for p, token in enumerate(ids[0].tolist()) if token not in special]
    if not places:
        raise BadRequest("the text holds special tokens only; give at least one word")
    players = who.tokens(lm, ids, tokenizer, positions=places)
    if players.n <= most:
        return players, f"ap.players.tokens(model, x, subject.tokenizer, positions={places})"
    players = who.words(lm, ids, tokenizer, positions=places)
    code = f"ap.players.words(model, x, subject.tokenizer, positions={places})"
    if players.n <= most:
        return players, code
    run = -(-players.n // most)
    groups = [list(range(i, min(i + run, players.n))) for i in range(0, players.n, run)]
    return players.merge(groups), f"{code}.merge({groups})"


def _heads(subject: Subject, given: Prepared, value: Value) -> Setup:
    ids, lm = given.x, subject.model
    found, codes = [], []
    for build, code in (
        (who.heads, "ap.players.heads(model)"),
        (who.mlps, "ap.players.mlps(model)"),
    ):
        try:
            found.append(build(lm))
            codes.append(code)
        except BadRequest:
            continue  # an architecture without one of the two is asked about the other
    if not found:
        raise BadRequest("neither attention heads nor MLP blocks were found")
    players = found[0] if len(found) == 1 else found[0] | found[1]
    if isinstance(subject.background, str):
        reference: Reference = how.mean(subject.windows(ids.shape[1]))
        code = f"ap.Blend(ap.removals.mean(subject.windows({ids.shape[1]})))"
        absent = "its mean output on other texts"
    else:
        reference, code, absent = how.zeros(), "ap.Blend(ap.removals.zeros())", "zero output"
    game = ModelGame(lm, ids, value, players, Blend(reference))
    return Setup(game, absent, f"ap.ModelGame(model, x, value, {' | '.join(codes)}, {code})")


# -- tables


def _columns(subject: Subject, given: Prepared, value: Value, rows: int) -> Setup:
    background = _background(subject)
    players = who.columns(given.x, subject.columns, values=given.row)
    game = ModelGame(subject.model, given.x, value, players, Blend(how.rows(background[:rows])))
    return Setup(
        game,
        "the value of other rows",
        "ap.ModelGame(model, x, value, ap.players.columns(x, subject.columns), "
        f"ap.Blend(ap.removals.rows(subject.background[:{rows}])))",
        Absence("the mean of every column", Blend(how.mean(background))),
        {"leave-one-out": (LeaveOneOut(), None)},
    )


def _neurons(subject: Subject, given: Prepared, value: Value, rows: int) -> Setup:
    if subject.kind == "function":
        raise BadRequest("a plain function has no components to ask about")
    layers = [p for p, m in subject.model.named_modules() if isinstance(m, nn.Linear)][:-1]
    if not layers:
        raise BadRequest("the model has no hidden linear layer whose neurons could be asked about")
    players = who.neurons(subject.model, layers[0])
    for layer in layers[1:]:
        players = players | who.neurons(subject.model, layer)
    removal = Blend(how.rows(_background(subject)[:rows]))
    game = ModelGame(subject.model, given.x, value, players, removal)
    built = " | ".join(f"ap.players.neurons(model, {layer!r})" for layer in layers)
    return Setup(
        game,
        "its activation on other rows",
        f"ap.ModelGame(model, x, value, {built}, "
        f"ap.Blend(ap.removals.rows(subject.background[:{rows}])))",
    )


def _background(subject: Subject) -> Tensor:
    if subject.background is None:
        raise BadRequest(
            "a table is explained against background rows: an absent column takes their values. "
            "Give background=, prepared rows (row, column), some 30 typical ones"
        )
    given = subject.background
    return given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))


def _has_target(value: Value) -> bool:
    return "target" in vars(value) and isinstance(vars(value)["target"], int)
