"""Small models of many kinds, asked under every table of backward rules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import TABLE, Rules
from tests.small import IDS, cnn, decoder, mlp, normal, seeded

ZEROS = ap.Blend(ap.removals.zeros())


class Normed(nn.Module):
    """One of each norm and several activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(6, 6) for _ in range(4))
        self.layer, self.rms, self.group = nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(F.gelu(self.a(x)))
        h = h + self.rms(F.silu(self.b(h)))
        h = self.group(F.leaky_relu(self.c(h), inplace=True))
        return self.d(F.hardswish(h) * torch.tanh(h))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.unflatten(-1, (3, 2)))
        return self.head(states[:, -1])


class Function(nn.Module):
    """A function of the input, with a linear layer before and after."""

    def __init__(self, body: Callable[[Tensor], Tensor], width: int = 6, bias: bool = True) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, width, bias), nn.Linear(width, 3, bias)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)))


def function(body: Callable[[Tensor], Tensor], *, bias: bool = True) -> nn.Module:
    return seeded(lambda: Function(body, bias=bias))


def columns_game(model: nn.Module, value: object = None, seed: int = 1) -> ap.ModelGame:
    x = normal(1, 6, seed=seed)
    value = ap.values.Logit(1) if value is None else value
    return ap.ModelGame(model, x, value, ap.players.columns(x), ZEROS)


def token_game(
    model: nn.Module, value: object = None, players: ap.players.Players | None = None
) -> ap.ModelGame:
    value = ap.values.Logit(7) if value is None else value
    players = ap.players.tokens(model, IDS) if players is None else players
    return ap.ModelGame(model, IDS, value, players, ZEROS)


def image_game() -> ap.ModelGame:
    x = normal(1, 2, 8, 8, seed=4)
    return ap.ModelGame(cnn(), x, ap.values.Logit(2), ap.players.patches(x, 4), ZEROS)


GAMES: dict[str, Callable[[], ap.ModelGame]] = {
    "mlp": lambda: columns_game(mlp(act=nn.ReLU)),
    "convolutions": image_game,
    "norms": lambda: columns_game(seeded(Normed)),
    "eager decoder": lambda: token_game(decoder(eager=True)),
    "fused decoder": lambda: token_game(decoder()),
    "recurrent": lambda: columns_game(seeded(Recurrent)),
}
TABLES: dict[str, Rules] = {**TABLE, "epsilon, large": ap.backward.epsilon(0.1)}


def some_gates(game: ap.ModelGame, rows: int = 4) -> Tensor:
    """Soft coalitions, and everyone."""
    n = game.players.n
    return torch.cat([torch.ones(1, n, dtype=torch.float64), normal(rows, n, seed=8).sigmoid()])


def slopes(game: ap.ModelGame, rules: Rules | None = None) -> Tensor:
    """The derivative by every gate, in some coalitions."""
    ruled = game if rules is None else game.under(rules)
    return ruled.grad(some_gates(game))[1]
