"""What a game says about operations that its table of backward rules does not know."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType

from ..backward import Finding, Rules
from ..types import BadRequest, told


def admit_rules(rules: object) -> None:
    """A table, rather than its name or the function that makes it."""
    if isinstance(rules, Rules):
        return
    if isinstance(rules, str):
        raise BadRequest(
            f"under({rules!r}): a table is needed, not its name; see apportion methods --tables"
        )
    call = f"ap.backward.{rules.__name__}()" if isinstance(rules, FunctionType) else ""
    raise BadRequest(
        f"under({told(rules)}): this is no rule table but a {type(rules).__name__}; write "
        f"{f'{call} if it makes one, or ' if call else ''}ap.backward.CP_LRP"
    )


def unruled_note(findings: Sequence[Finding], rules: Rules | None) -> tuple[str, ...]:
    """One note on those that keep their own gradient, one on those with a local rule instead."""
    kept = [f for f in findings if not f.falls_back]
    fell = [f for f in findings if f.falls_back]
    notes = []
    if kept:
        notes.append(
            f"{len(kept)} operations without a rule in {rules} keep their own gradient: "
            f"{_kinds(kept)}; see apportion doctor"
        )
    if fell:
        notes.append(
            f"{len(fell)} operations without a rule in {rules} fall back to a local one: "
            f"{_kinds(fell)}"
        )
    return tuple(notes)


def refuse_unruled(findings: Sequence[Finding], rules: Rules) -> None:
    """Strict: no operation may be without a rule."""
    kept = [f for f in findings if not f.falls_back]
    if kept:
        listed = dict.fromkeys(
            f"{f.operation} in {f.path or 'the model'} ({f.module}, {f.why})" for f in kept
        )
        raise BadRequest(
            f"{rules.name} has no rule for {len(kept)} operations: "
            f"{'; '.join(list(listed)[:5])}. Add rules with `rules | Rules(...)`; apportion doctor "
            "lists them all."
        )


def _kinds(findings: Sequence[Finding]) -> str:
    return ", ".join(list(dict.fromkeys(f"{f.operation} ({f.why})" for f in findings))[:4])
