"""What a game is, what may be asked of it, and the plainest game: a function of the gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..players import Players, plain
from ..types import BadRequest, NotSoft, Work

Domain = Literal["binary", "unit", "weight"]
Need = Literal["hard", "soft", "gradient"]


@dataclass(frozen=True)
class Description:
    """The game in words: goes into provenance and reports."""

    players: str
    value: str
    unit: str
    removal: str
    model: str
    rules: str | None = None  # name of the backward rule table, None = true gradients
    notes: tuple[str, ...] = ()  # what the game noticed about the question
    linear: bool = False  # whether the value is linear in the logits
    # works that value, removal and rule table come from
    cites: tuple[str, ...] = ()


@runtime_checkable
class Game(Protocol):
    """Who plays (`players`), and what any coalition of them is worth (`value`)."""

    @property
    def players(self) -> Players: ...

    @property
    def domain(self) -> Domain:
        """binary: bool gates only; unit: 0 <= gate <= 1; weight: gate >= 0."""

    @property
    def draws(self) -> int | None:
        """Latent states of a stochastic game: 1 = deterministic, None = unlimited supply."""

    @property
    def price(self) -> Work:
        """Work of one value at one (gate row, draw)."""

    @property
    def grad_price(self) -> Work | None:
        """Work of one value with its gradient; None = no gradient."""

    @property
    def exact(self) -> bool:
        """False when the derivative is bent by rules or approximated."""

    @property
    def batch_key(self) -> object | None:
        """What the fastest batch size depends on; None = any number of rows at once is fine."""

    @property
    def setup(self) -> Work:
        """Work already spent before the first question."""

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        """V of each gate row, (row, *out), on the CPU in float32 or wider."""

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """V and its derivative by every gate, (row, *out) and (row, *out, player)."""

    def describe(self) -> Description: ...


@runtime_checkable
class Trains(Protocol):
    """A game whose evaluations are trainings."""

    @property
    def seconds_each(self) -> float | None:
        """What one of them took; None = not known."""


def admit(game: Game, gates: Tensor, draw: Tensor | None) -> Tensor:
    """Gates checked against the game, and the draw of each row (zeros where there is only one)."""
    n = game.players.n
    if not isinstance(gates, Tensor) or gates.ndim != 2 or gates.shape[1] != n:
        got = tuple(gates.shape) if isinstance(gates, Tensor) else type(gates).__name__
        raise BadRequest(
            f"gates must be a tensor (row, player) with {n} columns, one per player "
            f"({game.players}); got {got}. Build gates for game.players.n players, or coarsen the "
            "players with players.merge(...)."
        )
    if gates.dtype != torch.bool and not gates.is_floating_point():
        raise BadRequest(
            f"gates are {gates.dtype}; use bool for present/absent (gates.bool()) or a float type "
            "for soft gates"
        )
    if gates.is_floating_point():
        _admit_soft(game, gates)
    if draw is None:
        if game.draws != 1:
            raise BadRequest(
                f"the game has {'unlimited' if game.draws is None else game.draws} draws and none "
                "was given; pass draw= (one integer per row), or average over them: "
                "ap.averaged(game)"
            )
        return torch.zeros(len(gates), dtype=torch.long)
    return _admit_draw(game, gates, draw)


def _admit_soft(game: Game, gates: Tensor) -> None:
    if game.domain == "binary":
        raise NotSoft(
            "soft gates were asked of a game that only knows present and absent (removal: "
            f"{game.describe().removal}). Pass bool gates, use an estimator that needs only hard "
            "coalitions (LeaveOneOut, PermutationShapley, KernelShap, LinearSurrogate), or choose "
            "a removal that blends, such as Blend(zeros())."
        )
    top = float("inf") if game.domain == "weight" else 1.0
    low, high = gates.aminmax() if gates.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= top):  # NaN is not inside either
        inside = (gates >= 0) & (gates <= top)
        worst = gates[~inside].flatten()[0].item()
        raise BadRequest(
            f"gates must lie between 0 and {top:g}; got {worst:g}. Finite differences step inwards."
        )


def _admit_draw(game: Game, gates: Tensor, draw: Tensor) -> Tensor:
    if (
        draw.ndim != 1
        or len(draw) != len(gates)
        or draw.is_floating_point()
        or draw.dtype == torch.bool
    ):
        raise BadRequest(
            f"draw must hold one integer per gate row ({len(gates)}); got {draw.dtype} "
            f"{tuple(draw.shape)}"
        )
    if len(draw) and (
        int(draw.min()) < 0 or (game.draws is not None and int(draw.max()) >= game.draws)
    ):
        raise BadRequest(
            f"draws count from 0 to {'any number' if game.draws is None else game.draws - 1}; got "
            f"{draw.min()} to {draw.max()}"
        )
    return draw.long()


def require(game: Game, need: Need, *, for_: str) -> None:
    """Checks once, with one message, that a game offers what an estimator needs."""
    if need != "hard" and game.domain == "binary":
        raise NotSoft(
            f"{for_} needs {'soft gates' if need == 'soft' else 'gradients'}, but this game only "
            f"knows present and absent (removal: {game.describe().removal}). Use LeaveOneOut, "
            "PermutationShapley, KernelShap or LinearSurrogate, or a removal that blends, such as "
            "Blend(zeros())."
        )
    if need == "gradient" and game.grad_price is None:
        raise NotSoft(
            f"{for_} needs gradients, but this game offers none. Use an estimator that asks only "
            "for values (LeaveOneOut, PermutationShapley, KernelShap), or give FunctionGame(..., "
            "differentiable=True) if f is made of torch operations."
        )


def no_gradient(game: Game) -> NotSoft:
    """The error of `grad` on a game without one."""
    return NotSoft(
        f"{type(game).__name__} offers no gradient; ask for values, or use an estimator that needs "
        "only coalitions"
    )


@dataclass(frozen=True, eq=False)
class FunctionGame:
    """Any function of the gates: f((row, player)) -> (row, *out).

    `domain="unit"` promises that f takes fractional gates, `differentiable` that it is made of
    torch operations.
    """

    f: Callable[[Tensor], Tensor]
    n: int | Sequence[str]  # how many players, or their names
    domain: Domain = "binary"
    differentiable: bool = False
    unit: str = "value"
    name: str = "f"
    players: Players = field(init=False)

    draws: int | None = field(default=1, init=False)
    price: Work = field(default=Work(), init=False)
    exact: bool = field(default=True, init=False)
    batch_key: object | None = field(default=None, init=False)
    setup: Work = field(default=Work(0), init=False)

    def __post_init__(self) -> None:
        if self.differentiable and self.domain == "binary":
            raise BadRequest(
                "FunctionGame(differentiable=True) needs domain='unit': a gradient is taken at "
                "fractional gates"
            )
        object.__setattr__(self, "players", plain(self.n))

    @property
    def grad_price(self) -> Work | None:
        return Work(1, 1) if self.differentiable else None

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        admit(self, gates, draw)
        with torch.no_grad():
            return checked(self.f(gates.clone()), gates, self.name)  # f may write into it

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.differentiable:
            raise no_gradient(self)
        admit(self, gates, draw)
        with torch.enable_grad():
            leaf = (
                gates.double().detach().requires_grad_()
                if gates.dtype == torch.bool
                else gates.detach().requires_grad_()
            )
            values = checked(self.f(leaf), gates, self.name)
            slopes, dead = derivatives(values, leaf, self.name, {"the gates": leaf})
        if dead:
            raise unreached(self.name, dead)
        return values.detach(), slopes

    def describe(self) -> Description:
        return Description(
            str(self.players), self.name, self.unit, "whatever the function means by it", self.name
        )


def derivatives(
    values: Tensor, leaf: Tensor, name: str, ways: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, list[str]]:
    """D values / d leaf, (row, *out, player): one backward pass per output, rows are independent
    of each other.

    `ways`: by name, the tensors through which the leaf acts; those that do not lead to the values
    are returned as well.
    """
    if torch.is_inference_mode_enabled():
        raise BadRequest(
            f"the gradient of {name} was asked inside torch.inference_mode(), where torch records "
            "none; ask outside of it, or use torch.no_grad() there instead"
        )
    ways = {} if ways is None else ways
    flat = values[:, None].flatten(1)  # also where there are no rows
    slopes, dead = [], set(ways)
    for k in range(flat.shape[1]):
        slope, *through = (
            torch.autograd.grad(
                flat[:, k].sum(),
                [leaf, *ways.values()],
                retain_graph=k + 1 < flat.shape[1],
                allow_unused=True,
            )
            if values.requires_grad
            else [None] * (1 + len(ways))
        )
        dead -= {way for way, x in zip(ways, through, strict=True) if x is not None}
        slopes.append(torch.zeros_like(leaf) if slope is None else slope)
    stacked = torch.stack(slopes, 1) if slopes else leaf.new_zeros(len(values), 0, leaf.shape[-1])
    if not finite(stacked):
        raise BadRequest(
            f"the gradient of {name} holds NaN or infinite numbers, often a square root or a "
            "division at 0. Choose other gates (in PathIntegral nodes=Quadrature.MIDPOINT avoids "
            "the ends), or an estimator without gradients."
        )
    return stacked.reshape(*values.shape, leaf.shape[-1]), sorted(dead)


def finite(x: Tensor) -> bool:
    """Whether all numbers are finite: one cheap pass, as a sum is finite only if they are."""
    return math.isfinite(float(x.detach().sum())) or bool(torch.isfinite(x).all())


def unreached(name: str, dead: Sequence[str]) -> BadRequest:
    """The error for a gradient that would be 0 for want of a connection."""
    return BadRequest(
        f"the gradient of {name} does not reach {', '.join(dead[:3])}: nothing a player owns there "
        "leads to the value. Check that the site comes before the value in the model, and that no "
        "operation on the way is detached or integer; or use an estimator that asks only for "
        "values (LeaveOneOut, PermutationShapley)."
    )


def checked(values: Tensor, gates: Tensor, name: str) -> Tensor:
    """Values with one entry per row and no NaN, or a BadRequest that says which row broke."""
    if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != len(gates):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BadRequest(f"{name} must return one value per gate row ({len(gates)}); got {got}")
    if not finite(values):
        bad = ~torch.isfinite(values[:, None].flatten(1)).all(-1)
        row = int(bad.nonzero()[0])
        present = int(gates[row].count_nonzero())
        raise BadRequest(
            f"{name} is NaN or infinite for {int(bad.sum())} of {len(gates)} coalitions, the first "
            f"with {present} of {gates.shape[1]} players present. Choose a removal that keeps the "
            "input in the model's range, or another value."
        )
    return values.to(torch.promote_types(values.dtype, torch.float32))
