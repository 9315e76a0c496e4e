"""The literature behind the methods: one work per key that a `cites` names, kept by topic."""

from __future__ import annotations

from collections.abc import Iterable

from ..types import BadRequest
from . import absence, coalitions, evaluation, gradients, players, rules, training
from .work import Work

TOPICS = (absence, coalitions, gradients, rules, training, evaluation, players)
REFERENCES: dict[str, Work] = {key: work for topic in TOPICS for key, work in topic.WORKS.items()}


def references(keys: Iterable[str]) -> list[Work]:
    """The works behind the keys, each once, in the order they are first named."""
    wanted = list(dict.fromkeys(keys))
    unknown = [key for key in wanted if key not in REFERENCES]
    if unknown:
        raise BadRequest(
            f"no reference is kept under {unknown[0]!r}; add it to a topic of apportion.citations "
            f"(there are {len(REFERENCES)}: {', '.join(list(REFERENCES)[:4])}, ...)"
        )
    return [REFERENCES[key] for key in wanted]


def cite(keys: Iterable[str]) -> str:
    """References, one per line."""
    return "\n".join(map(str, references(keys)))
