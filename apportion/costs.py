"""What each part of an explanation cost."""

from __future__ import annotations

from .attribution import Attribution
from .examples import Examples
from .explanation import Explanation, Part


def costs(answer: Explanation, learned: Examples | None) -> tuple[Part, ...]:
    """Every part, in the order of the report."""
    return (*_asked(answer), *_training_parts(learned))


def _asked(answer: Explanation) -> list[Part]:
    """The cost of each part, checks taken together."""
    parts = [_part("Feature credit", answer.features)]
    if answer.components is not None:
        parts.append(_part("Component credit", answer.components))
    parts += [_part(f"{name.capitalize()}", credit) for name, credit in answer.others.items()]
    checks = [*answer.trust.checks, *answer.other_checks.values()]
    checks += [] if answer.component_trust is None else answer.component_trust.checks
    forwards = backwards = seconds = 0.0
    for check in checks:
        costs = [check.score.cost] if check.score is not None else []
        costs += [check.other.cost] if check.other is not None else []
        forwards += sum(c.evaluations + c.gradients for c in costs)
        backwards += sum(c.gradients for c in costs)
        seconds += check.seconds
    return [*parts, Part("Checks", forwards, backwards, seconds)]


def _training_parts(learned: Examples | None) -> list[Part]:
    """What the credit of training rows cost, and the refits that confirm it."""
    if learned is None:
        return []
    credit = learned.credit.provenance.seconds
    return [
        Part("Training row credit", 0, 0, credit),
        Part("Refits", 0, 0, learned.seconds - credit, learned.fits),
    ]


def _part(name: str, credit: Attribution) -> Part:
    cost, about = credit.cost, credit.provenance
    forwards = cost.evaluations + cost.gradients + about.setup_forwards
    return Part(name, forwards, cost.gradients, about.seconds)
