"""Credit of pairs, one player of each of two inputs, for the similarity of their embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .attribution import (
    Attribution,
    Provenance,
    drawing,
    pack_provenance,
    unpack_provenance,
)
from .files import pack_players, unpack_players, write
from .players import Players
from .types import Axiom, BadRequest, Cost
from .wording import bare, decimals, reach, signed

PATHS, RULES = ("moeller2023", "moeller2024"), ("eberle2022",)


class PairCredit(NamedTuple):
    """One pair's share of the similarity."""

    a: str
    b: str
    score: float
    error: float | None  # standard error, at most; None = nothing was sampled


class Ends(NamedTuple):
    """Similarities with the players of either input present or absent; None = never asked."""

    both: float | None  # e(a) . e(b)
    only_a: float | None  # e(a) . e(nobody of b)
    only_b: float | None  # e(nobody of a) . e(b)
    neither: float | None


@dataclass(frozen=True, eq=False)
class Pairs:
    """Scores of pairs: positive = together they make the two inputs more alike."""

    scores: Tensor  # (player of a, player of b)
    players_a: Players
    players_b: Players
    ends: Ends = Ends(None, None, None, None)
    error: Tensor | None = None  # standard error, at most
    scale: float = 1.0  # that everything was multiplied with
    cost: Cost = Cost()  # of both credits
    provenance: tuple[Provenance, Provenance] = (Provenance(), Provenance())
    freedom: int | None = None  # degrees of freedom the errors rest on; None = many, or no errors

    @property
    def gap(self) -> float | None:
        """Both - only a - only b + neither - sum of scores: how far the pairs miss the change of
        the similarity. None where a credit does not claim to add up.
        """
        if not self._adds_up or None in self.ends:
            return None
        both, only_a, only_b, neither = (float(x) for x in self.ends if x is not None)
        return both - only_a - only_b + neither - self.sum()

    @property
    def _adds_up(self) -> bool:
        return all(
            about.exact and Axiom.EFFICIENCY.value in about.claims for about in self.provenance
        )

    def sum(self) -> float:
        """Sum of the scores over all pairs."""
        return float(self.scores.double().sum())

    def top(self, k: int = 5, *, signed: bool = False) -> list[PairCredit]:
        """The k pairs with the largest scores: by size, or with `signed` by value from the most
        positive down.
        """
        flat = self.scores.flatten()
        order = (flat if signed else flat.abs()).argsort(descending=True, stable=True)[:k]
        wide = self.players_b.n
        return [self._at(int(i) // wide, int(i) % wide) for i in order]

    def __getitem__(self, pair: tuple[int | str, int | str]) -> PairCredit:
        """One pair, by names or numbers: a player of a, then one of b."""
        first, second = pair
        return self._at(_number(self.players_a, first, "a"), _number(self.players_b, second, "b"))

    def a(self, given: Sequence[int | str] | None = None) -> Attribution:
        """Credit of a's players for the similarity, summed over those of b; with `given` only over
        these players of b: where in a picture are these words?
        """
        return self._side(self.scores, self.error, self.players_a, self.players_b, given)

    def b(self, given: Sequence[int | str] | None = None) -> Attribution:
        """Credit of b's players, summed over those of a, or over those `given`."""
        turned = Ends(self.ends.both, self.ends.only_b, self.ends.only_a, self.ends.neither)
        error = None if self.error is None else self.error.T
        one = replace(self, ends=turned, provenance=self.provenance[::-1])
        return one._side(self.scores.T, error, self.players_b, self.players_a, given)

    def _side(
        self,
        scores: Tensor,
        error: Tensor | None,
        own: Players,
        others: Players,
        given: Sequence[int | str] | None,
    ) -> Attribution:
        everybody = given is None
        chosen = (
            range(others.n) if given is None else [_number(others, x, "the other") for x in given]
        )
        both, only, other, neither = self.ends if everybody else Ends(None, None, None, None)
        about = self.provenance[0]
        game = about.game
        words = f"similarity with {others}" if everybody else f"similarity with {list(given or [])}"
        claims = (Axiom.EFFICIENCY.value,) if self._adds_up and everybody else ()
        return Attribution(
            scores[:, list(chosen)].sum(1),
            own,
            _difference(other, neither),
            _difference(both, only),
            None if error is None else error[:, list(chosen)].sum(1),
            self.cost,
            replace(
                about,
                game=None if game is None else replace(game, value=words, unit="similarity"),
                claims=claims,
                cites=self.cites,
                error_note=about.error_note if error is None else "at most: errors of pairs summed",
            ),
            self.freedom,
        )

    @property
    def cites(self) -> tuple[str, ...]:
        """Keys of the works behind both credits and their product."""
        bent = any(about.game is not None and about.game.rules for about in self.provenance)
        own = RULES if bent else PATHS
        return tuple(dict.fromkeys([*own, *self.provenance[0].cites, *self.provenance[1].cites]))

    @property
    def reach(self) -> float:
        """Half a 95 % interval, in standard errors: 1.96, more where few samples tell them."""
        return reach(self.freedom)

    def to_frame(self) -> Any:
        """A pandas DataFrame: a's players down, b's across."""
        try:
            import pandas
        except ImportError as missing:
            raise BadRequest("to_frame needs pandas: pip install 'apportion[app]'") from missing
        return pandas.DataFrame(
            self.scores.tolist(), index=self.players_a.names, columns=self.players_b.names
        )

    def plot(self, *, ax: Any = None) -> Any:
        """A matplotlib figure: a's players down, b's across."""
        return drawing("plot pairs")(self, ax=ax)

    def _repr_html_(self) -> str:
        return str(drawing("html of pairs")(self))

    def cite(self) -> str:
        """References of the methods used, one per line."""
        return str(drawing("cite")(self.cites))

    def save(self, path: str | Path) -> Path:
        """Writes a folder: pairs.json and pairs.safetensors. `ap.load(path)` reads it; nothing is
        pickled.
        """
        return write(path, "pairs", *pack_pairs(self))

    def __str__(self) -> str:
        lines = [f"{self.players_a} × {self.players_b}: {self.scores.numel():,} pairs"]
        top = self.top(5)
        places = decimals(abs(top[0].score))
        wide_a, wide_b = max(len(x.a) for x in top), max(len(x.b) for x in top)
        for a, b, score, error in top:
            between = "" if error is None else f" \u00b1 {bare(self.reach * error, places)}"
            lines.append(f"  {a:<{wide_a}}  {b:<{wide_b}}  {signed(score, places)}{between}")
        ends = [
            f"{name} {signed(end, places)}"
            for name, end in zip(("both", "only a", "only b", "neither"), self.ends, strict=True)
            if end is not None
        ]
        ends.append(f"sum {signed(self.sum(), places)}")
        ends += [] if self.gap is None else [f"gap {signed(self.gap, places)}"]
        return "\n".join([*lines, f"  {', '.join(ends)}; {self.cost}"])

    def _at(self, i: int, j: int) -> PairCredit:
        error = None if self.error is None else float(self.error[i, j])
        names = self.players_a.names[i], self.players_b.names[j]
        return PairCredit(*names, float(self.scores[i, j]), error)


def pairs(credit_a: Attribution, credit_b: Attribution, scale: float = 1.0) -> Pairs:
    """Credit of pairs of players for the dot product of two embeddings, from the credit that each
    coordinate of either embedding gives its own players:

        score_ij = scale * sum_k credit_a[k, i] credit_b[k, j]

    Ask both games for `values.Embedding()`, of one model or of two that share a space. With
    `PathIntegral` these are integrated Jacobians, and the pairs add up to the change of the
    similarity, both - only a - only b + neither [moeller2023, moeller2024]; with `Gradient` under a
    rule table that conserves BiLRP, and they add up to the similarity itself [eberle2022]; with
    `LeaveOneOut` the second difference of the similarity, without gradients. A pair's score is what
    its players do together: words that match, taken out of both, leave the rest as alike.
    `scale=cosine_scale(credit_a, credit_b)` makes it a cosine. Errors are an upper bound:
    coordinates may err together.
    """
    for credit, name in ((credit_a, "credit_a"), (credit_b, "credit_b")):
        if not isinstance(credit, Attribution):
            raise BadRequest(
                f"pairs: {name} is a {type(credit).__name__}; give the credit that "
                "ap.attribute(game, estimator) answers with"
            )
        if credit.scores.ndim != 2:
            raise BadRequest(
                f"pairs: {name} has outputs of shape {tuple(credit.scores.shape[:-1])}, one axis "
                "of coordinates is needed; explain ap.values.Embedding(), or choose an instance "
                "with credit.pick(...)"
            )
    if isinstance(scale, bool) or not (isinstance(scale, int | float) and math.isfinite(scale)):
        raise BadRequest(
            f"pairs(scale={scale!r}): a finite number is needed, such as "
            "scale=ap.cosine_scale(credit_a, credit_b)"
        )
    left, right = credit_a.scores.double(), credit_b.scores.double()
    if len(left) != len(right):
        raise BadRequest(
            f"pairs: embeddings of {len(left)} and {len(right)} coordinates have no dot product; "
            "use two encoders into the same space"
        )
    error = _bound(credit_a, credit_b)
    freedoms = [c.freedom for c in (credit_a, credit_b) if c.freedom is not None]
    return Pairs(
        scale * (left.T @ right),
        credit_a.players,
        credit_b.players,
        Ends(
            _dot(credit_a.full, credit_b.full, scale),
            _dot(credit_a.full, credit_b.none, scale),
            _dot(credit_a.none, credit_b.full, scale),
            _dot(credit_a.none, credit_b.none, scale),
        ),
        None if error is None else abs(scale) * error,
        scale,
        credit_a.cost + credit_b.cost,
        (credit_a.provenance, credit_b.provenance),
        min(freedoms, default=None) if error is not None else None,
    )


def cosine_scale(credit_a: Attribution, credit_b: Attribution) -> float:
    """1 / (|e(a)| |e(b)|): the norms of the two whole inputs, kept where players are absent, so
    that the similarity stays a product and pairs still add up.
    """
    norms = []
    for credit in (credit_a, credit_b):
        if credit.full is None:
            raise BadRequest(
                "cosine_scale: the embedding with all players was never asked by "
                f"{credit.provenance.estimator or 'this credit'}; use PathIntegral() or "
                "Gradient(at=1), or give scale= yourself"
            )
        norms.append(float(credit.full.double().norm()))
    if not all(norms):
        raise BadRequest("cosine_scale: an embedding is zero, so it has no direction")
    return 1 / (norms[0] * norms[1])


def _dot(a: Tensor | None, b: Tensor | None, scale: float) -> float | None:
    return None if a is None or b is None else scale * float(a.double() @ b.double())


def _difference(a: float | None, b: float | None) -> Tensor | None:
    return None if a is None or b is None else torch.tensor(a - b, dtype=torch.float64)


def _bound(a: Attribution, b: Attribution) -> Tensor | None:
    """Standard error of a product of two independent credits whose coordinates may err together:
    at most the sum of what each brings.
    """
    parts = []
    if a.error is not None:
        parts.append(a.error.double().T @ b.scores.double().abs())
    if b.error is not None:
        parts.append(a.scores.double().abs().T @ b.error.double())
    if a.error is not None and b.error is not None:
        parts.append(a.error.double().T @ b.error.double())
    return torch.stack(parts).square().sum(0).sqrt() if parts else None


def _number(players: Players, given: int | str, side: str) -> int:
    if isinstance(given, str) and given in players.names:
        return players.names.index(given)
    if isinstance(given, int) and -players.n <= given < players.n:
        return given % players.n
    raise BadRequest(
        f"there is no player {given!r} in {side}; there are {players.n}, by number or by name: "
        f"{', '.join(players.names[:6])}, ..."
    )


def pack_pairs(x: Pairs, prefix: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Pairs as plain facts and named tensors."""
    tensors = {f"{prefix}scores": x.scores}
    tensors |= {} if x.error is None else {f"{prefix}error": x.error}
    a, owned_a = pack_players(x.players_a, f"{prefix}a.")
    b, owned_b = pack_players(x.players_b, f"{prefix}b.")
    facts = {
        "ends": list(x.ends),
        "scale": x.scale,
        "cost": asdict(x.cost),
        "freedom": x.freedom,
        "provenance": [pack_provenance(about) for about in x.provenance],
        "a": a,
        "b": b,
    }
    return facts, {k: v.contiguous() for k, v in {**tensors, **owned_a, **owned_b}.items()}


def unpack_pairs(facts: dict[str, Any], tensors: Mapping[str, Tensor], prefix: str = "") -> Pairs:
    """The inverse of `pack_pairs`."""
    first, second = facts["provenance"]
    return Pairs(
        tensors[f"{prefix}scores"],
        unpack_players(facts["a"], tensors, f"{prefix}a."),
        unpack_players(facts["b"], tensors, f"{prefix}b."),
        Ends(*facts["ends"]),
        tensors.get(f"{prefix}error"),
        facts["scale"],
        Cost(**facts["cost"]),
        (unpack_provenance(first), unpack_provenance(second)),
        facts["freedom"],
    )
