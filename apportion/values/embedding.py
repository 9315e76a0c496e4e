"""Values of a whole output: how near it is to another, and how far a distribution has moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..types import BadRequest
from .base import Value, class_scores
from .vectors import pooled, positions_of

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Similarity:
    """How near the output is to a fixed vector of the same width:

        dot: y . to          cosine: y . to / (|y| |to|)

    `to` is the embedding of something else, a tensor or numbers: the game of a pair with one side
    masked [plummer2020]. None = the output on the clean input, per instance: how much of itself is
    left. Reads what `Embedding` reads: hidden states (instance, position, width), as their mean
    over the positions, or (instance, width) itself.
    """

    to: Any = None  # a vector; None = the clean output
    how: str = "cosine"  # or "dot"
    positions: tuple[int, ...] | None = None  # whose mean is taken, as of Embedding; None = all

    last: ClassVar[int | None] = None
    cites: ClassVar[tuple[str, ...]] = ("plummer2020",)

    def __post_init__(self) -> None:
        if self.how not in ("cosine", "dot"):
            raise BadRequest(f"Similarity(how={self.how!r}): how is 'cosine' or 'dot'")
        kept = positions_of(self.positions, f"Similarity(positions={self.positions!r})")
        object.__setattr__(self, "positions", kept)
        if self.to is not None:
            object.__setattr__(self, "to", _vector(self.to, "Similarity(to=...)"))

    @property
    def unit(self) -> str:
        return "cosine" if self.how == "cosine" else "dot product"

    @property
    def linear(self) -> bool:
        return self.how == "dot"

    def against(self, output: Any) -> Value:
        return self if self.to is not None else Against(self, self.rows(output).detach())

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        if self.to is None:
            raise incomplete(self, "to=")
        rows = self.rows(output)
        return self.compare(rows, _like(self.to, rows)[None])

    def rows(self, output: Any) -> Float[Tensor, "batch width"]:
        """One embedding per instance."""
        return pooled(output, self.positions, self)

    def compare(self, rows: Tensor, clean: Tensor) -> Tensor:
        """Of each row, with one vector for all rows or one each."""
        if rows.shape[-1] != clean.shape[-1]:
            raise BadRequest(
                f"{self} compares with {clean.shape[-1]} numbers, the output has "
                f"{rows.shape[-1]}; give an embedding by the same model"
            )
        clean = clean.to(rows)
        dot = (rows * clean).sum(-1)
        return dot if self.how == "dot" else dot / (rows.norm(dim=-1) * clean.norm(dim=-1))

    def __repr__(self) -> str:
        at = "" if self.positions is None else f", positions={self.positions}"
        return f"Similarity(to={_sketch(self.to)}, how={self.how!r}{at})"


@dataclass(frozen=True)
class Divergence:
    """Minus the Kullback-Leibler divergence of the distribution from the one on the clean input:

        v(S) = -KL(p(y|x) || p(y|x_S)) = sum_y p(y|x) log(p(y|x_S) / p(y|x))

    0 where nothing is lost, below elsewhere; one map per input, not per class, so no class can leak
    into it (SHAP-KL, here of the model itself [jethani2023]). Its Shapley values are those of the
    log-probabilities, averaged over p(y|x). `of`: another distribution than the clean one.
    """

    of: Any = None  # probabilities of every class; None = those of the clean run

    unit: ClassVar[str] = "nats"
    linear: ClassVar[bool] = False
    last: ClassVar[int | None] = 1
    cites: ClassVar[tuple[str, ...]] = ("jethani2023",)

    def __post_init__(self) -> None:
        if self.of is None:
            return
        chances = _vector(self.of, "Divergence(of=...)")
        if min(chances) < 0 or abs(sum(chances) - 1) > 1e-4:
            raise BadRequest(
                f"Divergence(of=...): these {len(chances)} numbers are no probabilities (they sum "
                f"to {sum(chances):.4g}); give logits.softmax(-1)"
            )
        object.__setattr__(self, "of", chances)

    def against(self, output: Any) -> Value:
        if self.of is not None:
            return self
        return Against(self, self.rows(output).softmax(-1).detach())

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        if self.of is None:
            raise incomplete(self, "of=")
        rows = self.rows(output)
        return self.compare(rows, _like(self.of, rows)[None])

    def rows(self, output: Any) -> Float[Tensor, "batch class"]:
        """Scores of every class, per instance."""
        return class_scores(output, self)

    def compare(self, rows: Tensor, clean: Tensor) -> Tensor:
        """Of each row of scores, with one distribution for all rows or one each."""
        if rows.shape[-1] != clean.shape[-1]:
            raise BadRequest(
                f"{self} compares with {clean.shape[-1]} classes, the output has {rows.shape[-1]}"
            )
        clean = clean.to(rows)
        own = torch.xlogy(clean, clean).sum(-1)
        moved = rows.log_softmax(-1)
        return torch.where(clean > 0, clean * moved, 0.0).sum(-1) - own

    def __repr__(self) -> str:
        return "Divergence()" if self.of is None else f"Divergence(of={_sketch(self.of)})"


@dataclass(frozen=True, eq=False)
class Against:
    """A comparison completed by the clean run: one vector per instance."""

    value: Similarity | Divergence
    clean: Tensor  # (instance, width)

    @property
    def unit(self) -> str:
        return self.value.unit

    @property
    def linear(self) -> bool:
        return self.value.linear

    @property
    def last(self) -> int | None:
        return self.value.last

    def __call__(self, output: Any) -> Float[Tensor, "batch"]:
        rows = self.value.rows(output)
        times, rest = divmod(len(rows), len(self.clean))
        if rest:
            raise BadRequest(
                f"{self.value} was shown {len(self.clean)} instances and is asked about "
                f"{len(rows)} rows, which is no multiple"
            )
        return self.value.compare(rows, self.clean.repeat(times, 1))

    def __repr__(self) -> str:
        return repr(self.value)


def incomplete(value: object, option: str) -> BadRequest:
    """The error of a value that was never shown the clean run."""
    return BadRequest(
        f"{value!r} is about the clean run, which ModelGame shows it. Elsewhere give {option}, or "
        "complete it: value.against(model(x))"
    )


def _vector(given: Any, name: str) -> Vector:
    """Numbers as a tuple, so that values can be compared and named."""
    try:
        kind = given.dtype if isinstance(given, Tensor) else torch.float64
        numbers = torch.as_tensor(given, dtype=kind).detach().double().cpu().squeeze()
    except (TypeError, ValueError, RuntimeError) as failure:
        raise BadRequest(f"{name} takes a vector of numbers: {failure}") from failure
    if numbers.ndim != 1 or not len(numbers):
        raise BadRequest(
            f"{name} takes one vector; got {tuple(numbers.shape)}. For several ask several games, "
            "or ap.values.Several"
        )
    if not bool(torch.isfinite(numbers).all()):
        raise BadRequest(f"{name} holds NaN or infinite numbers")
    return tuple(numbers.tolist())


def _like(numbers: Vector, rows: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).to(rows)


def _sketch(numbers: Vector | None) -> str:
    if numbers is None:
        return "None"
    shown = ", ".join(f"{x:.3g}" for x in numbers[:3])
    return f"[{shown}{', ...' if len(numbers) > 3 else ''}]"
