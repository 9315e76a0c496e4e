"""Tables whose rules depend on where an operation runs: by module, by order, by operation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import (
    CONVOLUTIONS,
    CP_LRP,
    DENSE,
    Place,
    Rules,
    epsilon,
    gamma,
    layers,
    unruled,
    z_box,
)
from apportion.backward.linear import plain
from apportion.taps import Call
from tests.contracts.ruled import columns_game, image_game, slopes, some_gates
from tests.small import close, mlp, normal, seeded, untouched


def note(seen: list, operation: object, *args: object, **kwargs: object) -> Tensor:
    seen.append(operation)
    return operation(*args, **kwargs)


def counted(where: object, game: ap.ModelGame, functions: tuple = (F.linear,)) -> int:
    """How many operations of one forward pass meet a rule."""
    seen: list = []
    table = Rules("counting", dict.fromkeys(functions, lambda *a, **k: note(seen, *a, **k)))
    game.under(table.within(where)).grad(some_gates(game))
    return len(seen)


class Functional(nn.Module):
    """Layers in functional spelling inside one named part, and a part that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.twice = Part(), nn.Linear(6, 6, dtype=torch.float64)
        self.head = nn.Sequential(nn.Linear(6, 3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(torch.tanh(self.twice(self.block(x)))))


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(normal(2, 6, 6, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(x, self.w[0])), self.w[1])


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("block", 2), ("twice", 2), ("head", 1), ("head.0", 1), ("head.*", 1), ("*", 5),
        ("[bt]*", 4), (layers(), 5), (layers(1), 4), (layers(1, 3), 2), (layers(4, 9), 1),
        (lambda place: place.path == "head.0" or place.layer == 0, 2),
    ],
)  # fmt: skip
def test_places_by_module_and_by_order(where, count) -> None:
    game = columns_game(seeded(Functional))
    assert counted(where, game) == count


def test_order_counts_operations_with_weights_only() -> None:
    """An activation after the first layer stands at 1."""
    places: list[Place] = []

    def look(place: Place) -> bool:
        places.append(place)
        return False

    game = columns_game(mlp())
    table = Rules("looking", dict.fromkeys((F.linear, torch.tanh), plain)).within(look)
    game.under(table)
    places.clear()
    game.under(table).grad(torch.ones(1, 6, dtype=torch.float64))
    ran = places[len(places) // 2 :]  # the doctor looks first
    assert ran == [Place("0", 0), Place("1", 1), Place("2", 1), Place("3", 2), Place("4", 2)]


def test_blends_inside_the_model_do_not_count() -> None:
    model = seeded(Functional)
    x = normal(1, 6, seed=1)
    players = ap.players.columns(x) | ap.players.neurons(model, "block", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(1), players, ap.Blend(ap.removals.zeros()))
    assert counted(layers(2), game) == 3 and counted("block", game, (torch.tanh, torch.mul)) == 1


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    game = columns_game(seeded(Functional))
    with pytest.raises(ap.BadRequest, match=r"no module of Functional matches 'blok'.*'block'"):
        slopes(game, gamma().within("blok"))


def test_the_last_table_that_fits_counts() -> None:
    zero, one, two = (lambda op, x, k=k: op(x) * 0 + k * x for k in (0.0, 1.0, 2.0))
    tables = [Rules(str(k), {torch.tanh: rule}) for k, rule in enumerate((zero, one, two))]
    game = columns_game(mlp())
    base, middle, last = tables
    # the two activations of the network are modules 1 and 3
    by_hand = slopes(game, Rules("hand", {torch.tanh: one}))
    close(slopes(game, base | middle.within("1") | middle.within("3")), by_hand, atol=0)
    close(slopes(game, base | last.within("*") | middle.within("*")), by_hand, atol=0)
    close(slopes(game, last.within("*") | middle), by_hand, atol=0)  # everywhere, on the right
    both = (last.within("1") | middle).within("*")
    close(slopes(game, both), by_hand, atol=0)
    assert float((slopes(game, base | last.within("3")) - by_hand).abs().max()) > 0


def test_nested_places_have_to_fit_both() -> None:
    game = columns_game(seeded(Functional))
    seen: list = []
    table = Rules("counting", {F.linear: lambda *a, **k: note(seen, *a, **k)})
    game.under(table.within("twice").within(layers(3))).grad(some_gates(game))
    assert len(seen) == 1


def test_only_some_operations() -> None:
    game = image_game()
    conv, dense = epsilon(0.1).only(CONVOLUTIONS), epsilon(0.1).only(DENSE)
    assert torch.conv2d in conv.functions and F.linear not in conv.functions
    joined = epsilon(0.1).only([*CONVOLUTIONS, *DENSE])
    close(slopes(game, conv | dense), slopes(game, joined), atol=0)
    assert float((slopes(game, conv) - slopes(game, joined)).abs().max()) > 1e-6
    here = epsilon(0.1).within("0").only(DENSE)
    close(slopes(game, here), slopes(game), atol=0)
    assert not gamma().only(CONVOLUTIONS).conserves  # claims are not inherited


def test_the_doctor_knows_places() -> None:
    rules = CP_LRP.within("0") | CP_LRP.within("2")
    call = Call((normal(1, 6, seed=1),))
    assert [(f.operation, f.path) for f in unruled(mlp(), call, rules)] == [("linear", "4")]
    assert unruled(mlp(), call, CP_LRP.within(layers(0, 3))) == []
    assert [f.path for f in unruled(mlp(), call, CP_LRP.within(layers(1)))] == ["0"]


@pytest.mark.parametrize("where", ["0", layers(0, 2)])
def test_hooks_are_gone_afterwards_also_after_an_error(where) -> None:
    def broken(*args: object, **kwargs: object) -> Tensor:
        raise ZeroDivisionError

    model = mlp()
    game = columns_game(model)
    with untouched(model):
        slopes(game, gamma().within(where))
        with pytest.raises(ZeroDivisionError):
            slopes(game, Rules("broken", {F.linear: broken}).within(where))


def test_bad_places_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match="holds no layer"):
        layers(3, 3)
    with pytest.raises(ap.BadRequest, match="holds no layer"):
        layers(-1)
    with pytest.raises(ap.BadRequest, match="one place already"):
        z_box(0, 1).within("0")
    with pytest.raises(ap.BadRequest, match="one place already"):
        ap.backward.GRAD_CAM.within("0")
    with pytest.raises(ap.BadRequest, match="Use one of the two"):
        ap.backward.GRAD_CAM | z_box(0, 1)
