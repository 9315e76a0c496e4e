"""Games with known answers: sums of products of gates, whose Shapley and Banzhaf values are closed
forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..players import Players, plain
from ..types import BadRequest, Work
from .base import Description, Domain, admit, no_gradient


@dataclass(frozen=True, eq=False)
class MoebiusGame:
    """v(g) = sum over sets T of c_T * product of the gates in T: the multilinear extension of any
    game.

        Shapley_i = sum_{T with i} c_T / |T|      Banzhaf_i = sum_{T with i} c_T / 2^(|T|-1)

    Several draws are several coefficient tables; the answers are those of their mean.
    """

    sets: Bool[Tensor, "term player"]
    coefficients: Float[Tensor, "draw term *out"]
    domain: Domain = "unit"
    players: Players = field(init=False)

    price: Work = field(default=Work(), init=False)
    grad_price: Work | None = field(default=Work(1, 1), init=False)
    exact: bool = field(default=True, init=False)
    batch_key: object | None = field(default=None, init=False)
    setup: Work = field(default=Work(0), init=False)

    def __post_init__(self) -> None:
        if self.coefficients.shape[1] != len(self.sets):
            raise BadRequest(f"{len(self.sets)} sets but {self.coefficients.shape[1]} coefficients")
        object.__setattr__(self, "players", plain(self.sets.shape[1]))
        if self.domain == "binary":
            object.__setattr__(self, "grad_price", None)

    @property
    def draws(self) -> int | None:
        return len(self.coefficients)

    @property
    def mean(self) -> Float[Tensor, "term *out"]:
        """Coefficients averaged over the draws."""
        return self.coefficients.mean(0)

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        state = admit(self, gates, draw)
        return torch.einsum("rt,rt...->r...", self._products(gates), self.coefficients[state])

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.grad_price is None:
            raise no_gradient(self)
        state = admit(self, gates, draw)
        soft = gates.to(self.coefficients.dtype)
        slopes = []
        for i in range(self.players.n):  # a product of gates is linear in each of them
            one = soft.clone()
            one[:, i] = 1
            slopes.append(self._products(one) * self.sets[:, i])
        slope = torch.stack(slopes, -1)
        return self.value(gates, draw), torch.einsum(
            "rtp,rt...->r...p", slope, self.coefficients[state]
        )

    def _products(self, gates: Tensor) -> Float[Tensor, "row term"]:
        soft = gates.to(self.coefficients.dtype)
        return torch.where(self.sets, soft[:, None, :], torch.ones((), dtype=soft.dtype)).prod(-1)

    def describe(self) -> Description:
        return Description(str(self.players), "sum of products", "value", "gate 0", "Moebius game")

    def shapley(self) -> Float[Tensor, "*out player"]:
        """The exact Shapley values."""
        return self._spread(self.sets.sum(-1).clamp(min=1).to(self.coefficients.dtype).reciprocal())

    def banzhaf(self) -> Float[Tensor, "*out player"]:
        """The exact Banzhaf values."""
        return self._spread(0.5 ** (self.sets.sum(-1).to(self.coefficients.dtype) - 1))

    def leave_one_out(self) -> Float[Tensor, "*out player"]:
        """v(all) - v(all without i): every term that holds i."""
        return self._spread(torch.ones(len(self.sets), dtype=self.coefficients.dtype))

    def _spread(self, share: Float[Tensor, "term"]) -> Float[Tensor, "*out player"]:
        return torch.einsum("t...,tp,t->...p", self.mean, self.sets.to(share), share)


def moebius(
    players: int,
    order: int,
    rng: Generator,
    *,
    out: tuple[int, ...] = (),
    draws: int = 1,
    domain: Domain = "unit",
) -> MoebiusGame:
    """Gaussian coefficients on every set of at most `order` players, smaller for larger sets;
    float64.
    """
    sets = [combo for size in range(order + 1) for combo in combinations(range(players), size)]
    member = torch.zeros(len(sets), players, dtype=torch.bool)
    for row, combo in enumerate(sets):
        member[row, list(combo)] = True
    scale = 1.0 / member.sum(-1).clamp(min=1).double()
    common = torch.randn((len(sets), *out), generator=rng, dtype=torch.float64)
    own = (
        torch.randn((draws, len(sets), *out), generator=rng, dtype=torch.float64)
        if draws > 1
        else 0 * common[None]
    )
    scale = scale.reshape(1, -1, *(1,) * len(out))
    return MoebiusGame(member, (common[None] + 0.5 * own) * scale, domain)


def additive(weights: Tensor, base: float = 0.0, *, domain: Domain = "unit") -> MoebiusGame:
    """v(g) = base + sum_i w_i g_i, with weights (*out, player)."""
    n = weights.shape[-1]
    sets = torch.cat([torch.zeros(1, n, dtype=torch.bool), torch.eye(n, dtype=torch.bool)])
    own = weights.double().movedim(-1, 0)
    return MoebiusGame(sets, torch.cat([torch.full_like(own[:1], base), own])[None], domain)


def unanimity(players: int, members: tuple[int, ...], scale: float = 1.0) -> MoebiusGame:
    """v(g) = scale if all members are present, else 0: their credit is shared equally."""
    sets = torch.zeros(1, players, dtype=torch.bool)
    sets[0, list(members)] = True
    return MoebiusGame(sets, torch.tensor([[scale]], dtype=torch.float64))
