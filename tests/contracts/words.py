"""Small tokenizers that spell the ways real ones decode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class WordPiece:
    """BERT's way: pieces joined by spaces, '##' glued on, spaces before punctuation removed."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = list(pieces)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        text = " ".join(self.pieces[int(i) % len(self.pieces)] for i in ids).replace(" ##", "")
        for mark in (",", ".", "?"):
            text = text.replace(f" {mark}", mark)
        return text.replace(" ' t", "'t")


class Bytes:
    """GPT-2's way: a token is some bytes, of which a character may need several."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        return b"".join(self.pieces[int(i)] for i in ids).decode("utf-8", errors="replace")

    def __call__(self, text: str, *, add_special_tokens: bool, return_tensors: str) -> dict:
        """Longest piece first; the last piece is special and starts a text."""
        assert return_tensors == "pt"
        rest, ids = text.encode(), []
        while rest:
            fits = [p for p in self.pieces if rest.startswith(p)]
            piece = max(fits, key=len)
            ids.append(self.pieces.index(piece))
            rest = rest[len(piece) :]
        start = [len(self.pieces) - 1] if add_special_tokens else []
        return {"input_ids": torch.tensor([start + ids])}


class Underlined:
    """SentencePiece's way: '_' is a space, and the first one is dropped."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = list(pieces)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        return "".join(self.pieces[int(i)] for i in ids).replace("_", " ").removeprefix(" ")
