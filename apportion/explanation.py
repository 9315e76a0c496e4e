"""The answer to `why`: credit on every axis that was asked, and whether to believe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .attribution import Attribution, drawing, pack, unpack
from .evaluate import Curve, Score
from .files import read, write
from .interactions import Interactions, pack_sets, unpack_sets
from .pairs import Pairs, pack_pairs, unpack_pairs
from .records import Records
from .trust import Check, Trust
from .types import BadRequest, Cost
from .wording import decimals, listed, percent, plural, quoted, signed

NAMED = 3  # players an answer names


@dataclass(frozen=True)
class Prediction:
    """What the model said, and how it was asked about."""

    target: int
    label: str
    probability: float | None
    others: tuple[tuple[str, float], ...] = ()  # the next most likely labels, with probabilities
    foil: int | None = None  # what the target is held against; None = all others
    rather: str = ""  # its label
    chances: bool = False  # whether the model returns probabilities rather than logits


@dataclass(frozen=True)
class Part:
    """What one part of the answer cost."""

    name: str
    forwards: float
    backwards: float
    seconds: float
    fits: float = 0  # trainings


@dataclass(frozen=True)
class Refitted:
    """What training without some rows did to the value, and what their credit had foretold."""

    kind: str  # helpful or harmful
    rows: tuple[str, ...]  # those left out, by name
    predicted: float  # change of the value, minus the sum of their credits
    measured: float  # mean change over training seeds
    half: float  # half of its 95% interval
    seeds: int  # training seeds


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model did something: features, components, and the verdict on both."""

    question: str
    kind: str  # image, text, table, function
    features: Attribution
    trust: Trust  # of the features
    components: Attribution | None = None
    component_trust: Trust | None = None
    examples: Attribution | None = None  # of training rows
    example_trust: Trust | None = None
    refitted: tuple[Refitted, ...] = ()  # what refits without the leading rows did
    examples_shown: tuple[int, ...] = ()  # the most helpful rows, then the most harmful
    example_pictures: Tensor | None = None  # of those, uint8 (row, height, width, 3)
    prediction: Prediction | None = None
    value: str = ""  # what is explained, in words
    absent: str = "replaced"  # what absence means, in a word or two: blurred, ...
    absent_component: str = "replaced"
    absent_picture: Tensor | None = None  # the input with every player absent, uint8 picture
    others: Mapping[str, Attribution] = field(default_factory=dict)  # finer or other credit, shown
    other_checks: Mapping[str, Check] = field(default_factory=dict)  # by the same names
    parts: tuple[Part, ...] = ()
    left_out: tuple[str, ...] = ()  # what was not asked, and why
    code: str = ""  # asks the same question again
    budget: float = 0.0  # seconds
    model: str = ""

    @property
    def answer(self) -> str:
        """The answer in one sentence, hedged as far as the verdict demands; none without
        support.
        """
        if self.trust.verdict == "not supported":
            return f"No answer can be given: {_lower(self.trust.reason)}"
        sentence = _leaders(self.features)
        if self.trust.verdict == "weak":
            return f"If absent means {self.absent}, {sentence}."
        text = sentence[0].upper() + sentence[1:]
        return "; ".join([text, *filter(None, (self._inner(), self._learned()))]) + "."

    def _learned(self) -> str:
        """What refits without the most helpful rows say, where they are to be believed."""
        trust = self.example_trust
        if trust is None or trust.verdict == "not supported":
            return ""
        told = [r for r in self.refitted if r.kind == "helpful" and r.measured + r.half < 0]
        if not told or self.examples is None or self.examples.provenance.game is None:
            return ""
        r, places = told[0], decimals(abs(told[0].measured))
        return (
            f"trained without the {len(r.rows)} most helpful rows it changes by "
            f"{signed(r.measured, places)} ± {r.half:.{places}f} "
            f"{self.examples.provenance.game.unit}"
        )

    def _inner(self) -> str:
        credit, trust = self.components, self.component_trust
        if credit is None or trust is None or trust.verdict == "not supported":
            return ""
        first = credit.top(1)[0]
        unit = credit.provenance.measure
        places = decimals(abs(first.score))
        return f"inside the model, {first.name} counts most ({signed(first.score, places)} {unit})"

    @property
    def refits(self) -> list[str]:
        """What training without the leading rows did, a sentence each."""
        game = self.examples.provenance.game if self.examples is not None else None
        unit = game.unit if game is not None else ""
        lines = []
        for r in self.refitted:
            digits = decimals(max(abs(r.measured), r.half))
            lines.append(
                f"Trained without the {len(r.rows)} most {r.kind} rows, the value changes by "
                f"{signed(r.measured, digits)} ± {r.half:.{digits}f} {unit} (foretold "
                f"{signed(r.predicted, digits)}; {r.seeds} training seeds)."
            )
        return lines

    def report(self, path: str | Path) -> Path:
        """Writes one self-contained HTML file, without scripts from elsewhere or network
        access.
        """
        return Path(drawing("report")([self], path))

    def save(self, path: str | Path) -> Path:
        """Writes a folder of json and safetensors; `ap.load(path)` reads it."""
        facts, tensors = RECORDS.pack(self)
        return write(path, "explanation", facts, tensors)

    def _repr_html_(self) -> str:
        return str(drawing("explanation")(self))

    def __str__(self) -> str:
        lines = [self.question, "", f"  {self.answer}", "", str(self.trust)]
        for title, credit in (
            ("features", self.features),
            ("components", self.components),
            ("training rows", self.examples),
        ):
            if credit is not None:
                lines += ["", f"{title}: {credit}"]
        for title, trust in (("component", self.component_trust), ("row", self.example_trust)):
            if trust is not None:
                lines.append(f"  {title} verdict: {trust.verdict}. {trust.reason}")
        lines += [f"  {told}" for told in self.refits]
        return "\n".join([*lines, "", *(f"not asked: {note}" for note in self.left_out)])


def _leaders(credit: Attribution) -> str:
    """Who counts most, in words: only credits whose interval clears zero are named."""
    n, kind = credit.players.n, credit.players.kinds[0]
    fell = credit.none is not None and credit.full is not None and credit.full < credit.none
    way = -1.0 if fell else 1.0  # where the value fell, those count who pulled it down
    ranked = sorted(credit.top(n), key=lambda c: way * c.score, reverse=True)
    clear = [c for c in ranked if way * c.score > credit.reach * (c.error or 0.0)]
    if not clear:
        return f"no single {kind} speaks clearly for it"
    leaders = clear[:NAMED]
    names = listed([_named(credit, c.name, kind) for c in leaders])
    unit = credit.provenance.measure or "units"
    sum_ = sum(c.score for c in leaders)
    amount = f"{signed(sum_, decimals(abs(sum_)))} {unit}"
    if credit.none is None or credit.full is None:
        return f"chiefly {names} ({amount})"
    total = float(credit.full) - float(credit.none)
    whole = signed(total, decimals(abs(total)))
    if total == 0 or len(leaders) == 1:
        return f"chiefly {names} ({amount} of {whole} in all)"
    if way * sum_ > way * total:
        rest = f"more than the whole, {whole}, because others speak against it"
        return f"chiefly {names}, together {amount}: {rest}"
    who = f"{len(leaders)} of {n} {plural(kind)}"
    of = f"{whole} {unit}" if fell else "the evidence"
    return f"chiefly {names}: {who} carry {percent(sum_ / total)} of {of}"


def _named(credit: Attribution, name: str, kind: str) -> str:
    """A player as a sentence names it: words quoted, cells of a picture with their place."""
    if kind in ("token", "word"):
        return quoted(name)
    shape = credit.players.geometry.get(kind)
    if shape is None or shape.view != "image" or shape.grid is None or len(shape.grid) != 2:
        return name
    if shape.site in credit.players.views:
        return name  # the place of a coefficient is none in the picture
    row, column = divmod(credit.players.names.index(name), shape.grid[1])
    upright = ("upper", "middle", "lower")[3 * row // shape.grid[0]]
    across = ("left", "centre", "right")[3 * column // shape.grid[1]]
    place = "centre" if (upright, across) == ("middle", "centre") else f"{upright} {across}"
    return f"{name} ({place})"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


RECORDS = Records(
    (Explanation, Prediction, Part, Refitted, Trust, Check, Score, Curve, Cost),
    {
        Attribution: (pack, unpack),
        Interactions: (pack_sets, unpack_sets),
        Pairs: (pack_pairs, unpack_pairs),
    },
)


KEPT: Mapping[str, Callable[..., Attribution | Interactions | Pairs]] = {
    "attribution": unpack,
    "interactions": unpack_sets,
    "pairs": unpack_pairs,
}


def load(path: str | Path) -> Attribution | Interactions | Pairs | Explanation:
    """Reads what `save(path)` of a credit or of an explanation wrote. Nothing in the files is
    run.
    """
    folder = Path(path)
    if (folder / "explanation.json").exists():
        return RECORDS.unpack(*read(folder, "explanation"))
    name = next((name for name in KEPT if (folder / f"{name}.json").exists()), None)
    if name is None:
        raise BadRequest(
            f"{folder} holds neither explanation.json nor {', nor '.join(KEPT)}.json; give a "
            "folder that save() wrote"
        )
    facts, tensors = read(folder, name)
    try:
        return KEPT[name](facts, tensors)
    except (KeyError, TypeError, AttributeError) as failure:
        raise BadRequest(f"the saved credit cannot be read: {failure!r}") from failure
