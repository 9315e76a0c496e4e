"""What an answer is about, in the words of a reader."""

from __future__ import annotations

from ..attribution import Attribution
from ..wording import decimals, plural, signed

QUANTITIES = {  # by the class of the estimator, as provenance spells it
    "AveragedGradient": "Averaged gradient times difference",
    "Gradient": "Gradient times difference",
    "KernelShap": "Shapley value",
    "LeaveOneOut": "Leave-one-out effect",
    "LinearSurrogate": "Linear weight under random absences",
    "PathIntegral": "Integrated gradient",
    "PermutationShapley": "Shapley value",
    "Rise": "Mean value under random masks",
}
KINDS = {"head": "attention head", "mlp": "MLP"}
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def quantity(credit: Attribution) -> str:
    """What one credit is: Shapley value, effect of leaving out, ..."""
    return QUANTITIES.get(credit.provenance.estimator.partition("(")[0], "Credit")


def unit(credit: Attribution) -> str:
    """The unit of a credit."""
    return credit.provenance.measure


def places(credit: Attribution) -> int:
    """Digits after the point that every credit of one list is written with."""
    return decimals(float(credit.scores.abs().max()))


def half(error: float | None, digits: int, reach: float) -> str:
    """Half of a 95 % interval, as text; never a zero that is none."""
    if error is None:
        return ""
    width = reach * error
    return (
        f"<{10.0**-digits:.{digits}f}"
        if 0 < width < 0.5 * 10.0**-digits
        else f"{width:,.{digits}f}"
    )


def interval(score: float, error: float | None, digits: int, reach: float) -> str:
    """A credit with its interval."""
    width = half(error, digits, reach)
    return signed(score, digits) + (f" ± {width}" if width else "")


def kinds(credit: Attribution, *, each: bool = False) -> str:
    """The players as nouns: attention heads and MLPs."""
    found = dict.fromkeys(credit.players.kinds)
    nouns = [KINDS.get(kind, kind) for kind in found]
    return (" and " if not each else " or ").join(n if each else plural(n) for n in nouns)


def noun(credit: Attribution, count: int = 2) -> str:
    """The players as one noun."""
    found = set(credit.players.kinds)
    return plural(KINDS.get(min(found), min(found)) if len(found) == 1 else "player", count)


def capital(text: str) -> str:
    """The text with a capital letter first; the rest as it is."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """The text as a sentence."""
    text = capital(text.strip())
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def number(count: int) -> str:
    """Small numbers as words, for the start of a sentence."""
    return NUMBERS[count] if count < len(NUMBERS) else f"{count:,}"
