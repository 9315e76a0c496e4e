"""Who can be credited: a partition of the elements of one or more tensors in a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..taps import Site
from ..types import BadRequest
from ..views import View
from ..wording import plural

PRESENT = -1  # owner of elements that no player can remove


@dataclass(frozen=True, eq=False)
class Geometry:
    """What is needed to draw the players of one kind, and the grid that some designs read."""

    view: Literal["image", "text", "table", "signal", "parts"]
    site: Site | None = None  # where the picture, the text or the row can be seen as owners
    grid: tuple[int, ...] | None = None  # the players fill this grid in row-major order
    # uint8 (height, width, 3): the input as a person sees it, not normalised
    picture: Tensor | None = None
    # text: every token in order, owned or not; table: each column's value; signal: its axis' unit
    shown: tuple[str, ...] = ()
    # signal: (2, place), where each place lies on that axis and how high the curve is there
    trace: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Players:
    """Named players, and for each site who owns each element of the tensor there."""

    names: tuple[str, ...]
    # "patch", "token", "head" ...: key for removals, reports and `credit.by`
    kinds: tuple[str, ...]
    # integers shaped like the tensor without its batch axis, or broadcastable to it
    owner: Mapping[Site, Tensor]
    geometry: Mapping[str, Geometry] = field(default_factory=dict)  # one per kind
    # sites whose owners are shaped like the coefficients of a view of the tensor there
    views: Mapping[Site, View] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise BadRequest(
                "there are no players; a game needs at least one (an empty input, or size= too "
                "large?)"
            )
        if len(set(self.names)) < self.n:
            twice = next(name for name, count in Counter(self.names).items() if count > 1)
            raise BadRequest(f"two players are called {twice!r}; give every player its own name")
        if len(self.kinds) != self.n:
            raise BadRequest(
                f"{self.n} names but {len(self.kinds)} kinds; give one kind per player"
            )
        owned = torch.zeros(self.n + 1, dtype=torch.bool)
        for site, owner in self.owner.items():
            _check_owner(site, owner)
            low, high = int(owner.min()), int(owner.max())
            if low < PRESENT or high >= self.n:
                raise BadRequest(
                    f"{site}: owners run from {low} to {high}, but players from 0 to {self.n - 1} "
                    "(-1 = always present)"
                )
            owned[owner.flatten()] = True
        _check_views(self.views, self.owner)
        idle = (~owned[: self.n]).nonzero().flatten().tolist()
        if idle:
            raise BadRequest(
                f"{len(idle)} players own nothing, the first is {self.names[idle[0]]!r}; every "
                "player needs an element"
            )

    @property
    def n(self) -> int:
        """How many players there are."""
        return len(self.names)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many players there are of each kind, in the order the kinds first come up."""
        return dict(Counter(self.kinds))

    def lift(
        self, gates: Bool[Tensor, "row player"] | Float[Tensor, "row player"]
    ) -> dict[Site, Tensor]:
        """Each row's gate at every element of every site, (row, *support); elements of no player
        get 1.
        """
        return {site: spread(gates, owner) for site, owner in self.owner.items()}

    def merge(self, groups: Sequence[Sequence[int]], names: Sequence[str] | None = None) -> Players:
        """Coarser players: each group of the old ones acts as one. The groups must hold every
        player exactly once.
        """
        count = Counter(i for group in groups for i in group)
        wrong = [i for i in count if not 0 <= i < self.n]
        twice = [i for i, times in count.items() if times > 1]
        missing = [i for i in range(self.n) if i not in count]
        if wrong or twice or missing or not all(groups):
            raise BadRequest(
                f"groups must hold each of the {self.n} players exactly once and none may be "
                f"empty: {len(twice)} are in two groups {twice[:3]}, {len(missing)} in none "
                f"{missing[:3]}, {len(wrong)} do not exist {wrong[:3]}. Players may not overlap: "
                "designs do."
            )
        if names is not None and len(names) != len(groups):
            raise BadRequest(f"{len(groups)} groups but {len(names)} names")
        index = torch.empty(self.n, dtype=torch.long)
        for k, group in enumerate(groups):
            index[list(group)] = k
        owner = {
            site: torch.where(own < 0, PRESENT, index[own.clamp(min=0)])
            for site, own in self.owner.items()
        }
        kinds = [{self.kinds[i] for i in group} for group in groups]
        mixed = [kind.pop() if len(kind) == 1 else "group" for kind in kinds]
        geometry = {
            kind: replace(shape, grid=None)
            for kind, shape in self.geometry.items()
            if kind in mixed
        }
        called = names or [_joined([self.names[i] for i in group]) for group in groups]
        return Players(tuple(called), tuple(mixed), owner, geometry, self.views)

    def grouped(self, labels: Sequence[str]) -> Players:
        """Coarser players: those with the same label act as one, named after it. Level by level
        this walks up a hierarchy: pixels, organs, regions of the body.
        """
        if len(labels) != self.n:
            raise BadRequest(f"{len(labels)} labels for {self.n} players; give one per player")
        groups: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            groups.setdefault(label, []).append(i)
        return self.merge(list(groups.values()), list(groups))

    def only(self, kind: str) -> Players:
        """The players of one kind; the others become part of what is always present."""
        keep = [i for i, k in enumerate(self.kinds) if k == kind]
        if not keep:
            raise BadRequest(
                f"no players of kind {kind!r}; there are "
                f"{', '.join(map(repr, dict.fromkeys(self.kinds)))}"
            )
        index = torch.full((self.n,), PRESENT)
        index[keep] = torch.arange(len(keep))
        owner = {
            s: torch.where(own < 0, PRESENT, index[own.clamp(min=0)])
            for s, own in self.owner.items()
        }
        owner = {s: own for s, own in owner.items() if bool((own >= 0).any())}
        geometry = {kind: self.geometry[kind]} if kind in self.geometry else {}
        names, views = tuple(self.names[i] for i in keep), _at(self.views, owner)
        return Players(names, (kind,) * len(keep), owner, geometry, views)

    def renamed(self, kind: str) -> Players:
        """The same players under another kind: the key of their removal and of `credit.by`."""
        kinds = list(dict.fromkeys(self.kinds))
        if len(kinds) > 1:
            raise BadRequest(
                f"renamed({kind!r}): these players are of kinds {kinds}; rename one kind at a "
                f"time, players.only({kinds[0]!r}).renamed({kind!r}), before joining them with |"
            )
        geometry = {kind: self.geometry[kinds[0]]} if kinds[0] in self.geometry else {}
        return Players(self.names, (kind,) * self.n, self.owner, geometry, self.views)

    def __or__(self, other: Players) -> Players:
        """Both sets in one game. They may not share a site."""
        both = self.owner.keys() & other.owner.keys()
        if both:
            raise BadRequest(
                f"both sets of players own the {sorted(map(str, both))[0]}; merge them into one "
                "partition (players.merge) or gate different sites"
            )
        clash = [
            k
            for k in self.geometry.keys() & other.geometry.keys()
            if self.geometry[k].view != "parts"
        ]
        if clash:
            raise BadRequest(
                f"both sets have players of kind {clash[0]!r}, drawn at different places; "
                f"give one of them another kind: b.renamed('other {clash[0]}')"
            )
        shifted = {s: torch.where(own < 0, PRESENT, own + self.n) for s, own in other.owner.items()}
        names = unique([*self.names, *other.names])
        return Players(
            names,
            self.kinds + other.kinds,
            {**self.owner, **shifted},
            {**other.geometry, **self.geometry},
            {**self.views, **other.views},
        )

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The grid the players fill, if they are of one kind and fill one."""
        return (
            self.geometry[self.kinds[0]].grid
            if len(self.counts) == 1 and self.kinds[0] in self.geometry
            else None
        )

    def home(self) -> list[Site]:
        """For each player the first site where it owns something: the layer it lives in."""
        found: dict[int, Site] = {}
        for site, owner in self.owner.items():
            for player in owner.unique().tolist():
                found.setdefault(player, site)
        return [found[i] for i in range(self.n)]

    def __str__(self) -> str:
        counts = self.counts.items()
        return " and ".join(f"{count} {plural(kind, count)}" for kind, count in counts)

    def __repr__(self) -> str:
        return f"Players({self}; at {', '.join(map(self.place, self.owner))})"

    def place(self, site: Site) -> str:
        """Where owners at a site stand, in words: the spectrum of the input of the model."""
        return f"the {self.views[site].name} of the {site}" if site in self.views else f"the {site}"


def _check_owner(site: Site, owner: object) -> None:
    """Owners are the numbers of players, one per element of the tensor at the site."""
    if not isinstance(owner, Tensor):
        raise BadRequest(
            f"{site}: its owners are a {type(owner).__name__}; give a tensor of player numbers, "
            "one per element there: torch.tensor([0, 0, 1, -1])"
        )
    if owner.is_floating_point() or owner.is_complex() or owner.dtype == torch.bool:
        raise BadRequest(
            f"{site}: its owners are {owner.dtype}; they are player numbers: owner.long()"
        )
    if owner.numel() == 0:
        raise BadRequest(
            f"{site}: its owners are an empty tensor {tuple(owner.shape)}; leave the site out, or "
            "give one player number per element there"
        )


def _check_views(views: Mapping[Site, View], owner: Mapping[Site, Tensor]) -> None:
    for site, view in views.items():
        if site not in owner:
            raise BadRequest(
                f"there is a view of the {site}, where no player owns anything; its owners are "
                f"numbers shaped like its coefficients, owner={{Site{vars(site)}: ...}}"
            )
        if isinstance(view, type) or not isinstance(view, View):
            raise BadRequest(
                f"views={{the {site}: {view!r}}} is no view; give one of apportion.views, such as "
                "Fourier(), or an object with name, analysis and synthesis"
            )


def _at(views: Mapping[Site, View], owner: Mapping[Site, Tensor]) -> dict[Site, View]:
    return {site: view for site, view in views.items() if site in owner}


def spread(gates: Tensor, owner: Tensor) -> Tensor:
    """Gates of one site's elements: one index operation, elements of no player read an extra
    column of ones.
    """
    if owner.numel() == gates.shape[1] and torch.equal(
        owner.flatten(), torch.arange(gates.shape[1], device=owner.device)
    ):
        return gates.reshape(len(gates), *owner.shape)  # every element is a player of its own
    padded = torch.cat([gates, torch.ones_like(gates[:, :1])], dim=1)
    index = torch.where(owner < 0, gates.shape[1], owner).to(gates.device)
    return padded.index_select(1, index.flatten()).reshape(len(gates), *index.shape)


def same(a: Players, b: Players) -> bool:
    """Whether two sets of players are equal: names, kinds and owners (tensors make `==` useless
    here).
    """
    if (a.names, a.kinds) != (b.names, b.kinds) or a.owner.keys() != b.owner.keys():
        return False
    if dict(a.views) != dict(b.views):
        return False
    return all(torch.equal(a.owner[site], b.owner[site]) for site in a.owner)


def plain(names: Sequence[str] | int, kind: str = "player") -> Players:
    """Players of a game that is a plain function: names, and gates that mean whatever the function
    says.
    """
    called = [f"{kind} {i}" for i in range(names)] if isinstance(names, int) else list(names)
    return Players(
        tuple(called), (kind,) * len(called), {Site("", "in"): torch.arange(len(called))}
    )


def _joined(names: list[str]) -> str:
    return " + ".join(names) if len(names) <= 3 else f"{names[0]} + {len(names) - 1} more"


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, repeats told apart as 'John', 'John #2'."""
    seen: Counter[str] = Counter()
    taken = set(names)
    out = []
    for name in names:
        seen[name] += 1
        called = name
        while seen[name] > 1 and called in taken:
            called = f"{name} #{seen[name]}"
            seen[name] += called in taken
        taken.add(called)
        out.append(called)
    return tuple(out)
