"""Explanations put together by hand: every number is known, nothing has to be computed first."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

import torch
from torch import Tensor

import apportion as ap
from apportion.attribution import Attribution, Provenance
from apportion.evaluate import Curve, Score
from apportion.explanation import Explanation, Part, Prediction
from apportion.games.base import Description
from apportion.players import Players, plain
from apportion.trust import Check, Trust, decide
from tests.small import IDS, decoder, normal

HOSTILE = "<script>alert(1)</script>\"'</style></title>&amp;\u202e\u00e9\u732b\U0001f408 -->]]>"


class Letters:
    """A tokenizer that spells a number as somebody's text."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def decode(self, token_ids: object, /) -> str:
        return "".join(self.words[int(i) % len(self.words)] for i in token_ids)


def credit(
    players: Players,
    *,
    error: float | None = 0.05,
    scores: Tensor | None = None,
    seed: int = 3,
    unit: str = "nats",
) -> Attribution:
    scores = normal(players.n, seed=seed) if scores is None else scores.double()
    total = scores.sum()
    return Attribution(
        scores,
        players,
        torch.tensor(-1.0, dtype=torch.float64),
        total - 1.0,
        None if error is None else torch.full_like(scores, error),
        ap.Cost(evaluations=1234, gradients=7),
        Provenance(
            Description(str(players), "Margin(target=1)", unit, "Blend(zeros)", "Sequential"),
            "PermutationShapley(orders=24)",
            5,
            cites=("castro2009", "mitchell2022"),
            claims=("efficiency",),
            seconds=1.5,
            versions={"apportion": "0.1.0", "torch": "2.13.0"},
            notes=("4 of them equal their replacement",),
        ),
    )


def order_check(value: float, n: int, role: str = "decides") -> Check:
    counts = torch.arange(n + 1)
    own = torch.linspace(-1.0, 4.0, n + 1, dtype=torch.float64)
    curve = Curve(counts, own, own - 1.25, own + 0.5)
    back = Curve(counts, own.flip(0), own.flip(0) - 1.25, own.flip(0) + 0.5)
    score = Score(
        value,
        "nats",
        chance=(-1.84, 1.84),
        p_value=0.0238,
        random=40,
        curves={"insertion": curve, "deletion": back},
    )
    return Check("insertion minus deletion", role, score, "Adding them matters.", "Everything.")


def checks(value: float, n: int) -> list[Check]:
    unit = "rank correlation"
    rank = {"chance": (-0.31, 0.29), "p_value": 0.031, "best": 1.0, "random": 999, "error": 0.04}
    return [
        order_check(value, n),
        Check("unseen halves", "required", Score(0.71, unit, **rank), "Ranks.", "No."),
        Check(
            "standard errors",
            "required",
            Score(float(n), "players", chance=(0.0, 2.0), best=float(n)),
            f"{n} of {n} credits clear zero at 95%; by chance at most 2 would.",
            "Bias.",
        ),
        Check(
            "shuffled weights", "required", Score(-0.12, unit, **rank), "Differs.",
            "Whether it is the reason you hoped for.", wants="inside",
        ),
        Check("leave-one-out", "informs", Score(0.08, unit, **rank), "Other.", "All."),
        Check(
            "adds up", "informs", Score(8.66, "nats", chance=(8.2, 9.1), best=8.66), "Nothing.",
            "Tell right from wrong.", wants="nothing",
        ),
        Check("same answer twice", "informs", None, "It was not asked.", "Anything."),
    ]  # fmt: skip


def inner(players: Players) -> tuple[Attribution, Trust]:
    score = Score(3.21, "nats", chance=(-0.2, 0.87), p_value=0.025, random=39,
                  note=f"1 of {players.n} removed together")  # fmt: skip
    check = Check("removed together", "decides", score, "They matter as a group.", "Each one.")
    return credit(players, error=None, seed=8), decide([check])


def explanation(
    features: Players,
    kind: str,
    *,
    value: float = 2.46,
    parts: Players | None = None,
    label: str = "tabby",
    **more: object,
) -> Explanation:
    found, trust = (None, None) if parts is None else inner(parts)
    fields = {
        "prediction": Prediction(1, label, 0.77, (("lynx", 0.1), ("bag", 0.0014))),
        "value": "the log-odds of it",
        "absent": "blurred",
        "absent_component": "its usual activation",
        "parts": (Part("Feature credit", 1154.0, 0.0, 14.9), Part("Checks", 3113.0, 32.0, 33.0)),
        "left_out": ("training examples: this needs the training data", "unseen: no room for it"),
        "code": "import apportion as ap\nprint('<again>')",
        "budget": 60.0,
        "model": "a small network",
        **more,
    }
    return Explanation(
        f"Why “{label}”?", kind, credit(features), decide(checks(value, features.n)), found, trust,
        **fields,
    )  # fmt: skip


def image(*, side: int = 64, size: int = 16, shown: int = 96, **more: object) -> Explanation:
    """Patches on a picture, with pixels behind and the picture of absence."""
    x = normal(1, 1, side, side)
    grain = normal(shown, shown + 20, 3, seed=2)
    picture = ((grain - grain.min()) / (grain.max() - grain.min()) * 255).to(torch.uint8).numpy()
    players = ap.players.patches(x, size, picture)
    fine = credit(ap.players.pixels(x, picture), error=None, seed=4)
    return explanation(
        players,
        "image",
        others={"pixels": fine},
        other_checks={"pixels": order_check(0.4, players.n, "informs")},
        absent_picture=torch.full((side, side, 3), 127, dtype=torch.uint8),
        parts=plain(40, "channel"),
        **more,
    )


def digit(**more: object) -> Explanation:
    """A picture of 8 x 8 pixels with one channel."""
    x = normal(1, 1, 8, 8)
    return explanation(ap.players.patches(x, 1), "image", **more)


def text(words: Sequence[str] = (" one", " two", "\n"), **more: object) -> Explanation:
    lm = decoder()
    players = ap.players.tokens(lm, IDS, Letters(words))
    parts = ap.players.heads(lm, count=2) | ap.players.mlps(lm)
    return explanation(players, "text", parts=parts, **more)


def table(names: Sequence[str] = tuple(f"column {i}" for i in range(20)), **more: object):
    x = normal(1, len(names))
    players = ap.players.columns(x, list(names), values=[i / 7 for i in range(len(names))])
    return explanation(players, "table", **more)


def plainly(n: int = 5, **more: object) -> Explanation:
    """Players that nothing can be drawn of but bars."""
    return explanation(plain(n), "function", **more)


VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, attributes, text; unbalanced tags are refused."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []  # innermost element, text
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        said = " ".join(t for tag, t in self.texts if tag not in ("style", "script"))
        return " ".join(said.split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def with_class(self, name: str) -> list[dict[str, str]]:
        return [a for _, a in self.elements if name in a.get("class", "").split()]
