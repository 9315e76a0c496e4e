"""The answer about sets of players: what each scores, how sure that is, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from . import scored
from .attribution import Provenance, drawing, pack_provenance, unpack_provenance
from .files import pack_players, unpack_players, write
from .games.base import Game
from .players import Players
from .types import BadRequest, Cost
from .wording import reach

JOIN = " × "  # between the names of a set


class SetCredit(NamedTuple):
    """One set's score."""

    names: tuple[str, ...]
    score: float
    error: float | None  # standard error; None = see Interactions.provenance.error_note

    @property
    def name(self) -> str:
        """The set as text."""
        return JOIN.join(self.names)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Scores of sets of players on one value. Of indices of interaction: positive = together they
    are worth more than apart. Units are the value's.
    """

    scores: Tensor  # (*out, set)
    sets: Tensor  # bool (set, player): who is in each
    players: Players
    none: Tensor | None = None  # v(no player), (*out); None = never asked
    full: Tensor | None = None  # v(all players)
    error: Tensor | None = None  # standard error of the estimator, (*out, set)
    cost: Cost = Cost()
    provenance: Provenance = Provenance()
    freedom: int | None = None  # degrees of freedom the errors rest on; None = many, or no errors

    def __post_init__(self) -> None:
        wrong = self.sets.dtype != torch.bool or self.sets.ndim != 2
        if wrong or tuple(self.sets.shape) != (self.scores.shape[-1], self.players.n):
            raise BadRequest(
                f"sets must be bool (set, player), here ({self.scores.shape[-1]}, "
                f"{self.players.n}); got {self.sets.dtype} {tuple(self.sets.shape)}"
            )

    @classmethod
    def among(
        cls,
        game: Game,
        sets: Tensor,
        scores: Tensor,
        *,
        error: Tensor | None = None,
        freedom: int | None = None,
        none: Tensor | None = None,
        full: Tensor | None = None,
        error_note: str = "",
        notes: tuple[str, ...] = (),
    ) -> Interactions:
        """What an estimator returns; `attribute` adds cost and provenance."""
        return cls(
            scores,
            sets,
            game.players,
            none,
            full,
            error,
            Cost(),
            Provenance(error_note=error_note, notes=notes),
            freedom if error is not None else None,
        )

    def stamped(self, cost: Cost, provenance: Provenance) -> Interactions:
        """The same scores with what they cost and where they came from."""
        return replace(self, cost=cost, provenance=provenance)

    @property
    def order(self) -> int:
        """Players in the largest set."""
        return int(self.sets.sum(-1).max()) if len(self.sets) else 0

    @property
    def gap(self) -> Tensor | None:
        """Full - none - sum of scores, (*out): how far a claim to add up is missed. None where
        nothing claims to.
        """
        return scored.gap(self)

    def sum(self) -> Tensor:
        """Sum of the scores over sets, (*out)."""
        return self.scores.double().sum(-1)

    def top(self, k: int = 5, *, signed: bool = False) -> list[SetCredit]:
        """The k sets with the largest scores: by size, or with `signed` by value from the most
        positive down.
        """
        scored.admit_top(k, "interactions")
        scores = self._single("top")
        order = (scores if signed else scores.abs()).argsort(descending=True, stable=True)[:k]
        return [self._at(int(i)) for i in order]

    def __getitem__(self, members: int | str | Sequence[int | str]) -> SetCredit:
        """One set, by the names or the numbers of its players, in any order."""
        self._single("[...]")
        given = (members,) if isinstance(members, str | SupportsIndex) else tuple(members)
        row = torch.zeros(self.players.n, dtype=torch.bool)
        row[[self._player(x) for x in given]] = True
        found = (self.sets == row).all(-1).nonzero()
        if not len(found) or int(row.sum()) != len(given):
            raise BadRequest(
                f"no score is kept for the set {given!r}; sets are of different players, of sizes "
                f"{sorted(set(self.sets.sum(-1).tolist()))}; see interactions.top()"
            )
        return self._at(int(found[0]))

    def of(self, order: int) -> Interactions:
        """The sets of so many players. Their scores alone do not add up to the whole."""
        keep = self.sets.sum(-1) == order
        if not bool(keep.any()):
            raise BadRequest(
                f"no set of {order} players has a score; there are sets of "
                f"{sorted(set(self.sets.sum(-1).tolist()))}. Ask the estimator for order={order}."
            )
        error = None if self.error is None else self.error[..., keep]
        return replace(
            self, scores=self.scores[..., keep], sets=self.sets[keep], error=error, none=None,
            full=None,
        )  # fmt: skip

    def matrix(self) -> Tensor:
        """Scores of pairs, (*out, player, player), symmetric: each pair stands in both its places;
        single players stand on the diagonal (0 where they have no score).
        """
        n = self.players.n
        out = self.scores.new_zeros(*self.scores.shape[:-1], n, n)
        for i, j, k in self._cells():
            out[..., i, j] = out[..., j, i] = self.scores[..., k]
        return out

    def _cells(self) -> list[tuple[int, int, int]]:
        """Sets of one and two players as cells of a matrix: row, column, and the set's number."""
        small = (self.sets.sum(-1) <= 2) & (self.sets.sum(-1) > 0)
        rows = ((k, self.sets[k].nonzero().flatten().tolist()) for k in small.nonzero().flatten())
        return [(members[0], members[-1], int(k)) for k, members in rows]

    def pick(self, *index: int) -> Interactions:
        """One output of several: interactions.pick(2) is target or instance 2."""
        fields: Any = scored.one_of(self, index, "interactions")
        return replace(self, **fields)

    @property
    def reach(self) -> float:
        """Half a 95 % interval, in standard errors: 1.96, more where few samples tell them."""
        return reach(self.freedom)

    @property
    def noise(self) -> bool:
        """Whether the scores are mostly sampling noise: the median one is smaller than its
        standard error.
        """
        return scored.noise(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row per set."""
        scores = self._single("to_frame")
        rows = [self._at(k) for k in range(len(scores))]
        columns = {
            "set": [row.name for row in rows],
            "order": self.sets.sum(-1).tolist(),
            "score": [row.score for row in rows],
            "error": [row.error for row in rows],
        }
        return scored.frame(columns)

    def plot(self, *, top: int = 12, ax: Any = None) -> Any:
        """A matplotlib figure: a map of the pairs where there are any, and bars of the `top`
        largest sets; into `ax` only the first of them.
        """
        return drawing("plot sets")(self, top=top, ax=ax)

    def _repr_html_(self) -> str:
        return str(drawing("html of sets")(self))

    def cite(self) -> str:
        """References of the methods used, one per line."""
        return str(drawing("cite")(self.provenance.cites))

    def save(self, path: str | Path) -> Path:
        """Writes a folder: interactions.json and interactions.safetensors. `ap.load(path)` reads
        it; nothing is pickled.
        """
        return write(path, "interactions", *pack_sets(self))

    def __str__(self) -> str:
        top = [] if self.scores.ndim > 1 else self.top(5)
        what = f"{self.provenance.estimator or 'scores'} of {len(self.sets):,} sets of "
        rows = [(credit.name, credit.score, credit.error) for credit in top]
        return scored.text(self, f"{what}{self.players}", "interactions", rows)

    def _at(self, k: int) -> SetCredit:
        names = tuple(self.players.names[i] for i in self.sets[k].nonzero().flatten().tolist())
        error = None if self.error is None else float(self.error[k])
        return SetCredit(names, float(self.scores[k]), error)

    def _player(self, given: int | str) -> int:
        if isinstance(given, str) and given in self.players.names:
            return self.players.names.index(given)
        n = self.players.n
        if not isinstance(given, str) and isinstance(given, SupportsIndex) and -n <= given < n:
            return int(given) % n
        raise BadRequest(
            f"there is no player {given!r}; there are {n}, 0 to {n - 1} or by name, see "
            "interactions.players.names"
        )

    def _single(self, what: str) -> Tensor:
        return scored.single(self, what, "interactions")


def pack_sets(x: Interactions, prefix: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Interactions as plain facts and named tensors."""
    given = {
        "scores": x.scores, "sets": x.sets, "none": x.none, "full": x.full, "error": x.error,
    }  # fmt: skip
    tensors = {f"{prefix}{k}": v for k, v in given.items() if v is not None}
    players, owned = pack_players(x.players, prefix)
    facts = {
        "cost": asdict(x.cost),
        "freedom": x.freedom,
        "provenance": pack_provenance(x.provenance),
        "players": players,
    }
    return facts, {k: v.contiguous() for k, v in {**tensors, **owned}.items()}


def unpack_sets(
    facts: dict[str, Any], tensors: Mapping[str, Tensor], prefix: str = ""
) -> Interactions:
    """The inverse of `pack_sets`."""
    read = {k: tensors.get(f"{prefix}{k}") for k in ("none", "full", "error")}
    return Interactions(
        tensors[f"{prefix}scores"],
        tensors[f"{prefix}sets"],
        unpack_players(facts["players"], tensors, prefix),
        **read,
        freedom=facts["freedom"],
        cost=Cost(**facts["cost"]),
        provenance=unpack_provenance(facts["provenance"]),
    )
