"""One question as the page shows it: everything computed, nothing yet drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .. import backward
from ..attribution import Attribution
from ..explanation import Explanation, Part
from ..players import Geometry
from ..trust import Check, Trust
from ..wording import clock, quoted
from .bars import Bars, bars, explained, listed, order, whole
from .checks import COUNTS, Row, Verdict, row, rows, verdict
from .components import Components, components
from .curves import Drawing, curves
from .encode import photograph
from .learned import Learned, learned
from .picture import Picture, View, other_views, picture, pixels, thumbs
from .text import Piece, pieces
from .words import capital, kinds, quantity, sentence

EXAMPLES = "training examples"
CITED_BY = {  # checks that come from the literature
    "insertion minus deletion": "petsiuk2018",
    "unseen halves": "park2023",
    "shuffled weights": "adebayo2018",
}
HEADS = {"image": "Where in the picture", "table": "Which columns", "text": "Which words"}


@dataclass(frozen=True)
class Where:
    """The credit of the input, drawn as suits it."""

    head: str
    lede: str
    picture: Picture | None
    pieces: tuple[Piece, ...]
    bars: Bars
    sheet: str  # thumbnails
    thumbs: int
    shown: bool  # whether the rows carry the columns' values
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One question and its answer."""

    id: str
    short: str
    question: str
    said: tuple[tuple[str, float], ...]  # labels and their probabilities
    also: str  # what the model would say next
    answer: str
    verdict: Verdict
    withheld: str  # why the credit is only shown on request
    where: Where
    curves: tuple[Drawing, ...]
    curves_lede: str
    inner: Components | None
    inner_head: str
    inner_lede: str
    inner_verdict: Verdict | None
    inner_joint: Row | None
    inner_together: str
    inner_notes: tuple[str, ...]
    learned: Learned | None
    not_asked: str  # of the training examples
    checks: tuple[tuple[str, tuple[Row, ...]], ...]
    left_out: tuple[str, ...]
    parts: tuple[Part, ...]
    total: Part
    spent: str
    code: str
    again: str
    model: str
    kind: str
    output: str
    others: tuple[tuple[str, Bars], ...] = ()
    cites: tuple[str, ...] = field(default=())


def case(asked: Explanation, id: str) -> Case:
    """What the page needs to know of one explanation."""
    inner, trust = asked.components, asked.component_trust
    joint = next((c for c in trust.checks if c.role == "decides"), None) if trust else None
    left = [n for n in asked.left_out if not n.startswith(EXAMPLES)]
    missing = next((n for n in asked.left_out if n.startswith(EXAMPLES)), "")
    order_check = next((c for c in asked.trust.checks if c.score and c.score.curves), None)
    refused = asked.trust.verdict == "not supported"
    who = kinds(asked.features)
    drawn = curves(asked.features, order_check.score) if order_check and order_check.score else ()
    label = asked.prediction.label if asked.prediction is not None else ""
    return Case(
        id,
        _short(asked),
        asked.question,
        _said(asked),
        _also(asked),
        asked.answer,
        verdict(asked.trust),
        f"The credit of {who}, which is not supported" if refused else "",
        _where(asked),
        drawn,
        f"{capital(asked.value) or 'The value'} while {who} are added or removed in order of "
        "credit.",
        None if inner is None else components(inner, whole(inner)),
        "" if inner is None else f"Which {kinds(inner)}",
        "" if inner is None else _inner_lede(asked, inner),
        None if trust is None else verdict(trust),
        None
        if joint is None or trust is None
        else row(joint, decides=trust.decided_by == joint.name),
        _together(joint),
        () if inner is None else _notes(inner),
        learned(asked),
        sentence(missing.partition(":")[2]) if missing else "",
        tuple(_tables(asked)),
        tuple(map(sentence, left)),
        asked.parts,
        _sum(asked.parts),
        _spent(asked),
        asked.code,
        _again(asked),
        asked.model,
        asked.kind,
        label.strip() if asked.kind == "text" else "",
        tuple(_other_bars(asked)),
        cites(asked),
    )


def _short(asked: Explanation) -> str:
    """The question in a few words."""
    said = asked.prediction
    if said is None or not said.label:
        return asked.question
    rather = f", not {quoted(said.rather)}" if said.rather else ""
    return f"Why {quoted(said.label)}{rather}?"


def _said(asked: Explanation) -> tuple[tuple[str, float], ...]:
    said = asked.prediction
    if said is None or said.probability is None:
        return ()
    return ((said.label, said.probability), *said.others)


def _also(asked: Explanation) -> str:
    if asked.prediction is None or not asked.prediction.others:
        return ""
    said = [f"{quoted(label)} {chance:#.2g}" for label, chance in asked.prediction.others]
    return f"Next most likely: {', '.join(said)}."


def where(
    credit: Attribution,
    *,
    of: str = "",
    absent: str = "",
    trust: Trust | None = None,
    views: tuple[View, ...] = (),
    blank: View | None = None,
) -> Where:
    """One credit of the input: picture, text or columns, and the ranked list."""
    ranked, shape = order(credit), _shape(credit)
    first, _, last = listed(credit)
    sheet, thumbs_ = thumbs(credit, [*first, *last])
    counted = next((c.can for c in trust.checks if c.name == COUNTS), "") if trust else ""
    chance = counted if credit.error is not None else ""
    shown = _values(credit, shape)
    lede = f"{quantity(credit)} of each {kinds(credit, each=True)}"
    lede += f" for {of}." if of else "."
    return Where(
        _head(credit, shape),
        f"{lede} Absent means {absent}." if absent else lede,
        picture(credit, ranked, more=views, absent=blank),
        pieces(credit),
        bars(credit, shown=shown, thumbs=thumbs_, note=explained(credit, chance)),
        sheet,
        len(thumbs_),
        bool(shown),
        _notes(credit),
    )


def _head(credit: Attribution, shape: Geometry | None) -> str:
    view = None if shape is None or shape.site is None else credit.players.views.get(shape.site)
    if shape is not None and shape.view == "image" and view is not None:
        return f"Where in the {view.name}"
    return HEADS.get("" if shape is None else shape.view, f"Which {kinds(credit)}")


def _where(asked: Explanation) -> Where:
    verdicts = {
        name: (
            "" if check.passed else "Not supported",
            f"{sentence(check.can)} {capital(check.name)}: {_scored(asked, name)}.",
        )
        for name, check in asked.other_checks.items()
    }
    blank = None
    if asked.absent_picture is not None:
        ends = _ends(asked.features)
        caption = f"What the model sees with every player absent: {asked.absent}.{ends}"
        seen = pixels(asked.absent_picture)
        blank = View("Absent", False, caption, image=photograph(seen), pixelated=len(seen) <= 64)
    return where(
        asked.features,
        of=asked.value,
        absent=asked.absent,
        trust=asked.trust,
        views=other_views(asked.others, verdicts),
        blank=blank,
    )


def _scored(asked: Explanation, name: str) -> str:
    line = rows(Trust("supported", asked.other_checks[name].name, "", (asked.other_checks[name],)))[
        0
    ]
    band = line.track.band_text if line.track is not None else ""
    return f"{line.number} {line.unit}" + (f", {band}" if band else "")


def _ends(credit: Attribution) -> str:
    if credit.none is None or credit.full is None:
        return ""
    from_, to = (f"{float(x):+.2f}".replace("-", "−") for x in (credit.full, credit.none))
    unit = credit.provenance.game.unit if credit.provenance.game is not None else ""
    return f" The value goes from {from_} to {to} {unit}."


def _shape(credit: Attribution) -> Geometry | None:
    return next(iter(credit.players.geometry.values()), None)


def _values(credit: Attribution, shape: Geometry | None) -> tuple[str, ...]:
    """What stands in each column of a row."""
    if shape is None or shape.view != "table" or shape.site is None:
        return ()
    if shape.site not in credit.players.owner:
        return ()
    owner = credit.players.owner[shape.site].flatten().tolist()
    if len(owner) != len(shape.shown):
        return ()
    held: list[list[str]] = [[] for _ in range(credit.players.n)]
    for player, value in zip(owner, shape.shown, strict=True):
        if player >= 0:
            held[player].append(value)
    return tuple(", ".join(values) for values in held)


def _together(joint: Check | None) -> str:
    """What was removed together, such as 128 of 1,280."""
    if joint is None or joint.score is None or not joint.score.note:
        return "Removed together"
    return f"The largest: {joint.score.note}"


def _inner_lede(asked: Explanation, inner: Attribution) -> str:
    words = f"{quantity(inner)} of each {kinds(inner, each=True)} for {asked.value or 'the value'}."
    absent = asked.absent_component
    return f"{words} In place of an absent one stands {absent}." if absent else words


def _notes(credit: Attribution) -> tuple[str, ...]:
    game = credit.provenance.game
    found = [*credit.provenance.notes, *(game.notes if game is not None else ())]
    if credit.noise:
        found.insert(
            0, "noise: the median credit is below its standard error; ask for more samples"
        )
    return tuple(sentence(note) for note in dict.fromkeys(found))


def _tables(asked: Explanation) -> Iterable[tuple[str, tuple[Row, ...]]]:
    yield kinds(asked.features), rows(asked.trust)
    if asked.component_trust is not None and asked.components is not None:
        yield kinds(asked.components), rows(asked.component_trust)
    if asked.example_trust is not None and asked.examples is not None:
        yield kinds(asked.examples), rows(asked.example_trust)
    for name, check in asked.other_checks.items():
        yield name, rows(Trust("supported", "", "", (check,)))


def _other_bars(asked: Explanation) -> Iterable[tuple[str, Bars]]:
    """Other credit that no picture can show."""
    for name, credit in asked.others.items():
        shape = _shape(credit)
        if shape is None or shape.view != "image":
            yield capital(name), bars(credit, note=explained(credit))


def _sum(parts: tuple[Part, ...]) -> Part:
    return Part(
        "Total",
        float(sum(part.forwards for part in parts)),
        float(sum(part.backwards for part in parts)),
        float(sum(part.seconds for part in parts)),
        float(sum(part.fits for part in parts)),
    )


def _spent(asked: Explanation) -> str:
    took = clock(_sum(asked.parts).seconds)
    return f"{clock(asked.budget)} were given, {took} were used." if asked.budget else ""


def _again(asked: Explanation) -> str:
    about = asked.features.provenance
    seed = "" if about.seed is None else f"Seed {about.seed}. "
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return f"{seed}{versions}{'.' if versions else ''}"


def cites(asked: Explanation) -> tuple[str, ...]:
    """Every work an answer rests on."""
    credits_ = [asked.features, asked.components, asked.examples, *asked.others.values()]
    checks = [*asked.trust.checks, *asked.other_checks.values()]
    checks += [] if asked.component_trust is None else asked.component_trust.checks
    checks += [] if asked.example_trust is None else asked.example_trust.checks
    keys = [key for credit in credits_ if credit is not None for key in _cited(credit)]
    for check in checks:
        keys += [CITED_BY[check.name]] if check.name in CITED_BY else []
        keys += _cited(check.other) if check.other is not None else []
    return tuple(dict.fromkeys(keys))


def _cited(credit: Attribution) -> tuple[str, ...]:
    game = credit.provenance.game
    bent = [r for r in backward.TABLE.values() if game is not None and r.name == game.rules]
    return (*credit.provenance.cites, *(key for rules in bent for key in rules.cites))
