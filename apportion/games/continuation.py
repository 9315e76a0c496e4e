"""Asking about a continuation: prompt and answer as one input, of which only the prompt has
players.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..players import Players, tokens
from ..types import BadRequest
from ..values import Continuation


class Continued(NamedTuple):
    """The three parts of a game about a continuation: ModelGame(lm, input, value, players,
    removal).
    """

    input: Tensor  # (1, prompt and answer)
    value: Continuation  # log-probability of the answer
    players: Players  # the tokens of the prompt


def continuation(
    lm: nn.Module, prompt: Any, answer: Any, tokenizer: Any = None, *, embedding: str | None = None
) -> Continued:
    """Why does the prompt lead to this answer? `prompt` and `answer` are texts (with a tokenizer)
    or token ids (1, position).

    The answer is part of the input (teacher forcing) and owned by no player; the value is the sum
    of its tokens' log-probabilities.
    """
    start, end = (
        _ids(prompt, tokenizer, "prompt", special=True),
        _ids(answer, tokenizer, "answer", special=False),
    )
    ids = torch.cat([start, end], dim=1)
    places = range(start.shape[1])
    return Continued(
        ids,
        Continuation(tuple(end[0].tolist())),
        tokens(lm, ids, tokenizer, positions=places, embedding=embedding),
    )


def _ids(given: Any, tokenizer: Any, name: str, *, special: bool) -> Tensor:
    if isinstance(given, str):
        if tokenizer is None:
            raise BadRequest(f"the {name} is a text; pass tokenizer=, or token ids (1, position)")
        given = tokenizer(given, add_special_tokens=special, return_tensors="pt")["input_ids"]
    if not isinstance(given, Tensor) or given.ndim != 2 or len(given) != 1 or given.shape[1] < 1:
        raise BadRequest(
            f"the {name} must be a text or token ids (1, position) with at least one token; got "
            f"{type(given).__name__}"
        )
    return given
