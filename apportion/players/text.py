"""Players that partition a text: tokens, and words, sentences or spans made of them."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..taps import Site
from ..types import BadRequest
from .base import PRESENT, Geometry, Players, unique
from .blocks import encodes_and_decodes

LONGEST = 60  # characters of a name


@runtime_checkable
class Tokenizer(Protocol):
    """What is asked of a tokenizer: Hugging Face's offer it."""

    def decode(self, token_ids: Any, /) -> str: ...


@runtime_checkable
class WithEmbeddings(Protocol):
    """A model that names its token embedding, as Hugging Face's do."""

    def get_input_embeddings(self) -> nn.Module: ...


@runtime_checkable
class WithSides(Protocol):
    """A model that names its encoder and its decoder, as Hugging Face's do."""

    def get_encoder(self) -> Any: ...

    def get_decoder(self) -> Any: ...


def tokens(
    lm: nn.Module,
    ids: Tensor,
    tokenizer: Tokenizer | None = None,
    *,
    positions: Sequence[int] | None = None,
    embedding: str | None = None,
    call: int | None = None,
) -> Players:
    """One player per token, gated where its word embedding leaves the embedding layer.

    Position embeddings stay: absence changes what stands at a place, not that a place is there.
    Tokens outside `positions` (default: all) are always present. `embedding` names the layer of a
    model that does not say, `call` which of its calls is meant where it runs more than once.

    Of an encoder-decoder these are the encoder's tokens. Those of the decoder can join them:

        target = tokens(model, decoded, embedding="decoder.embed_tokens").renamed("target")
        both = tokens(model, ids) | target
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
    path, first = (embedding, None) if embedding is not None else _embedding(lm)
    site = Site(path, "out", None, first if call is None else call)
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
    _needs_text(tokenizer, "words")
    fine = tokens(lm, ids, tokenizer, positions=positions, embedding=embedding)
    text = "".join(fine.geometry["token"].shown)
    return _joined(fine, [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], "word")


def sentences(
    lm: nn.Module,
    ids: Tensor,
    tokenizer: Tokenizer,
    *,
    positions: Sequence[int] | None = None,
    embedding: str | None = None,
) -> Players:
    """One player per sentence: up to . ! ? (with closing quotes) before a space, or a line's end.
    Abbreviations end sentences too; give `spans` where that matters.
    """
    _needs_text(tokenizer, "sentences")
    fine = tokens(lm, ids, tokenizer, positions=positions, embedding=embedding)
    text = "".join(fine.geometry["token"].shown)
    ends = r"\S.*?(?:[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)|(?=\n)|$)"
    return _joined(fine, [m.span() for m in re.finditer(ends, text)], "sentence")


def spans(
    lm: nn.Module,
    ids: Tensor,
    tokenizer: Tokenizer,
    spans: Sequence[str | tuple[int, int]],
    names: Sequence[str] | None = None,
    *,
    embedding: str | None = None,
) -> Players:
    """One player per span of the text: a piece of it that stands there once, or (start, stop) in
    characters of the decoded text. A token belongs to the span that holds its middle; tokens of no
    span are always present.
    """
    _needs_text(tokenizer, "spans")
    if isinstance(spans, str):
        raise BadRequest(f"spans={spans!r} would be read letter by letter; write spans=[{spans!r}]")
    if not isinstance(spans, Iterable):
        raise BadRequest(
            f"spans={spans!r}: a list is needed, of pieces of the text or of (start, stop) in "
            "characters of it; write spans=['a piece']"
        )
    fine = tokens(lm, ids, tokenizer, embedding=embedding)
    shown = fine.geometry["token"].shown
    text = "".join(shown)
    found = [_span(text, given) for given in spans]
    for (i, one), (j, other) in itertools.combinations(enumerate(found), 2):
        shared = text[max(one[0], other[0]) : min(one[1], other[1])]
        if max(one[0], other[0]) < min(one[1], other[1]):
            raise BadRequest(
                f"spans {i} and {j} overlap in {shared!r}; players partition, so a piece of text "
                "is in one span"
            )
    if names is not None and len(names) != len(found):
        raise BadRequest(f"{len(names)} names for {len(found)} spans")
    middles = _middles(shown)
    inside = [next((k for k, (a, b) in enumerate(found) if a <= m < b), PRESENT) for m in middles]
    empty = [k for k in range(len(found)) if k not in inside]
    if empty:
        a, b = found[empty[0]]
        raise BadRequest(
            f"span {empty[0]}, {text[a:b]!r}, holds no token: tokens are {shown[:4]} ...; widen it"
        )
    called = names or [_short(text[a:b]) for a, b in found]
    site = next(iter(fine.owner))
    owner = torch.tensor(inside)[:, None]
    geometry = {"span": Geometry("text", site, None, None, shown)}
    return Players(unique(list(called)), ("span",) * len(found), {site: owner}, geometry)


def _span(text: str, given: str | tuple[int, int]) -> tuple[int, int]:
    if isinstance(given, str):
        count = text.count(given) if given else 0
        if count != 1:
            raise BadRequest(
                f"the span {given!r} stands {count} times in the text; give (start, stop) in "
                f"characters of it: {_short(text)!r}"
            )
        start = text.index(given)
        return start, start + len(given)
    start, stop = _ends(given)
    if not 0 <= start < stop <= len(text):
        raise BadRequest(
            f"the span {given} does not lie in a text of {len(text)} characters: {_short(text)!r}"
        )
    return start, stop


def _ends(given: object) -> tuple[int, int]:
    if isinstance(given, Iterable):
        try:
            start, stop = map(operator.index, given)
        except (TypeError, ValueError):  # no whole numbers, or not two
            pass
        else:
            return start, stop
    raise BadRequest(
        f"the span {given!r} is neither a piece of the text nor (start, stop), two whole numbers "
        "of characters in it; write spans=['a piece'] or spans=[(0, 12)]"
    )


def _joined(fine: Players, found: list[tuple[int, int]], kind: str) -> Players:
    """Tokens joined by the nearest of these spans of the text."""
    site, owner = next(iter(fine.owner.items()))
    shown = fine.geometry["token"].shown
    text = "".join(shown)
    groups: dict[int, list[int]] = {}
    for place, middle in enumerate(_middles(shown)):
        player = int(owner[place, 0])
        if player >= 0:
            nearest = min(
                range(len(found)), key=lambda k: _distance(found[k], middle), default=place
            )
            groups.setdefault(nearest, []).append(player)
    names = unique([_short(text[slice(*found[k])]) if found else f"{kind} {k}" for k in groups])
    merged = fine.merge(list(groups.values()), names)
    geometry = {kind: Geometry("text", site, None, None, shown)}
    return Players(merged.names, (kind,) * merged.n, merged.owner, geometry)


def _middles(shown: Sequence[str]) -> list[float]:
    """Where the middle of each token lies in the text, spaces around it left out."""
    out, start = [], 0
    for piece in shown:
        out.append(start + (len(piece) - len(piece.lstrip())) + len(piece.strip()) / 2)
        start += len(piece)
    return out


def _short(text: str) -> str:
    """A piece of text as a name."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}\u2026"


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


def _needs_text(tokenizer: object, builder: str) -> None:
    if tokenizer is None:
        raise BadRequest(
            f"{builder}(tokenizer=None): pieces of text are found in the text, which the model's "
            "tokenizer spells out; give it, or use ap.players.tokens(lm, ids)"
        )


def _distance(span: tuple[int, int], place: float) -> float:
    return max(span[0] - place, place - span[1], 0.0)


def _length(ids: Tensor) -> int:
    if not isinstance(ids, Tensor):
        raise BadRequest(
            f"ids are token numbers (batch, position), got a {type(ids).__name__}; write "
            "tokenizer(text, return_tensors='pt').input_ids"
        )
    if ids.ndim != 2 or ids.is_floating_point():
        raise BadRequest(
            "ids must be integers (batch, position), as tokenizer(text, "
            f"return_tensors='pt').input_ids; got {ids.dtype} {tuple(ids.shape)}"
        )
    return int(ids.shape[1])


def _embedding(lm: nn.Module) -> tuple[str, int | None]:
    """Path of the token embedding, and which call of it where two sides share one."""
    if isinstance(lm, WithEmbeddings):
        table, call = lm.get_input_embeddings(), None
        if isinstance(lm, WithSides) and encodes_and_decodes(lm):
            table, other = (
                side.get_input_embeddings() for side in (lm.get_encoder(), lm.get_decoder())
            )
            call = 0 if table is other else None  # the encoder runs first
        for path, module in lm.named_modules():
            if module is table:
                return path, call
    candidates = [path for path, module in lm.named_modules() if isinstance(module, nn.Embedding)]
    raise BadRequest(
        f"{type(lm).__name__} does not say which layer embeds its tokens; name it with embedding=, "
        f"one of {candidates or 'its layers'}"
    )
