"""Options of estimators, checked where they are given rather than where they fail."""

from __future__ import annotations

from enum import Enum

from ..types import BadRequest, whole
from ._moments import Until
from ._quadrature import Quadrature


def counts(given: object, owner: str, name: str) -> None:
    """How many of something: an int."""
    whole(given, name, owner)


def number(given: object, owner: str, name: str) -> None:
    """A real number."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadRequest(
            f"{owner}({name}={given!r}): a number is needed, this is a {type(given).__name__}"
        )


def precision(until: object, owner: str, name: str) -> None:
    """A rule to stop at, or none."""
    if until is None or (isinstance(until, Until) and not isinstance(until, type)):
        return
    if isinstance(until, int | float) and not isinstance(until, bool) and until > 0:
        meant = f"ap.StandardError({until})"
        meant += f" or ap.TopK({until})" if isinstance(until, int) else ""
    else:
        meant = "ap.StandardError(0.1), in units of the value, or ap.TopK(5)"
    raise BadRequest(f"{owner}({name}={until!r}) says no rule to stop at; write until={meant}")


def quadrature(nodes: object, owner: str, name: str) -> None:
    """A rule of integration."""
    if isinstance(nodes, Quadrature):
        return
    near = [rule for rule in Quadrature if str(nodes).lower().replace("_", "-") == rule.value]
    meant = near or list(Quadrature)
    raise BadRequest(
        f"{owner}({name}={nodes!r}) is no rule of integration; write nodes="
        + " or ".join(f"ap.{rule!r}" for rule in meant)
    )


def lengths(given: object, owner: str, name: str) -> None:
    """A length along every axis of a grid: an int, or a tuple of ints, each at least 1."""
    each = given if isinstance(given, tuple) else (given,)
    for one in each:
        whole(one, name, owner)
    if not each or min(each) < 1:
        raise BadRequest(f"{owner}({name}={given!r}): lengths are at least 1; write {name}=3")


def choice(given: object, kind: type[Enum], owner: str, name: str) -> None:
    """One of the members of an Enum."""
    if isinstance(given, kind):
        return
    near = [one for one in kind if str(given).lower().replace("_", "-") == one.value]
    meant = near or list(kind)
    raise BadRequest(
        f"{owner}({name}={given!r}) is none of its choices; write {name}="
        + " or ".join(f"ap.{one!r}" for one in meant)
    )
