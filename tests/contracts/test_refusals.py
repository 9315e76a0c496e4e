"""What would go wrong silently is refused with the remedy; the model is put back whatever
happens.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.estimators import TABLE
from apportion.types import Axiom
from tests.contracts.made import HIDDEN, ZEROS, Plainly, X, asking, hard, mixed, soft, some, tiny
from tests.small import IDS, close, cnn, decoder, mlp, normal, untouched

# -- the model is put back


class Trap(nn.Module):
    """A network with a way out in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.failure: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.failure is not None:
            raise self.failure
        return self.last(torch.tanh(h))


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["value", "grad", "attribute", "build", "randomised"])
def test_the_model_is_put_back_after_a_failure_in_its_middle(failure, method) -> None:
    model = tiny(Trap)
    model.last.bias.requires_grad_(False)
    model.first.weight.grad = torch.ones_like(model.first.weight)
    players = ap.players.columns(X) | ap.players.neurons(model, "first")
    game = asking(model, players=players)
    shuffled = game.randomised("", torch.Generator().manual_seed(0))
    asked = {
        "value": lambda: game.value(some(14)),
        "grad": lambda: game.under(ap.backward.CP_LRP).grad(soft(14)),
        "attribute": lambda: ap.attribute(game, ap.PathIntegral(steps=4)),
        "build": lambda: asking(model, players=players),
        "randomised": lambda: shuffled.grad(soft(14)),
    }
    before = game.value(some(14))
    model.failure = failure
    with untouched(model), pytest.raises(failure):
        asked[method]()
    model.failure = None
    close(game.value(some(14)), before)
    assert float(model.first.weight.grad.sum()) == 48


def test_the_model_is_untouched_by_every_question() -> None:
    model, x = cnn(), normal(1, 2, 8, 8)
    players = ap.players.patches(x, 4) | ap.players.channels(model, "4")
    with untouched(model):
        game = asking(model, x, ap.Blend(ap.removals.blur(1)), players=players)
        game.value(some(9))
        game.under(ap.backward.CP_LRP).grad(soft(9))
        game.at(x + 1).removing(ZEROS).explaining(ap.values.Margin(1)).value(some(9))
        game.randomised("4", torch.Generator().manual_seed(0)).grad(soft(9))


# -- randomness and rows that see each other


RANDOM: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5)),
    "dropout of channels": lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout1d(0.5)),
    "alpha dropout": lambda: nn.Sequential(nn.Linear(6, 4), nn.AlphaDropout(0.5)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)),
    "batch norm without memory": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "random slopes": lambda: nn.Sequential(nn.Linear(6, 4), nn.RReLU()),
    "stochastic depth": lambda: Plainly(lambda x: x * x.new_empty(len(x), 1).bernoulli_(0.5)),
    "noise": lambda: Plainly(lambda x: x + torch.randn_like(x)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_training_mode_is_refused_and_leaves_no_trace(name) -> None:
    """Neither running statistics nor counters of batches move, nor the global random state."""
    model = tiny(RANDOM[name]).train()
    with (
        torch.random.fork_rng(devices=[]),
        untouched(model),
        pytest.raises(ap.BadRequest, match=r"model\.eval\(\)"),
    ):
        asking(model)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_and_attention_that_drop_are_refused(cell) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell(6, 4, 2, dropout=0.5, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cell(x[:, None])[0]
            return self.attention(h, h, h)[0][:, -1]

    model = tiny(Last)
    assert asking(model).value(some(6)).shape == (5,)
    for part in (model.cell, model.attention):
        model.eval()
        part.train()
        with torch.random.fork_rng(devices=[]), pytest.raises(ap.BadRequest, match=r"eval\(\)"):
            asking(model)


def test_sequences_packed_for_a_recurrent_layer_are_no_training() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(3, 4, 2, dropout=0.5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.full((len(x),), 2)
            packed = nn.utils.rnn.pack_padded_sequence(x.unflatten(1, (2, 3)), lengths, True)
            return self.cell(packed)[1][0][-1]

    assert asking(tiny(Packed)).value(some(6)).shape == (5,)


def test_training_mode_without_any_effect_is_no_reason_to_refuse() -> None:
    close(asking(mlp().train()).value(some(6)), asking(mlp()).value(some(6)))
    quiet = tiny(lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.0))).train()
    assert asking(quiet).value(some(6)).shape == (5,)


MIXING = {
    "mean of the batch": lambda x: x.mean(0, keepdim=True),
    "rows dropped": lambda x: x[:1],
    "centred on the batch": lambda x: x - x.mean(0),
    "rows reversed": lambda x: x.flip(0),
}


@pytest.mark.parametrize("name", MIXING)
def test_models_whose_rows_see_each_other_are_refused(name) -> None:
    game = asking(Plainly(MIXING[name]))
    with pytest.raises(ap.BadRequest, match="rows"):
        game.value(hard("111111", "010110", "000000"))


def test_layers_that_fold_windows_before_the_batch_are_refused_with_one_that_works() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inside, self.head = nn.Linear(6, 8), nn.Linear(2, 2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            windows = self.stem(x).unflatten(1, (4, 2)).transpose(0, 1)  # position first
            h = self.inside(windows.flatten(0, 1)).unflatten(0, (4, len(x)))
            return self.head(h.transpose(0, 1).flatten(1))

    model = tiny(Windows)
    with pytest.raises(ap.BadRequest, match=r"first axis 4 for 1 instance.*'(stem|head)'"):
        asking(model, players=ap.players.neurons(model, "inside"))


# -- numbers that are none


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_where_they_arise(bad) -> None:
    spoilt = X.clone()
    spoilt[0, 2] = bad
    with pytest.raises(ap.BadRequest, match=r"the input 0 holds NaN.*nan_to_num"):
        asking(mlp(), spoilt)
    with pytest.raises(ap.BadRequest, match="on the input as it is is NaN or infinite"):
        asking(Plainly(lambda x: x * bad))
    reaches = asking(Plainly(lambda x: torch.where(x.sum(1, keepdim=True) == 0, bad, x)))
    with pytest.raises(ap.BadRequest, match="1 of 3 coalitions, the first with 0 of 6"):
        reaches.value(hard("111111", "000000", "100000"))
    with pytest.raises(ap.BadRequest, match="0 of 6 players present"):
        ap.attribute(reaches, ap.PermutationShapley(orders=2))
    wrong = ap.FunctionGame(lambda g: torch.where(g[:, 0], bad, 1.0), 3)
    with pytest.raises(ap.BadRequest, match="1 of 2 coalitions, the first with 2 of 3"):
        wrong.value(hard("010", "110"))


def test_a_slope_that_is_none_is_refused_with_another_way_to_ask() -> None:
    root = asking(Plainly(lambda x: x.abs().sqrt()))
    with pytest.raises(ap.BadRequest, match=r"gradient.*NaN or infinite.*MIDPOINT"):
        root.grad(torch.zeros(1, 6))
    assert root.grad(torch.full((1, 6), 0.5))[1].isfinite().all()


# -- gradients that do not arrive


class Cut(nn.Module):
    """One branch is detached, the other is not."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.kept = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x).detach() * 2 + self.kept(x)


def test_a_disconnected_gradient_names_the_site() -> None:
    model = tiny(Cut)
    game = asking(model, players=ap.players.neurons(model, "cut"))
    assert game.value(hard("000", "111")).unique().numel() == 2
    with pytest.raises(ap.BadRequest, match=r"output of cut.*LeaveOneOut"):
        ap.attribute(game, ap.Gradient())
    step = Plainly(lambda x: (x > 0).double())
    with pytest.raises(ap.BadRequest, match="input of the model"):
        ap.attribute(asking(step), ap.Gradient())


def test_a_disconnected_site_among_connected_ones_is_named() -> None:
    """Slopes of 0 for players whose values do differ would be silently wrong."""
    model = tiny(Cut)
    players = ap.players.neurons(model, "cut") | ap.players.neurons(model, "kept")
    with pytest.raises(ap.BadRequest, match="output of cut"):
        asking(model, players=players).grad(soft(6))


# RISE averages values where a player is present, so a constant is credited like any other value
GIVES_NOTHING = [name for name, row in TABLE.items() if Axiom.ADDITIVE in row.axioms]


@pytest.mark.parametrize("name", GIVES_NOTHING)
def test_a_value_that_never_changes_credits_nobody(name) -> None:
    flat = asking(Plainly(lambda x: 0 * x + 2.5))
    small = {"averaged-gradient": {"start": 0.0}}
    credit = ap.attribute(flat, TABLE[name](**small.get(name, {})))
    close(credit.scores, torch.zeros(6), atol=1e-9)


# -- absence that is none


def test_a_reference_equal_to_the_input_is_refused() -> None:
    for reference in (ap.removals.counterfactual(X), ap.removals.mean(X), ap.removals.rows(X)):
        with pytest.raises(ap.BadRequest, match=r"equals the input on every element.*blur"):
            asking(mlp(), X, ap.Blend(reference))
    with pytest.raises(ap.BadRequest, match="equals the input"):
        asking(mlp(), torch.zeros(1, 6, dtype=torch.float64))
    other = X.clone()
    other[0, 0] += 1
    mine = ap.players.columns(X).merge([[0], [1, 2, 3, 4, 5]])
    owner = torch.where(next(iter(mine.owner.values())) == 0, -1, 0)
    rest = ap.players.Players(("rest",), ("column",), {ap.Site("", "in"): owner})
    with pytest.raises(ap.BadRequest, match="equals the input on every element that 1 column own"):
        asking(mlp(), X, ap.Blend(ap.removals.counterfactual(other)), players=rest)


def test_a_reference_equal_to_the_input_in_part_is_noted() -> None:
    other = X.clone()
    other[0, 2:] = 0
    game = asking(mlp(), X, ap.Blend(ap.removals.counterfactual(other)))
    notes = game.describe().notes
    assert "2 of 6 players equal their replacement" in notes[0] and "column 0, column 1" in notes[0]
    credit = ap.attribute(game, ap.LeaveOneOut())
    assert notes[0] in credit.provenance.notes
    close(credit.scores[:2], torch.zeros(2))


def test_players_that_move_in_any_draw_are_not_idle() -> None:
    pool = X.repeat(3, 1)
    pool[2, :5] += 1
    notes = asking(mlp(), X, ap.Blend(ap.removals.rows(pool))).describe().notes
    assert "1 of 6 players" in notes[0] and "column 5" in notes[0]


def test_a_saturated_probability_is_noted_with_what_does_not_saturate() -> None:
    sure = asking(Plainly(lambda x: 1e4 * x), value=ap.values.Probability(int(X.argmax())))
    assert f"Margin({int(X.argmax())})" in sure.describe().notes[0]
    assert not asking(mlp(), value=ap.values.Probability(0)).describe().notes


# -- addresses


def test_a_layer_that_does_not_exist_lists_the_nearest_names() -> None:
    model = decoder()
    for build in (ap.players.neurons, ap.players.channels):
        with pytest.raises(ap.BadRequest, match=r"no layer 'layers\.0\.mpl'.*'layers\.[01]\.mlp'"):
            build(model, "layers.0.mpl")
    game = asking(model, IDS, players=ap.players.tokens(model, IDS))
    with pytest.raises(ap.BadRequest, match="'embed'"):
        game.randomised("embd", torch.Generator())
    players = ap.players.Players(("a",), ("p",), {ap.Site("layers.5"): torch.zeros(1).long()})
    with pytest.raises(ap.BadRequest, match=r"layers\.5"):
        asking(model, IDS, players=players)


class Twice(nn.Module):
    """One layer that runs twice, on the same widths."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.idle = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(torch.tanh(self.again(x)))


def test_a_layer_that_runs_twice_asks_which_call_and_lists_shapes() -> None:
    model = tiny(Twice)
    which = r"ran 2 times.*call=0 has shape \(1, 6\), call=1 has shape \(1, 6\).*call="
    with pytest.raises(ap.BadRequest, match=which):
        asking(model, players=ap.players.neurons(model, "again"))
    with pytest.raises(ap.BadRequest, match=r"ran 2 time\(s\)"):
        asking(model, players=ap.players.neurons(model, "again", call=2))
    with pytest.raises(ap.BadRequest, match="never ran"):
        asking(model, players=ap.players.neurons(model, "idle"))


def test_the_call_that_is_named_is_the_one_that_is_gated() -> None:
    model, keep = tiny(Twice), torch.tensor([1.0, 0, 1, 1, 0, 0]).double()
    games = [asking(model, players=ap.players.neurons(model, "again", call=k)) for k in (0, 1)]
    with torch.no_grad():
        first = model.again(torch.tanh(model.again(X) * keep))[:, 0]
        second = (model(X) * keep)[:, 0]
    close(games[0].value(hard("101100")), first, atol=1e-12)
    close(games[1].value(hard("101100")), second, atol=1e-12)


def test_players_of_another_shape_are_refused_with_both_shapes() -> None:
    wide = ap.players.columns(normal(1, 7))
    with pytest.raises(ap.BadRequest, match=r"shape \(7,\) at the input.*has \(6,\)"):
        asking(mlp(), players=wide)
    model = cnn()
    cells = ap.players.patches(normal(1, 2, 6, 6), 3)
    with pytest.raises(ap.BadRequest, match=r"\(1, 6, 6\).*\(2, 8, 8\)"):
        asking(model, normal(1, 2, 8, 8), players=cells)
    deep = ap.players.Players(("a",), ("p",), {ap.Site(HIDDEN): torch.zeros(2, 8).long()})
    with pytest.raises(ap.BadRequest, match=r"\(2, 8\)"):
        asking(mlp(), players=deep)


def test_integers_cannot_be_blended_away() -> None:
    players = ap.players.Players(("a",), ("token",), {ap.Site("", "in"): torch.zeros(6).long()})
    with pytest.raises(ap.BadRequest, match=r"torch\.int64.*players\.tokens"):
        asking(decoder(), IDS, players=players)


def test_one_removal_per_kind_no_more_and_no_less() -> None:
    for given in ({"column": ZEROS}, {"column": ZEROS, "neuron": ZEROS, "head": ZEROS}, {}):
        with pytest.raises(ap.BadRequest, match=r"\['column', 'neuron'\]"):
            mixed(removal=given)
    kinds = ap.players.Players(
        ("a", "b"), ("x", "y"), {ap.Site("", "in"): torch.tensor([0, 0, 0, 1, 1, 1])}
    )
    with pytest.raises(ap.BadRequest, match=r"one site has one removal"):
        asking(mlp(), players=kinds)


def test_a_value_must_answer_once_per_instance() -> None:
    class Total:
        unit, linear, last = "sum", False, None

        def __call__(self, output: Tensor) -> Tensor:
            return F.softmax(output, -1).sum().reshape(1)

    with pytest.raises(ap.BadRequest, match="1 values for 2 instances"):
        asking(mlp(), normal(2, 6), value=Total())
