"""The checks behind a verdict: each re-asks a question whose answer by chance is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import exp, lgamma, log
from typing import Literal, NamedTuple

from torch import Generator

from .attribute import attribute
from .attribution import Attribution
from .estimators import Estimator
from .evaluate import (
    LEVEL,
    Score,
    additive_fidelity,
    insertion_minus_deletion,
    joint_removal,
    rank_agreement,
)
from .games import Game, ModelGame
from .games.wrap import Store
from .removals import Removal
from .types import Axiom, BadRequest
from .wording import bare, decimals, plural, signed

Role = Literal["decides", "must hold", "required", "informs"]
Wants = Literal["outside", "inside", "nothing"]
UNTOLD = {  # by the required checks that may be left out: what stays unknown then
    "unseen halves": "Whether the credits, added up, rank inputs they were not computed from.",
    "same answer twice": "Whether a second estimate gives the same order.",
    "another kind of absence": "Whether the answer hangs on what absence means.",
    "shuffled weights": "Whether the answer rests on what was learned.",
    "another training": "Whether a training with another seed gives the same order.",
}
TOLERATED = 0.05  # share of v(all) - v(none) that a credit that claims to add up may miss


@dataclass(frozen=True, eq=False)
class Check:
    """One thing that was asked of an answer, with its number and what it can and cannot tell."""

    name: str
    role: Role
    score: Score | None  # None = not asked
    can: str
    cannot: str
    wants: Wants = "outside"  # of the band of random credit; "nothing" = true by construction
    other: Attribution | None = None  # the answer it was compared with
    seconds: float = 0.0

    @property
    def passed(self) -> bool | None:
        """Whether it came out as it should; None where it says nothing or was not asked."""
        if self.score is None or self.wants == "nothing" or self.score.value is None:
            return None
        if self.wants == "outside":
            return self.score.outside
        low, high = self.score.chance if self.score.chance is not None else (0.0, 0.0)
        return low <= self.score.value <= high

    @property
    def state(self) -> str:
        """The outcome in words."""
        if self.score is None:
            return "not asked"
        if self.passed is None:
            return "says nothing"
        if self.wants == "inside":
            return "inside, as it should be" if self.passed else "outside, should be inside"
        if not self.passed:
            return "inside the band"
        return "outside the band" if self.score.clear else "just outside"

    @property
    def band(self) -> str:
        """What the band around the number is."""
        if self.role == "must hold":
            return "tolerated"
        if self.score is not None and self.score.random and self.score.curves:
            return f"{self.score.random} random orders"
        return "by chance" if self.score is not None and not self.score.random else "random credit"

    @property
    def doubtful(self) -> bool:
        """Whether it lowers a verdict: failed, won by less than its own error, or not asked."""
        if self.role not in ("required", "must hold"):
            return False
        return self.score is None or self.passed is False or self.state == "just outside"

    @property
    def numbers(self) -> str:
        """The value with its unit, and the band."""
        if self.score is None or self.score.value is None:
            return ""
        value, chance, unit = self.score.value, self.score.chance, self.score.unit
        if self.wants == "nothing" or chance is None:
            return f"{signed(value, decimals(abs(value)))} {unit}"
        if all(float(x).is_integer() for x in (value, *chance)):  # a count
            return f"{value:.0f} {unit}; {self.band} {chance[0]:.0f} to {chance[1]:.0f}"
        low, high = (signed(edge, decimals(abs(edge))) for edge in chance)
        return f"{signed(value, decimals(abs(value)))} {unit}; {self.band} {low} to {high}"

    def __str__(self) -> str:
        return f"{self.name}: {self.state}. {self.numbers}".strip()


class Absence(NamedTuple):
    """A meaning of absence, with a name people understand."""

    name: str
    removal: Removal | Mapping[str, Removal]


@dataclass(frozen=True)
class Plan:
    """Which checks are made of a credit, and how much they may ask."""

    random: int = 39  # random orders and random sets; 39 give a smallest p-value of 1/40
    steps: int = 14  # points of the insertion and deletion curves
    samples: int = 128  # coalitions of the additive fidelity; 0 = leave it out
    again: Estimator | None = None  # another estimator of the same quantity
    # by name: other quantities, on this game (None) or on one of their own
    beside: Mapping[str, tuple[Estimator, Game | None]] = field(default_factory=dict)
    changed: Estimator | None = None  # asked of the changed games below, usually a cheaper one
    absence: Absence | None = None  # another meaning of absence
    shuffled: bool = False  # whether to ask a network with shuffled weights
    together: bool = False  # whether to remove the largest tenth together
    unasked: tuple[str, ...] = ()  # required checks there was no room for; they lower the verdict
    orders: bool = True  # whether to compare with random orders (else `together` decides)


def order_matters(
    credit: Attribution, game: Game, rng: Generator, plan: Plan, store: Store | None
) -> Check:
    """Insertion minus deletion against random orders: what every verdict rests on."""
    score = insertion_minus_deletion(
        credit, game, rng, random=plan.random, steps=plan.steps, store=store
    )
    who = plural(credit.players.kinds[0])
    if all(bool((c.own == c.own[0]).all()) for c in score.curves.values()) and not bool(
        credit.scores.any()
    ):
        says = f"No {credit.players.kinds[0]} changes the value, so there is nothing to credit."
    elif score.outside is None:
        says = f"{credit.players.n} {who} have too few orders to tell this one from chance."
    elif score.outside:
        says = (
            f"Adding {who} in this order raises the value sooner, and removing them lowers it "
            "sooner, than random orders do."
        )
    else:
        says = f"Adding and removing {who} in this order matters no more than in a random order."
    cannot = f"Whether inputs with absent {who} are inputs the model can judge."
    return Check("insertion minus deletion", "decides", score, says, cannot)


def together(
    credit: Attribution, game: Game, rng: Generator, plan: Plan, store: Store | None
) -> Check:
    """The largest tenth removed together, against random sets of that size."""
    score = joint_removal(credit, game, rng, random=plan.random, store=store)
    kinds = list(dict.fromkeys(credit.players.kinds))
    who = " and ".join(plural(kind) for kind in kinds)
    says = (
        f"{credit.players.n} {who} are too few to tell a group from chance."
        if score.outside is None
        else f"The {who} named here matter as a group, not only one at a time."
        if score.outside
        else f"Removing the {who} of largest credit together costs no more than random ones."
    )
    cannot = "What each one does. They were chosen on this input; another may use others."
    return Check("removed together", "required" if plan.orders else "decides", score, says, cannot)


def unseen(
    credit: Attribution, game: Game, rng: Generator, plan: Plan, store: Store | None
) -> Check:
    """Additive fidelity on coalitions that took no part in the credit."""
    score = additive_fidelity(credit, game, rng, samples=plan.samples, store=store)
    who = plural(credit.players.kinds[0])
    says = (
        f"The credits, added up, rank inputs with a random half of the {who} absent."
        if score.outside
        else f"Added up, the credits rank inputs with half of the {who} absent no better than "
        "shuffled credit."
    )
    cannot = f"See {who} that act only in groups."
    role: Role = "required" if score.value is not None else "informs"
    return Check("unseen halves", role, score, says if score.value is not None else score.note,
                 cannot)  # fmt: skip


def precise(credit: Attribution) -> Check:
    """How many credits clear zero, against how many would by chance."""
    who, n = plural(credit.players.kinds[0]), credit.players.n
    cannot = "Bias, which more samples do not cure."
    if credit.error is None:
        note = credit.provenance.error_note or "measured without sampling"
        score = Score(None, who, note=note)
        return Check("standard errors", "informs", score, f"No sampling error: {note}.", cannot,
                     wants="nothing")  # fmt: skip
    if not bool(credit.error.any()):
        score = Score(None, who, note="every coalition was asked")
        return Check("standard errors", "informs", score, "No sampling error: every coalition was "
                     "asked.", cannot, wants="nothing")  # fmt: skip
    clear = int((credit.scores.abs() > credit.reach * credit.error).sum())
    high = _by_chance(n)
    score = Score(float(clear), who, chance=(0.0, float(high)), best=float(n))
    says = f"{clear} of {n} credits clear zero at 95%; by chance at most {high} would."
    if credit.noise:
        says += " The median credit is smaller than its standard error: most of the list is noise."
    return Check("standard errors", "required", score, says, cannot)


def again(
    credit: Attribution,
    game: Game,
    estimator: Estimator | None,
    rng: Generator,
    seed: int,
) -> Check:
    """A second estimate of the same quantity."""
    name, cannot = "same answer twice", "Whether the quantity is the right one to ask for."
    if estimator is None:
        score = Score(None, "rank correlation", note="the estimate is exact")
        return Check(name, "informs", score, "The credit is computed exactly; asking twice gives "
                     "the same.", cannot, wants="nothing")  # fmt: skip
    other = attribute(game, estimator, seed=seed + 1)
    score = rank_agreement(credit, other, rng)
    who = plural(credit.players.kinds[0])
    if score.value is None:
        return Check(name, "informs", score, score.note, cannot, "nothing", other)
    says = (
        f"A second estimator ({_short(estimator)}) with its own samples orders the {who} alike."
        if score.outside
        else f"A second estimator ({_short(estimator)}) orders the {who} differently: too few "
        "samples for the order."
    )
    if score.outside and score.value < 0.7:
        says += f" At {bare(score.value)} only credits whose interval clears zero should be named."
    return Check(name, "required", score, says, cannot, other=other)


def beside(
    credit: Attribution,
    game: Game,
    name: str,
    estimator: Estimator,
    rng: Generator,
    seed: int,
) -> Check:
    """Another quantity on the same game: shown, and never deciding."""
    other = attribute(game, estimator, seed=seed)
    score = rank_agreement(credit, other, rng)
    says = (
        f"Here {name} gives a similar order."
        if score.outside
        else f"{name.capitalize()} is another quantity and gives another order here."
    )
    if score.value is None:
        says = f"Nothing: {score.note}."
    cannot = "Tell which is right where the two differ: both can be."
    wants: Wants = "outside" if score.value is not None else "nothing"
    return Check(name, "informs", score, says, cannot, wants, other)


def other_absence(
    credit: Attribution,
    game: ModelGame,
    estimator: Estimator,
    absence: Absence,
    rng: Generator,
    seed: int,
) -> Check:
    """The same question with another meaning of absence."""
    name = "another kind of absence"
    cannot = "Which absence is the right one. The question has to say."

    def compare() -> Check:
        changed = game.removing(absence.removal)
        other = attribute(changed, estimator, seed=seed + 2)
        score = rank_agreement(credit, other, rng)
        if score.value is None:
            return Check(name, "informs", score, score.note, cannot, "nothing", other)
        kept = _shared_leaders(credit, other)
        says = (
            f"With {absence.name} as absence the order is similar; {kept}."
            if score.outside
            else f"With {absence.name} as absence the order is another; {kept}."
        )
        return Check(name, "required", score, says, cannot, other=other)

    return _or_says_nothing(compare, name, cannot)


def shuffled_weights(
    credit: Attribution, game: ModelGame, estimator: Estimator, rng: Generator, seed: int
) -> Check:
    """The same question to a network whose weights are shuffled: the answer should differ."""
    name, cannot = "shuffled weights", "Whether what was learned is the reason you hoped for."

    def compare() -> Check:
        other = attribute(game.randomised("", rng), estimator, seed=seed + 3)
        score = rank_agreement(credit, other, rng)
        wants: Wants = "inside" if score.value is not None else "nothing"
        check = Check(name, "required", score, "", cannot, wants, other)
        says = (
            "A network with shuffled weights answers differently, as it should."
            if check.passed is not False
            else "A network with shuffled weights gives a similar order, so part of it comes from "
            "the input or the method and not from what was learned."
        )
        return replace(check, can=says if score.value is not None else score.note)

    return _or_says_nothing(compare, name, cannot)


def adds_up(credit: Attribution) -> Check:
    """Whether the credits sum to v(all) - v(none)."""
    name, cannot = "adds up", "Tell a right distribution of credit from a wrong one."
    unit = credit.provenance.game.unit if credit.provenance.game is not None else "value"
    claims = Axiom.EFFICIENCY.value in credit.provenance.claims and credit.provenance.exact
    if credit.full is None or credit.none is None or not claims:
        score = Score(None, unit, note="this quantity does not claim to add up")
        return Check(name, "informs", score, "Nothing: this quantity does not claim to add up.",
                     cannot, wants="nothing")  # fmt: skip
    total, gap = float(credit.full) - float(credit.none), float(credit.sum())
    edge = TOLERATED * abs(total)
    score = Score(gap, unit, chance=(total - edge, total + edge), best=total)
    says = f"{signed(gap)} of {signed(total)} {unit}."
    if credit.error is not None:
        return Check(name, "informs", score, f"{says} Nothing: this estimator adds up whatever it "
                     "is given.", cannot, wants="nothing")  # fmt: skip
    check = Check(name, "must hold", score, says, cannot, wants="inside")
    if check.passed is False:
        says += " The path crosses a place where the gradient jumps: use coalitions instead."
    return replace(check, can=says)


def unasked(name: str) -> Check:
    """A required check that was left out."""
    return Check(name, "required", None, "Not asked: the budget had no room.", UNTOLD[name])


def _or_says_nothing(compare: Callable[[], Check], name: str, cannot: str) -> Check:
    """A changed game may be unanswerable; that is then said, and decides nothing."""
    try:
        return compare()
    except BadRequest as failure:
        why = f"Could not be asked: {failure}"
        return Check(name, "informs", Score(None, "rank correlation", note=why), why, cannot,
                     wants="nothing")  # fmt: skip


def _shared_leaders(credit: Attribution, other: Attribution, k: int = 5) -> str:
    k = min(k, credit.players.n)
    here, there = ({c.name for c in a.top(k, signed=True)} for a in (credit, other))
    return f"{len(here & there)} of the {k} largest stay among the {k} largest"


def _short(estimator: Estimator) -> str:
    return type(estimator).__name__


def _by_chance(n: int) -> int:
    """The most of n intervals of 95 % that miss zero by chance, with probability 1 - LEVEL."""
    total, k = 0.0, -1
    while total < 1 - LEVEL:
        k += 1
        ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        total += exp(ways + k * log(0.05) + (n - k) * log(0.95))
    return k
