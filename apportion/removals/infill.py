"""Absence as ignorance, in text: absent tokens are what a language model puts there.

The only removals that run a model. They do so before the explained model runs, never inside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from ..types import BadRequest, WithLogits, number, told
from .base import Jitter, Reference, Removal
from .conditional import MadeUp

TOKENS = 2**14  # tokens sent through the language model at once


@runtime_checkable
class Filling(Protocol):
    """A removal that makes up another input for every coalition: what the site then holds stands
    in.
    """

    def fill(self, ids: Tensor, keep: Tensor, seed: Tensor) -> Tensor:
        """Tokens with absent ones made up, (row, instance, position), of the input's (instance,
        position) and the gates (row, position); `seed` has one integer per row.
        """

    def passes(self, length: int) -> int:
        """Forward passes of its model for one coalition of one instance, at most."""


@dataclass(frozen=True, eq=False)
class Infill:
    """Absent tokens are replaced by those of a language model."""

    lm: nn.Module
    temperature: float
    never: tuple[int, ...]
    mask: int | None  # token of a masked model; None = the model is causal
    start: int | None  # token before the text, for a causal model
    reference: Reference = field(init=False, repr=False)
    domain: ClassVar[Literal["binary", "unit"]] = "binary"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", MadeUp(self.draws))

    @property
    def draws(self) -> int | None:
        return None if self.temperature > 0 else 1

    @property
    def cites(self) -> tuple[str, ...]:
        return ("kim2020",) if self.mask is not None else ("zhao2024",)

    def __call__(self, x: Tensor, keep: Tensor, absent: Tensor, seed: Tensor) -> Tensor:
        return torch.where(keep, x, absent.to(x.dtype))

    def passes(self, length: int) -> int:
        return length if self.mask is None else 1

    def fill(self, ids: Tensor, keep: Tensor, seed: Tensor) -> Tensor:
        rows, n = len(keep), len(ids)
        text = ids[None].expand(rows, -1, -1).flatten(0, 1).clone()
        absent = ~keep.to(ids.device).repeat_interleave(n, 0)
        chance = _uniform(seed, ids.shape[1]).to(ids.device).repeat_interleave(n, 0)
        with torch.no_grad():
            if self.mask is not None:
                text = self._masked(text, absent, chance, self.mask)
            else:
                text = self._causal(text, absent, chance)
        return text.unflatten(0, (rows, n))

    def _masked(self, text: Tensor, absent: Tensor, chance: Tensor, mask: int) -> Tensor:
        """All absent places at once, each given the present tokens only."""
        shown = torch.where(absent, mask, text)
        for row in absent.any(1).nonzero().flatten().split(max(TOKENS // text.shape[1], 1)):
            if not len(row):  # nobody is absent: split gives one empty piece
                continue
            logits = self._logits(shown[row])
            text[row] = torch.where(absent[row], self._choose(logits, chance[row]), text[row])
        return text

    def _causal(self, text: Tensor, absent: Tensor, chance: Tensor) -> Tensor:
        """From left to right, each place given everything to its left: present and made up."""
        if self.start is None and bool(absent[:, 0].any()):
            raise BadRequest(
                f"{self!r}: the first token is absent and nothing is to its left. Pass start=, the "
                "token that begins a text (tokenizer.bos_token_id), or leave the first position to "
                "nobody: ap.players.tokens(lm, ids, positions=range(1, ids.shape[1]))"
            )
        first = [] if self.start is None else [self.start]
        begin = torch.tensor(first, dtype=text.dtype, device=text.device)
        for place in absent.any(0).nonzero().flatten().tolist():
            for row in absent[:, place].nonzero().flatten().split(max(TOKENS // (place + 1), 1)):
                left = torch.cat([begin.expand(len(row), -1), text[row, :place]], 1)
                distinct, which = torch.unique(left, dim=0, return_inverse=True)
                logits = self._logits(distinct)[:, -1][which]
                text[row, place] = self._choose(logits, chance[row, place])
        return text

    def _logits(self, ids: Tensor) -> Tensor:
        """What the model says, told plainly where it does not know a token."""
        try:
            return _logits(self.lm, ids)
        except IndexError as failure:
            what, own = ("start", self.start) if self.mask is None else ("mask", self.mask)
            raise BadRequest(
                f"{self!r}: the model was asked about tokens up to {int(ids.max())}, {what}={own}, "
                f"and does not know them all ({failure}). Tokens are those of the explained model; "
                f"write {what}=tokenizer.{'bos' if self.mask is None else 'mask'}_token_id"
            ) from failure

    def _choose(self, logits: Tensor, chance: Tensor) -> Tensor:
        """The most probable token, or the one at a quantile of the distribution."""
        scores = logits.float()
        if self.never:
            outside = [t for t in self.never if not 0 <= t < scores.shape[-1]]
            if outside:
                raise BadRequest(
                    f"{self!r}: never= names tokens {outside[:3]}, the model knows "
                    f"{scores.shape[-1]:,}"
                )
            if len(set(self.never)) == scores.shape[-1]:
                raise BadRequest(
                    f"{self!r}: never= names all {scores.shape[-1]:,} tokens the model knows, so "
                    "there is none to put in; leave some out, such as all but the special ones"
                )
            scores = scores.index_fill(
                -1, torch.tensor(self.never, device=scores.device), -torch.inf
            )
        if self.temperature == 0:
            return scores.argmax(-1)
        sums = (scores / self.temperature).softmax(-1).double().cumsum(-1)
        at = (chance[..., None] * sums[..., -1:]).contiguous()
        place = torch.searchsorted(sums, at, right=True)[..., 0]
        return place.clamp(max=scores.shape[-1] - 1)

    def __repr__(self) -> str:
        name = "causal_infill" if self.mask is None else "masked_infill"
        return f"{name}({type(self.lm).__name__}, temperature={self.temperature:g})"


def masked_infill(
    lm: Any,
    mask: int | None,
    *,
    temperature: float = 1.0,
    never: tuple[int, ...] = (),
) -> Infill:
    """Absent tokens = those of a masked language model, which sees `mask` in their places and the
    present tokens on both sides. Input marginalisation [kim2020].

    All places are filled from one forward pass, each on its own: neighbours that are absent
    together need not fit each other. `temperature` 0 takes the most probable token (one draw);
    above, tokens are drawn and draws are unlimited: `ap.averaged(game, draws=20)`. A draw uses the
    same random numbers for every coalition. `never`: tokens not to choose, such as special ones.
    `lm` shares its token numbers with the explained model. One forward pass per coalition more.
    """
    if mask is None:
        raise BadRequest(
            f"masked_infill({type(lm).__name__}, None): the model needs to see where something is "
            "missing; pass mask=tokenizer.mask_token_id. A model without a mask token is not a "
            "masked one: causal_infill(lm)"
        )
    return Infill(
        lm, *_admitted(lm, temperature, never, "masked_infill"), _token(mask, "mask"), None
    )


def causal_infill(
    lm: Any,
    *,
    start: int | None = None,
    temperature: float = 1.0,
    never: tuple[int, ...] = (),
) -> Infill:
    """Absent tokens = what a causal language model, such as the explained one, would write there:
    from left to right, with left context only. As ReAGent fills with a decoder [zhao2024].

    Present tokens stay where they are and are read by what comes after them; what comes after an
    absent token does not shape it. The first token has no left context: give `start`, or leave it
    to nobody. `temperature` 0 takes the most probable token (one draw); above, tokens are drawn and
    draws are unlimited. A draw uses the same random numbers for every coalition. One forward pass
    for each absent place, over the text up to it; coalitions that agree up to there share it.
    """
    first = None if start is None else _token(start, "start")
    return Infill(lm, *_admitted(lm, temperature, never, "causal_infill"), None, first)


def _admitted(
    lm: object, temperature: float, never: tuple[int, ...], name: str
) -> tuple[float, tuple[int, ...]]:
    if not isinstance(lm, nn.Module):
        raise BadRequest(
            f"{name}({type(lm).__name__}): the language model is a torch.nn.Module called with "
            "token numbers, such as AutoModelForMaskedLM or AutoModelForCausalLM give"
        )
    if lm.training:
        raise BadRequest(f"{name}: the language model is in training mode; call lm.eval() first")
    if not 0 <= number(temperature) < math.inf:
        raise BadRequest(
            f"{name}(temperature={told(temperature)}): 0 takes the most probable token, 1 draws "
            "from the model's own distribution"
        )
    return number(temperature), tuple(_token(t, "never") for t in never)


def _token(given: object, name: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise BadRequest(
            f"{name}={given!r} is no token number; write {name}=tokenizer.mask_token_id"
        )
    return given


def _logits(lm: nn.Module, ids: Tensor) -> Tensor:
    """(row, position, token), with the explained model's own hooks not yet set."""
    output: Any = lm(ids)
    if isinstance(output, WithLogits):
        output = output.logits
    elif isinstance(output, dict):
        output = output.get("logits")
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[:2] != ids.shape:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise BadRequest(
            f"{type(lm).__name__} gives {got} for ids {tuple(ids.shape)}; a language model gives "
            "logits (batch, position, token)"
        )
    return output


def filling(removal: Removal) -> Filling | None:
    """The removal that makes texts up, also under noise."""
    inner = removal.removal if isinstance(removal, Jitter) else removal
    return inner if isinstance(inner, Filling) else None


def _uniform(seed: Tensor, length: int) -> Tensor:
    """(row, position): the random number of each place, one per draw."""
    made = {
        s: torch.rand(length, generator=Generator().manual_seed(s), dtype=torch.float64)
        for s in dict.fromkeys(seed.tolist())
    }
    return torch.stack([made[s] for s in seed.tolist()]) if len(seed) else torch.rand(0, length)
