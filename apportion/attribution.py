"""The answer of one attribution: who gets how much, how sure that is, and how it came about."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

from torch import Tensor

from . import scored
from .files import pack_players, unpack_players, write
from .games.base import Description, Game
from .players import Players
from .types import BadRequest, Cost
from .wording import reach


class Credit(NamedTuple):
    """One player's share."""

    name: str
    score: float
    error: float | None  # standard error; None = see Attribution.provenance.error_note
    kind: str


@dataclass(frozen=True)
class Provenance:
    """How an answer came about, enough to ask again."""

    game: Description | None = None
    estimator: str = ""
    seed: int | None = None
    cites: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()  # axioms the estimator promises
    exact: bool = True  # False: gradients were bent by rules or approximated
    draws: int | None = 1
    chunk: Mapping[str, int] = field(default_factory=dict)  # batch sizes used
    seconds: float = 0.0
    setup_forwards: float = 0.0
    error_note: str = ""  # why there is no error, or what it is an error of
    # what a reader must know: a ceiling that was hit, an operation without a rule
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None  # of the scores, where it is not the value's: "" for a share

    @property
    def measure(self) -> str:
        """The unit of the scores."""
        if self.unit is not None:
            return self.unit
        return self.game.unit if self.game is not None else ""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores of players on one value: positive = the player's presence raises it. Units are the
    value's, or `provenance.measure`.
    """

    scores: Tensor  # (*out, player)
    players: Players
    none: Tensor | None = None  # v(no player), (*out); None = never asked
    full: Tensor | None = None  # v(all players)
    error: Tensor | None = None  # standard error of the estimator, (*out, player)
    cost: Cost = Cost()
    provenance: Provenance = Provenance()
    freedom: int | None = None  # degrees of freedom the errors rest on; None = many, or no errors

    @classmethod
    def of(
        cls,
        game: Game,
        scores: Tensor,
        *,
        error: Tensor | None = None,
        freedom: int | None = None,
        none: Tensor | None = None,
        full: Tensor | None = None,
        error_note: str = "",
        notes: tuple[str, ...] = (),
        unit: str | None = None,
    ) -> Attribution:
        """What an estimator returns; `attribute` adds cost and provenance."""
        return cls(
            scores,
            game.players,
            none,
            full,
            error,
            Cost(),
            Provenance(error_note=error_note, notes=notes, unit=unit),
            freedom if error is not None else None,
        )

    def stamped(self, cost: Cost, provenance: Provenance) -> Attribution:
        """The same scores with what they cost and where they came from."""
        return replace(self, cost=cost, provenance=provenance)

    @property
    def gap(self) -> Tensor | None:
        """Full - none - sum of scores, (*out): how far a claim to add up is missed. None where
        nothing claims to.
        """
        return scored.gap(self)

    def sum(self) -> Tensor:
        """Sum of the scores over players, (*out)."""
        return self.scores.double().sum(-1)

    def top(self, k: int = 5, *, signed: bool = False) -> list[Credit]:
        """The k players with the largest credit: by size, or with `signed` by value from the most
        positive down.
        """
        scored.admit_top(k, "credit")
        scores = self._single("top")
        order = (scores if signed else scores.abs()).argsort(descending=True)[:k]
        return [self[int(i)] for i in order]

    def __getitem__(self, player: int | str) -> Credit:
        scores = self._single("[...]")
        if isinstance(player, str):
            if player not in self.players.names:
                raise BadRequest(
                    f"no player is called {player!r}; names are in credit.players.names"
                )
            player = self.players.names.index(player)
        if not isinstance(player, SupportsIndex) or not -self.players.n <= int(player) < len(
            self.players.names
        ):
            raise BadRequest(
                f"credit[{player!r}]: there is no such player; there are {self.players.n}, 0 to "
                f"{self.players.n - 1} or by name, see credit.players.names and credit.top()"
            )
        player = operator.index(player)
        error = None if self.error is None else float(self.error[player])
        return Credit(
            self.players.names[player], float(scores[player]), error, self.players.kinds[player]
        )

    def by(self, kind: str) -> Attribution:
        """The credit of one kind of player. Kinds in series conserve each on their own: compare
        `sum()` with `full`.
        """
        players = self.players.only(kind)
        keep = [i for i, k in enumerate(self.players.kinds) if k == kind]
        error = None if self.error is None else self.error[..., keep]
        return replace(self, scores=self.scores[..., keep], error=error, players=players)

    def pick(self, *index: int) -> Attribution:
        """One output of several: credit.pick(2) is target or instance 2."""
        fields: Any = scored.one_of(self, index, "credit")
        return replace(self, **fields)

    @property
    def reach(self) -> float:
        """Half a 95 % interval, in standard errors: 1.96, more where few samples tell them."""
        return reach(self.freedom)

    @property
    def noise(self) -> bool:
        """Whether the credit is mostly sampling noise: the median score is smaller than its
        standard error.
        """
        return scored.noise(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row per player."""
        scores = self._single("to_frame")
        error = [None] * self.players.n if self.error is None else self.error.tolist()
        columns = {
            "player": self.players.names,
            "kind": self.players.kinds,
            "score": scores.tolist(),
            "error": error,
        }
        return scored.frame(columns)

    def plot(self, *, top: int = 12, ax: Any = None) -> Any:
        """A matplotlib figure that suits the players: picture or text, and bars of the `top`
        largest; into `ax` only the first of them.
        """
        return drawing("plot")(self, top=top, ax=ax)

    def _repr_html_(self) -> str:
        return str(drawing("html")(self))

    def cite(self) -> str:
        """References of the methods used, one per line."""
        return str(drawing("cite")(self.provenance.cites))

    def save(self, path: str | Path) -> Path:
        """Writes a folder: attribution.json and attribution.safetensors. `ap.load(path)` reads it;
        nothing is pickled.
        """
        return write(path, "attribution", *pack(self))

    def __str__(self) -> str:
        top = [] if self.scores.ndim > 1 else self.top(5)
        what = f"{self.provenance.estimator or 'credit'} of {self.players}"
        rows = [(credit.name, credit.score, credit.error) for credit in top]
        return scored.text(self, what, "credit", rows)

    def _single(self, what: str) -> Tensor:
        return scored.single(self, what, "credit")


# filled by apportion.report when the package is imported
DRAWING: dict[str, Callable[..., Any]] = {}


def drawing(name: str) -> Callable[..., Any]:
    """A drawing function, registered from the right so that results need not import it."""
    if name not in DRAWING:
        raise BadRequest(
            f"drawing ({name}) is not registered; import apportion rather than one of its modules"
        )
    return DRAWING[name]


def pack(credit: Attribution, prefix: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An attribution as plain facts and named tensors."""
    tensors = {
        f"{prefix}{k}": v
        for k, v in (
            ("scores", credit.scores),
            ("none", credit.none),
            ("full", credit.full),
            ("error", credit.error),
        )
        if v is not None
    }
    players, owned = pack_players(credit.players, prefix)
    facts = {
        "cost": asdict(credit.cost),
        "freedom": credit.freedom,
        "provenance": pack_provenance(credit.provenance),
        "players": players,
    }
    return facts, {k: v.contiguous() for k, v in {**tensors, **owned}.items()}


def unpack(facts: dict[str, Any], tensors: Mapping[str, Tensor], prefix: str = "") -> Attribution:
    """The inverse of `pack`."""
    players = unpack_players(facts["players"], tensors, prefix)
    read = {k: tensors.get(f"{prefix}{k}") for k in ("none", "full", "error")}
    return Attribution(
        tensors[f"{prefix}scores"],
        players,
        **read,
        freedom=facts["freedom"],
        cost=Cost(**facts["cost"]),
        provenance=unpack_provenance(facts["provenance"]),
    )


def pack_provenance(about: Provenance) -> dict[str, Any]:
    """Where an answer came from, as plain facts."""
    return _plain(about)


def unpack_provenance(facts: Mapping[str, Any]) -> Provenance:
    """The inverse of `pack_provenance`."""
    game = None if facts["game"] is None else Description(**_tuples(facts["game"]))
    return Provenance(**{**_tuples(facts), "game": game})


def _plain(record: Any) -> dict[str, Any]:
    return {
        name: _plain(v) if isinstance(v, Description) else v for name, v in vars(record).items()
    }


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
