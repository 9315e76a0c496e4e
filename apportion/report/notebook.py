"""Answers as notebooks show them: one block with its own styles, without scripts."""

from __future__ import annotations

import secrets

from ..attribution import Attribution
from ..explanation import Explanation
from ..wording import clock, signed
from .bars import whole
from .case import case, where
from .components import components
from .page import ENVIRONMENT
from .words import capital, unit

ID = 6  # bytes that tell one block of a notebook from the next


def explanation(asked: Explanation) -> str:
    """Answer, verdict, and where; the rest is in the report."""
    id = f"ap{secrets.token_hex(ID)}"
    shown = case(asked, id)
    spent = clock(shown.total.seconds)
    cost = f"{shown.total.forwards:,.0f} forwards, {spent}."
    return _render(id=id, case=shown, where=shown.where, cost=cost)


def html(credit: Attribution) -> str:
    """One attribution: picture, text or bars, and what it cost."""
    game, id = credit.provenance.game, f"ap{secrets.token_hex(ID)}"
    head = f"{credit.provenance.estimator or 'Credit'} of {credit.players}"
    head += f" for {game.value}" if game is not None else ""
    cost = f"{capital(str(credit.cost))}, {clock(credit.provenance.seconds)}."
    if credit.scores.ndim != 1:
        shape = tuple(credit.scores.shape[:-1])
        return _render(id=id, head=f"{head}, outputs {shape}; choose with credit.pick(...)",
                       cost=cost)  # fmt: skip
    if credit.gap is not None:
        cost += f" Gap to the whole: {signed(float(credit.gap))} {unit(credit)}."
    inside = all(shape.view == "parts" for shape in credit.players.geometry.values())
    inner = components(credit, whole(credit)) if credit.players.geometry and inside else None
    return _render(id=id, head=head, where=where(credit), inner=inner, cost=cost)


def _render(**given: object) -> str:
    blank = {"case": None, "where": None, "inner": None, "head": "", "cost": ""}
    return ENVIRONMENT.get_template("fragment.html").render(**{**blank, **given})


__all__ = ["explanation", "html"]
