"""Attention and MLP blocks are found by structure, whatever the model calls them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.contracts.made import asking, some, tiny
from tests.small import close, normal, untouched

X = normal(1, 5, 8, seed=1)


class Attention(nn.Module):
    """Not one that attends: heads are slices of what the projection reads."""

    def __init__(self, heads: int | None = None, name: str = "out_proj", width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(8, width)
        self.add_module(name, nn.Linear(width, 8))
        self.name = name
        if heads is not None:
            self.num_heads = heads

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.name)(torch.tanh(self.inner(x)))


class Layer(nn.Module):
    """An attention and an MLP block whose two layers lie in the layer itself, as in BART."""

    def __init__(self, heads: int, **more: object) -> None:
        super().__init__()
        self.self_attn = Attention(heads, **more)
        self.fc1, self.fc2 = nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x)
        return x + self.fc2(torch.tanh(self.fc1(x)))


class Both(nn.Module):
    """Two sides with different numbers of heads, of which the configuration knows one."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_attention_heads=8)
        self.left, self.right = Layer(2), Layer(4, width=12)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(self.left(x)).mean(1)


class Shared(nn.Module):
    """One layer three times, as in ALBERT."""

    def __init__(self, *, says: bool) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=3)
        if says:
            self.config.num_hidden_groups = 1
        self.layers = nn.ModuleList([Layer(2)])

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layers[0](x)
        return x.mean(1)


def test_each_block_says_how_many_heads_it_has() -> None:
    players = ap.players.heads(tiny(Both))
    widths = [owner.unique().numel() for owner in players.owner.values()]
    assert widths == [2, 4] and players.n == 6
    assert ap.players.heads(tiny(Both), count=4).n == 8


@pytest.mark.parametrize("place", ["block", "part", "configuration", "model"])
def test_where_the_number_of_heads_is_looked_up(place) -> None:
    model = tiny(lambda: nn.ModuleDict({"attention": nn.ModuleDict({"a": Attention()})}))
    model.config = SimpleNamespace(num_attention_heads=[2, 4], n_head=1)  # stages say nothing
    if place == "block":
        model["attention"].num_heads = 4
    if place == "part":
        model["attention"]["self"] = tiny(lambda: Attention(4, name="inside"))
    if place == "configuration":
        model["attention"].config = SimpleNamespace(n_heads=4)
    assert ap.players.heads(model).n == (1 if place == "model" else 4)


@pytest.mark.parametrize("name", ["o_proj", "Wo", "c_proj", "dense", "to_out"])
def test_output_projections_by_their_usual_names(name) -> None:
    model = tiny(lambda: nn.ModuleDict({"attn": Attention(2, name=name)}))
    assert [site.path for site in ap.players.heads(model).owner] == [f"attn.{name}"]


def test_mlps_whose_layers_lie_in_the_block() -> None:
    assert [s.path for s in ap.players.mlps(tiny(Both)).owner] == ["left.fc2", "right.fc2"]
    names = ("ffn", "ffn_output")
    albert = tiny(lambda: nn.ModuleDict({name: nn.Linear(2, 2) for name in names}))
    assert [s.path for s in ap.players.mlps(albert).owner] == ["ffn_output"]


@pytest.mark.parametrize(
    ("build", "n"), [(ap.players.heads, 2), (ap.players.mlps, 1), (ap.players.layers, 1)]
)
def test_layers_that_share_their_weights_have_players_per_call(build, n) -> None:
    """Each call by itself, as a model of three equal layers has them."""
    model = tiny(lambda: Shared(says=True))
    apart = tiny(lambda: nn.Sequential(*(Layer(2) for _ in range(3))))
    for layer in apart:
        layer.load_state_dict(model.layers[0].state_dict())
    players, each = build(model), build(apart)
    assert players.n == each.n == 3 * n
    assert "call 2" in players.names[-1]
    with untouched(model):
        game = asking(model, X, players=players)
        gates = some(players.n, rows=4)
        pooled = Pooled(apart)
        expected = asking(pooled, X, players=build(pooled)).value(gates)
    close(game.value(gates), expected, atol=1e-12)


class Pooled(nn.Module):
    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


class Routed(nn.Module):
    """A block that returns what it adds and how it was routed, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__()
        block = {"attn": Attention(2), "mlp": Pair()}
        self.layers = nn.ModuleList([nn.ModuleDict(block)])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layers[0]["attn"](x)
        return (x + self.layers[0]["mlp"](x)[0]).mean(1)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.inner(x)), x


def test_of_a_block_that_returns_several_tensors_one_is_named() -> None:
    model = tiny(Routed)
    with pytest.raises(ap.BadRequest, match="tensors 0, 1; name one as part="):
        asking(model, X, players=ap.players.mlps(model))
    skipped = (X + model.layers[0]["attn"](X)).mean(1)[0, 0].detach()
    nobody = torch.tensor([[False]])
    close(asking(model, X, players=ap.players.mlps(model, part=0)).value(nobody)[0], skipped)
    alone = asking(model, X, players=ap.players.layers(model, part=0)).value(nobody)
    close(alone[0], X.mean(1)[0, 0])


@pytest.mark.parametrize("build", [ap.players.heads, ap.players.mlps, ap.players.layers])
def test_sharing_that_no_configuration_tells_is_told_with_calls(build) -> None:
    model = tiny(lambda: Shared(says=False))
    with pytest.raises(ap.BadRequest, match=r"ran 3 times in one forward pass.*calls="):
        asking(model, X, players=build(model))
    assert asking(model, X, players=build(model, calls=3)).players.n == 3 * build(model).n
    with pytest.raises(ap.BadRequest, match="calls=0: a block that runs has at least one call"):
        build(model, calls=0)
