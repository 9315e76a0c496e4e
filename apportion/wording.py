"""Numbers and nouns as people read them: one way for text, notebooks and reports."""

from __future__ import annotations

import math

MINUS = "\u2212"
Z95 = 1.959964  # half a 95 % interval in standard errors that are known
FEW = {1: 12.706, 2: 4.303}  # the same in errors estimated with one and two degrees of freedom
PLURALS = {"patch": "patches", "mlp": "MLPs", "frequency": "frequencies"}
UNIT_NOTES = {
    "nats": "One nat multiplies the odds by 2.7.",
    "logits": "One logit more multiplies the odds against any other class by 2.7.",
}


def reach(freedom: int | None) -> float:
    """Half a 95 % interval in standard errors estimated with so many degrees of freedom (None:
    known): the 97.5 % point of Student's t, by its expansion around the normal one.
    """
    if freedom is None:
        return Z95
    if freedom in FEW:
        return FEW[freedom]
    z, v = Z95, float(freedom)
    first = (z**3 + z) / (4 * v)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + first + second + third


def plural(kind: str, count: int = 2) -> str:
    """A kind of player as a noun: patch, patches."""
    return kind if count == 1 else PLURALS.get(kind, f"{kind}s")


def decimals(scale: float) -> int:
    """Digits after the point that show two significant ones at this scale; 2 where that is
    enough.
    """
    if not math.isfinite(scale) or scale <= 0:
        return 2
    return min(max(2, 1 - math.floor(math.log10(scale))), 6)


def signed(x: float, places: int = 2) -> str:
    """+1.20 or a true minus; zero has no sign."""
    text = f"{abs(x):,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return ("+" if x > 0 else MINUS) + text


def bare(x: float, places: int = 2) -> str:
    """The number without a plus."""
    return signed(x, places).removeprefix("+")


def percent(share: float) -> str:
    """A share in whole percents."""
    return f"{100 * share:.0f}%".replace("-", MINUS)


def clock(seconds: float) -> str:
    """Whole seconds, or tenths below ten."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def span(seconds: float) -> str:
    """A long time in the unit people would say it in."""
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else clock(seconds)


def listed(items: list[str]) -> str:
    """A, b and c."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def quoted(text: str) -> str:
    """A piece of somebody's text between curly quotes, spaces at its ends left out."""
    return f"\u201c{text.strip() or text!s}\u201d"
