"""Players that partition a text: tokens, and words made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..taps import Site
from ..types import BadRequest
from .base import PRESENT, Geometry, Players, unique


@runtime_checkable
class Tokenizer(Protocol):
    """What is asked of a tokenizer: Hugging Face's offer it."""

    def decode(self, token_ids: Any, /) -> str: ...


@runtime_checkable
class WithEmbeddings(Protocol):
    """A model that names its token embedding, as Hugging Face's do."""

    def get_input_embeddings(self) -> nn.Module: ...


def tokens(
    lm: nn.Module,
    ids: Tensor,
    tokenizer: Tokenizer | None = None,
    *,
    positions: Sequence[int] | None = None,
    embedding: str | None = None,
) -> Players:
    """One player per token, gated where its word embedding leaves the embedding layer.

    Position embeddings stay: absence changes what stands at a place, not that a place is there.
    Tokens outside `positions` (default: all) are always present. `embedding` names the layer of a
    model that does not say.
    """
    length = _length(ids)
    chosen = list(range(length)) if positions is None else [int(p) for p in positions]
    bad = [p for p in chosen if not 0 <= p < length]
    if bad or len(set(chosen)) != len(chosen):
        raise BadRequest(
            f"positions must be different numbers from 0 to {length - 1}; got {bad or chosen}"
        )
    owner = torch.full((length, 1), PRESENT)
    owner[chosen, 0] = torch.arange(len(chosen))
    shown = (
        pieces(ids[0].tolist(), tokenizer)
        if tokenizer is not None
        else tuple(f"[{i}]" for i in ids[0].tolist())
    )
    names = unique([shown[p].strip() or repr(shown[p]) for p in chosen])
    site = Site(_embedding(lm, embedding), "out")
    grid = (length,) if chosen == list(range(length)) else None
    return Players(
        names,
        ("token",) * len(names),
        {site: owner},
        {"token": Geometry("text", site, grid, None, shown)},
    )


def words(
    lm: nn.Module,
    ids: Tensor,
    tokenizer: Tokenizer,
    *,
    positions: Sequence[int] | None = None,
    embedding: str | None = None,
) -> Players:
    """One player per word (letters and digits together, each punctuation mark alone), of whatever
    tokens it is made.
    """
    fine = tokens(lm, ids, tokenizer, positions=positions, embedding=embedding)
    site, owner = next(iter(fine.owner.items()))
    shown = fine.geometry["token"].shown
    text, start = "".join(shown), 0
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    groups: dict[int, list[int]] = {}
    for place, piece in enumerate(shown):
        middle = start + (len(piece) - len(piece.lstrip())) + len(piece.strip()) / 2
        start += len(piece)
        player = int(owner[place, 0])
        if player >= 0:
            nearest = min(
                range(len(spans)), key=lambda k: _distance(spans[k], middle), default=place
            )
            groups.setdefault(nearest, []).append(player)
    names = unique([text[slice(*spans[k])] if spans else f"word {k}" for k in groups])
    merged = fine.merge(list(groups.values()), names)
    geometry = {"word": Geometry("text", site, None, None, shown)}
    return Players(merged.names, ("word",) * merged.n, merged.owner, geometry)


def pieces(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The text each token adds, so that the pieces joined are the whole text. Works for any
    tokenizer.

    Decoding token by token loses spaces and word-piece joins, so each token gets what the decoded
    prefix that ends with it has in common with the text beyond the prefix before. A token that
    ends inside a character, or before something that decoding rewrites ("don '" into "don't"), adds
    nothing until that is complete.
    """
    text, at = tokenizer.decode(list(ids)), 0
    out = []
    for i in range(1, len(ids) + 1):
        prefix = text if i == len(ids) else tokenizer.decode(list(ids[:i]))
        until = max(at, len(commonprefix([prefix, text])))  # noqa: RUF071 - by characters
        out.append(text[at:until])
        at = until
    return tuple(out)


def _distance(span: tuple[int, int], place: float) -> float:
    return max(span[0] - place, place - span[1], 0.0)


def _length(ids: Tensor) -> int:
    if ids.ndim != 2 or ids.is_floating_point():
        raise BadRequest(
            "ids must be integers (batch, position), as tokenizer(text, "
            f"return_tensors='pt').input_ids; got {ids.dtype} {tuple(ids.shape)}"
        )
    return int(ids.shape[1])


def _embedding(lm: nn.Module, named: str | None) -> str:
    """Path of the token embedding."""
    if named is not None:
        return named
    if isinstance(lm, WithEmbeddings):
        table = lm.get_input_embeddings()
        for path, module in lm.named_modules():
            if module is table:
                return path
    candidates = [path for path, module in lm.named_modules() if isinstance(module, nn.Embedding)]
    raise BadRequest(
        f"{type(lm).__name__} does not say which layer embeds its tokens; name it with embedding=, "
        f"one of {candidates or 'its layers'}"
    )
