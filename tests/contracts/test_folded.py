"""Layers that see an instance's windows in the place of the batch, as Swin's attention and OPT's
MLP do, are gated like any other.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.players import Players
from tests.contracts.made import asking, some, tiny
from tests.contracts.test_inside import recorded
from tests.small import central_difference, close, normal, untouched

X, PAIR, OTHER = normal(1, 6, seed=1), normal(2, 6, seed=1), normal(1, 6, seed=2)


class Windowed(nn.Module):
    """Four windows of two features; plainly or folded into the batch."""

    def __init__(self, *, folded: bool) -> None:
        super().__init__()
        self.stem, self.inside, self.head = nn.Linear(6, 8), nn.Linear(2, 3), nn.Linear(12, 3)
        self.folded = folded

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x)).unflatten(1, (4, 2))
        h = self.inside(h.flatten(0, 1)) if self.folded else self.inside(h)
        return self.head(torch.tanh(h).reshape(len(x), 12))


def players(owner: Tensor, site: ap.Site) -> Players:
    names = tuple(f"part {i}" for i in range(int(owner.max()) + 1))
    return Players(names, ("part",) * len(names), {site: owner}, {})


OWNERS = {
    "units": torch.arange(3), "windows": torch.arange(4)[:, None],
    "both": torch.arange(12).reshape(4, 3), "some": torch.tensor([[0], [-1], [1], [0]]),
}  # fmt: skip


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("given", [X, PAIR])
@pytest.mark.parametrize("removal", ["zeros", "another input", "mean of inputs"])
def test_folded_windows_are_those_of_the_model_that_keeps_them_apart(owner, given, removal) -> None:
    folded, plain = (tiny(lambda f=f: Windowed(folded=f)) for f in (True, False))
    other = normal(len(given), 6, seed=2)
    absent = {
        "zeros": ap.removals.zeros(), "another input": ap.removals.counterfactual(other),
        "mean of inputs": ap.removals.mean(normal(4, 6, seed=3)),
    }[removal]  # fmt: skip
    games = [
        asking(m, given, ap.Blend(absent), players=players(owner, ap.Site("inside")))
        for m in (folded, plain)
    ]
    gates = some(games[0].players.n, rows=5)
    with untouched(folded):
        close(games[0].value(gates), games[1].value(gates), atol=1e-12)
    slopes = [game.grad(gates.double() * 0.7)[1] for game in games]
    close(slopes[0], slopes[1], atol=1e-12)
    if len(given) == 1:
        half = torch.full((1, games[0].players.n), 0.6, dtype=torch.float64)
        close(games[0].grad(half)[1], central_difference(games[0], half), atol=1e-8)


def test_finding_the_windows_costs_one_run() -> None:
    folded, plain = (tiny(lambda f=f: Windowed(folded=f)) for f in (True, False))
    at = players(OWNERS["units"], ap.Site("inside"))
    assert [asking(m, X, players=at).setup.forwards for m in (folded, plain)] == [2, 1]
    assert recorded(folded, X, lambda m: m.inside).shape == (4, 3)


def test_an_input_that_reads_the_same_backwards_cannot_tell() -> None:
    at = players(OWNERS["units"], ap.Site("inside"))
    with pytest.raises(ap.BadRequest, match="rows cannot be told apart"):
        asking(tiny(lambda: Windowed(folded=True)), torch.ones(1, 6).double(), players=at)
