"""How inputs reach the model, and the same question changed in one respect."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import CP_LRP
from tests.contracts.made import (
    HIDDEN,
    ZEROS,
    Counting,
    Plainly,
    X,
    asking,
    hard,
    marginal,
    mixed,
    soft,
    some,
    tiny,
)
from tests.small import (
    IDS,
    central_difference,
    close,
    cnn,
    decoder,
    mlp,
    normal,
    table_game,
    untouched,
)


class Graph(nn.Module):
    """Nodes with features, and how they are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, adj: Tensor, scale: float = 1.0) -> Tensor:
        return self.last(torch.tanh(self.first(x) @ adj)) * scale


GRAPH, ADJ = tiny(Graph), normal(6, 6, seed=3)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ((X, ADJ), None),
        ([X, ADJ, 1.0], None),
        ({"x": X, "adj": ADJ}, "x"),
        ({"x": X, "adj": ADJ, "scale": 1.0}, "x"),
    ],
    ids=["tuple", "list", "mapping", "mapping with a number"],
)
def test_tuples_and_mappings_are_the_arguments_of_the_model(given, part) -> None:
    game = asking(GRAPH, given, players=ap.players.columns(X, part=part))
    gates = some(6)
    with torch.no_grad():
        close(game.value(gates), GRAPH(X * gates, ADJ)[:, 0], atol=1e-12)
    close(game.grad(soft(6))[1], central_difference(game, soft(6)), atol=1e-7)


def test_a_tensor_with_the_batch_axis_is_repeated_and_a_shared_one_is_not() -> None:
    """With as many instances as the square matrix has rows, only `shared` can tell."""
    nodes = normal(6, 6, seed=4)
    players = ap.players.columns(nodes)
    with torch.no_grad():
        expected = GRAPH(nodes, ADJ)[:, 0]
    game = asking(GRAPH, (nodes, ADJ), players=players, shared=(1,))
    close(game.value(hard("111111", "111111")), torch.stack([expected, expected]), atol=1e-12)
    moved = game.at((2 * nodes, ADJ))
    with torch.no_grad():
        close(moved.value(hard("111111"))[0], GRAPH(2 * nodes, ADJ)[:, 0], atol=1e-12)
    named = {"x": nodes, "adj": ADJ}
    same = asking(GRAPH, named, players=ap.players.columns(nodes, part="x"), shared=("adj",))
    close(same.value(some(6)), game.value(some(6)))

    class Weighted(nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return x * weight

    each = asking(Weighted(), (nodes, nodes + 1), players=players)
    close(each.value(hard("111111", "000000"))[0], (nodes * (nodes + 1))[:, 0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3.0, "pass a tensor, a tuple"),
        ((), "holds no tensor"),
        ({"scale": 1.0}, "holds no tensor"),
        ((torch.tensor(1.0),), "batch axis"),
        (X[:0], "at least one instance"),
        ((X, [ADJ]), "list of tensors"),
        ({"x": X, "adj": {"a": ADJ}}, "dict of tensors"),
    ],
)
def test_inputs_that_cannot_be_repeated_are_refused(given, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        asking(GRAPH, given, players=ap.players.columns(X))


def test_shared_names_an_argument_that_exists() -> None:
    with pytest.raises(ap.BadRequest, match=r"shared='edges'.*0, 1"):
        asking(GRAPH, (X, ADJ), players=ap.players.columns(X), shared=("edges",))


def test_players_may_own_any_argument() -> None:
    players = ap.players.Players(
        tuple(f"edges of {i}" for i in range(6)), ("edge",) * 6,
        {ap.Site("", "in", 1): torch.arange(6)[:, None].expand(6, 6)},
    )  # fmt: skip

    class Each(nn.Module):
        def forward(self, x: Tensor, adj: Tensor) -> Tensor:
            return torch.einsum("ri,rij->rj", x, adj)

    game = asking(Each(), (X, ADJ[None]), players=players)
    gates = some(6)
    close(game.value(gates), ((X * gates) @ ADJ)[:, 0])
    with pytest.raises(ap.BadRequest, match=r"arguments are 'x', 'adj'"):
        asking(GRAPH, {"x": X, "adj": ADJ}, players=ap.players.columns(X, part="edges"))


def test_models_that_write_into_their_input_spoil_nothing() -> None:
    def spoil(x: Tensor) -> Tensor:
        return x.mul_(2).add_(1).relu_()

    x = X.clone()
    game = asking(Plainly(spoil), x, ap.Blend(ap.removals.counterfactual(X + 1)))
    calm = asking(Plainly(lambda x: F.relu(2 * x + 1)), X, game.question.removal)
    for _ in range(2):
        close(game.value(some(6)), calm.value(some(6)))
        close(game.grad(soft(6))[1], calm.grad(soft(6))[1])
    assert torch.equal(x, X)


def test_layers_that_write_into_what_the_layer_before_gave_spoil_nothing() -> None:
    def net(inplace: bool) -> nn.Module:
        act = nn.ReLU(inplace=inplace)
        return tiny(lambda: nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 3)))

    model = net(True)
    players = ap.players.neurons(model, "0")
    removal = ap.Blend(ap.removals.counterfactual(-X))
    game, calm = (asking(m, X, removal, players=players) for m in (model, net(False)))
    for _ in range(2):
        close(game.value(some(8)), calm.value(some(8)))
        close(game.grad(soft(8))[1], calm.grad(soft(8))[1])


def test_pictures_in_any_memory_layout_give_the_same_values() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(3 * 64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).view(len(x), -1))

    model, x = tiny(Viewing), normal(1, 2, 8, 8)
    game = asking(model, x, players=ap.players.patches(x, 4))
    gates = some(4)
    absent = x * gates[:, ap.players.patches(x, 4).owner[ap.Site("", "in")][0]][:, None]
    with torch.no_grad():
        close(game.value(gates), model(absent.contiguous())[:, 0], atol=1e-12)


def test_only_the_logits_that_are_read_are_computed_where_the_model_can() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.asked = decoder(), []

        def get_input_embeddings(self) -> nn.Module:
            return self.inner.embed

        def forward(self, ids: Tensor, logits_to_keep: int = 0, use_cache: bool = True) -> dict:
            self.asked.append((logits_to_keep, use_cache))
            return {"logits": self.inner(ids)["logits"][:, -logits_to_keep:]}

    model = Keeping()
    players = ap.players.tokens(model, IDS, positions=range(3))
    for value, last in ((ap.values.Margin(4), 1), (ap.values.Continuation((1, 5, 9)), 4)):
        del model.asked[:]
        game = asking(model, IDS, value=value, players=players)
        plain = asking(decoder(), IDS, value=value, players=ap.players.tokens(
            decoder(), IDS, positions=range(3)))  # fmt: skip
        close(game.value(some(3)), plain.value(some(3)))
        assert set(model.asked) == {(last, False)}
    del model.asked[:]
    asking(model, {"ids": IDS, "logits_to_keep": 2, "use_cache": True}, players=players)
    assert model.asked == [(2, True)]  # what was said is kept


# -- the same question, changed


def test_the_same_question_about_another_input() -> None:
    other = normal(1, 6, seed=5)
    for game in (table_game(), marginal()):
        moved, draw = game.at(other), None if game.draws == 1 else torch.arange(5) % 4
        new = ap.ModelGame(mlp(), other, game.question.value, game.players, game.question.removal)
        close(moved.value(some(6), draw), new.value(some(6), draw))
    close(game.question.call.args[0], X)
    with pytest.raises(ap.BadRequest, match=r"\(6,\).*\(7,\)|\(6,\) at"):
        asking(Plainly(lambda x: x)).at(normal(1, 7))


def test_the_same_question_with_another_absence_or_value() -> None:
    game = mixed()
    removal = {"column": ap.Blend(ap.removals.constant(2)), "neuron": ZEROS}
    close(game.removing(removal).value(some(14)), mixed(removal=removal).value(some(14)))
    with pytest.raises(ap.BadRequest, match="exactly one entry per kind"):
        game.removing({"column": ZEROS})
    with pytest.raises(ap.BadRequest, match="equals the input"):
        table_game().removing(ap.Blend(ap.removals.counterfactual(X)))
    value = ap.values.Probability((0, 2))
    close(table_game().explaining(value).value(some(6)), table_game(value).value(some(6)))
    assert table_game().explaining(value).describe().unit == "probability"


def test_every_change_keeps_the_rules() -> None:
    model, x = tiny(lambda: nn.Sequential(nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 2))), X
    bent = asking(model, x).under(ap.backward.epsilon())
    changes = (
        bent.at(2 * x),
        bent.removing(ap.Blend(ap.removals.constant(1))),
        bent.explaining(ap.values.Logit(1)),
        bent.randomised("0", torch.Generator().manual_seed(1)),
    )
    for changed in changes:
        assert changed.describe().rules == bent.describe().rules is not None
        assert not changed.exact


def test_rules_bend_the_slopes_and_leave_the_values_alone() -> None:
    model = decoder()
    game = asking(model, IDS, players=ap.players.tokens(model, IDS))
    bent = game.under(CP_LRP)
    assert (game.exact, bent.exact) == (True, False)
    assert bent.setup == game.setup  # nothing runs again
    assert torch.equal(bent.value(some(6)), game.value(some(6)))
    assert torch.equal(bent.grad(soft(6))[0], game.grad(soft(6))[0])
    assert not torch.allclose(bent.grad(soft(6))[1], game.grad(soft(6))[1], atol=1e-3)
    assert ap.attribute(bent, ap.Gradient()).gap is None


@pytest.mark.parametrize(("layer", "shuffled"), [("4", {"4"}), ("", {"0", "2", "4"})])
def test_shuffling_moves_the_parameters_below_a_layer_and_nobody_elses(layer, shuffled) -> None:
    """Each shuffled tensor holds the same numbers in another order; the user's stay put."""
    model = mlp()
    game = asking(model)
    with untouched(model):
        changed = game.randomised(layer, torch.Generator().manual_seed(0))
        values, grads = changed.value(some(6)), changed.grad(soft(6))[1]
    weights = changed.question.weights
    assert {name.split(".")[0] for name in weights} == shuffled
    for name, p in model.named_parameters():
        if name in weights:
            close(weights[name].flatten().sort().values, p.detach().flatten().sort().values)
            assert not torch.equal(weights[name], p)
    by_hand = mlp()
    by_hand.load_state_dict({**by_hand.state_dict(), **weights})
    close(values, asking(by_hand).value(some(6)))
    close(grads, asking(by_hand).grad(soft(6))[1])
    again = game.randomised(layer, torch.Generator().manual_seed(0))
    assert torch.equal(again.value(some(6)), values)


def test_references_of_a_shuffled_model_are_its_own_activations() -> None:
    model, other = mlp(), normal(1, 6, seed=8)
    removal = ap.Blend(ap.removals.counterfactual(other))
    game = asking(model, X, removal, players=ap.players.neurons(model, HIDDEN))
    changed = game.randomised("", torch.Generator().manual_seed(0))
    by_hand = mlp()
    by_hand.load_state_dict(dict(changed.question.weights))
    close(changed.value(hard("00000000")), by_hand(other)[:, 0].detach(), atol=1e-12)


def test_layers_can_be_shuffled_one_after_the_other() -> None:
    game = asking(mlp())
    rng = torch.Generator().manual_seed(0)
    top = game.randomised("4", rng)
    both = top.randomised("2", rng)
    assert torch.equal(both.question.weights["4.weight"], top.question.weights["4.weight"])
    assert {name.split(".")[0] for name in both.question.weights} == {"2", "4"}


def test_a_changed_question_leaves_the_first_one_as_it_was() -> None:
    model = tiny(Counting)
    game = asking(model)
    before = game.value(some(6))
    game.at(2 * X).removing(ap.Blend(ap.removals.constant(3))).explaining(ap.values.Margin(2))
    game.randomised("", torch.Generator().manual_seed(0)).value(some(6))
    game.under(CP_LRP).grad(soft(6))
    assert torch.equal(game.value(some(6)), before)


def test_the_picture_of_a_frozen_network_stays_frozen() -> None:
    """Parameters that need no gradient need none afterwards, and those that do still do."""
    model, x = cnn(), normal(1, 2, 8, 8)
    model[0].weight.requires_grad_(False)
    game = asking(model, x, players=ap.players.patches(x, 4))
    with untouched(model):
        game.grad(soft(4))
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
