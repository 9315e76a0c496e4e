"""Players that own coefficients: the game edits in other coordinates and changes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.players import Players, same
from apportion.removals import Within, within
from apportion.views import TABLE, Basis, Fourier, View, Wavelets
from tests.contracts.made import ZEROS, Plainly, X, asking, soft, some, tiny
from tests.small import central_difference, close, mlp, normal

INPUT = ap.Site("", "in")
SIGNAL = normal(1, 3, 16, seed=5)
ORTHONORMAL = torch.linalg.qr(normal(16, 16, seed=6))[0]
VIEWS = {
    "fourier": Fourier(), "fourier of an odd length": Fourier(-2), "wavelets": Wavelets("db2", 3),
    "wavelets of two axes": Wavelets("haar", 1, (-2, -1)), "basis": Basis(ORTHONORMAL),
    "oblique basis": Basis(normal(16, 16, seed=7)), "few atoms": Basis(ORTHONORMAL[:5]),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", list(VIEWS))


def signal(name: str) -> Tensor:
    return normal(2, 4, 8, seed=2) if name == "wavelets of two axes" else SIGNAL


def owning(view: View, x: Tensor) -> Players:
    """Four players that own every coefficient but the first, dealt in turn."""
    c = view.analysis(x)[0]
    owner = (torch.arange(c.numel()) % 4).reshape(c.shape)
    owner.view(-1)[0] = -1
    names = tuple("abcd")
    return Players(names, ("part",) * 4, {INPUT: owner}, {}, {INPUT: view})


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def look(name: str, removal=ZEROS, dtype=torch.float64) -> ap.ModelGame:
    """A game whose value is what reaches the model."""
    x = signal(name).to(dtype)
    see = ap.values.Logit(tuple(range(x[0].numel())))
    players = owning(VIEWS[name], signal(name))
    return asking(Plainly(flat), x, removal, players=players, value=see)


def test_every_view_of_the_table_is_tried() -> None:
    assert {type(view) for view in VIEWS.values()} == set(TABLE.values())


@EACH
def test_synthesis_is_linear_and_undoes_the_analysis(name) -> None:
    view, x, y = VIEWS[name], signal(name), normal(*signal(name).shape, seed=11)
    assert isinstance(view, View)
    a, b = view.analysis(x), view.analysis(y)
    both = 2 * view.synthesis(a, x) - 3 * view.synthesis(b, x)
    close(view.synthesis(2 * a - 3 * b, x), both, atol=1e-12)
    if name != "few atoms":
        close(view.synthesis(a, x), x, atol=1e-12)
    again = view.analysis(view.synthesis(a, x))
    assert torch.allclose(again, a, atol=1e-11)
    stacked = view.analysis(torch.stack([x, y]))  # any number of leading axes
    assert torch.allclose(stacked[1], b, atol=1e-13)


@EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_everybody_present_is_the_input_to_the_last_bit(name, dtype) -> None:
    game = look(name, dtype=dtype)
    x = signal(name).to(dtype)
    for gates in (torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.float64)):
        assert torch.equal(game.value(gates)[0].to(dtype).reshape(x.shape), x)
    assert game.value(soft(4)).isfinite().all()


@EACH
def test_gates_mix_coefficients_with_those_of_the_reference(name) -> None:
    """The slow way: transform, mix every coefficient, transform back; the rest stays."""
    x, view = signal(name), VIEWS[name]
    other = normal(*x.shape, seed=9)
    game = look(name, ap.Blend(ap.removals.counterfactual(other)))
    owner = game.players.owner[INPUT]
    for gates in (some(4), soft(4)):
        for row, seen in zip(gates, game.value(gates), strict=True):
            keep = torch.cat([row.double(), torch.ones(1)])[owner]
            c, ref = view.analysis(x), view.analysis(other)
            rest = x - view.synthesis(c, x)
            expected = view.synthesis(keep * c + (1 - keep) * ref, x) + rest
            close(seen.reshape(x.shape), expected, atol=1e-12)


@EACH
def test_gradients_are_differences_of_values(name) -> None:
    x = signal(name)
    width = x[0].numel()
    model = tiny(lambda: nn.Sequential(nn.Flatten(), nn.Linear(width, 3), nn.Tanh()))
    game = asking(model, x, players=owning(VIEWS[name], x))
    gates = soft(4)
    close(game.grad(gates)[1], central_difference(game, gates), atol=1e-8)


def test_a_view_inside_the_model() -> None:
    """Coordinates of a hidden layer: gates at the same layer's activations, written as a module."""
    model = mlp()
    atoms = torch.linalg.qr(normal(8, 8, seed=3))[0]
    site = ap.Site("1")
    players = Players(
        tuple("abcdefgh"), ("direction",) * 8, {site: torch.arange(8)}, {}, {site: Basis(atoms)}
    )
    turned = nn.Sequential(
        *model[:2], Plainly(lambda h: h @ atoms.T), Plainly(lambda h: h @ atoms), *model[2:]
    )
    plainly = ap.players.neurons(turned, "2", input=X)
    gates = some(8)
    close(
        asking(model, players=players).value(gates),
        asking(turned, players=plainly).value(gates),
        atol=1e-12,
    )


def test_directions_earn_their_coefficient_times_what_the_reader_sees_of_them() -> None:
    """h = sum c_k atom_k + rest, and a linear reader gives direction k c_k (w . atom_k)."""
    model = mlp()[:3]  # the last layer reads `tanh` linearly
    atoms = normal(3, 8, seed=4)
    players = ap.players.directions(model, "1", atoms, ["a", "b", "c"])
    game = asking(model, players=players)
    with torch.no_grad():
        h, w = model[:2](X)[0], model[2].weight[0]
        c = torch.linalg.lstsq(atoms.T, h).solution
    for estimator in (ap.Gradient(), ap.LeaveOneOut()):
        close(ap.attribute(game, estimator).scores, c * (atoms @ w), atol=1e-12)
    nobody = game.value(torch.zeros(1, 3, dtype=torch.bool))[0]
    close(nobody, w @ (h - c @ atoms) + model[2].bias[0], atol=1e-12)  # the rest is always there
    assert same(players.merge([[0], [1], [2]]), players)
    with pytest.raises(ap.BadRequest, match="1 names for 3 directions"):
        ap.players.directions(model, "1", atoms, ["a"])
    with pytest.raises(ap.BadRequest, match="8 entries, the last axis 6"):
        asking(
            nn.Sequential(nn.Identity(), model),
            players=ap.players.directions(nn.Sequential(nn.Identity(), model), "0", atoms),
        )
    with pytest.raises(ap.BadRequest, match="has no layer 'nine'"):
        ap.players.directions(model, "nine", atoms)


def test_noise_lies_on_the_signal_not_on_its_coefficients() -> None:
    view = Fourier()
    jittered = within(view, ap.Jitter(ZEROS, 0.5))
    plainly = ap.Jitter(ZEROS, 0.5)
    keep, seed = torch.tensor(True), torch.tensor([3])
    x = SIGNAL[None]
    assert torch.equal(jittered(x, keep, 0 * x, seed), plainly(x, keep, 0 * x, seed))
    assert jittered.draws is None and (jittered.domain, jittered.reference) == (
        "unit",
        ZEROS.reference,
    )
    assert within(None, ZEROS) is ZEROS
    inner = within(view, ZEROS)
    assert isinstance(inner, Within)
    assert (inner.domain, inner.draws, inner.reference) == ("unit", 1, ZEROS.reference)


def test_players_of_coefficients_stay_so_through_every_change() -> None:
    x = SIGNAL
    players = owning(Fourier(), x)
    changed = (
        players.merge([[0, 1], [2], [3]]), players.only("part"), players.renamed("bin"),
        players | ap.players.columns(X, part="row"), ap.players.columns(X, part="row") | players,
    )  # fmt: skip
    assert all(p.views == {INPUT: Fourier()} for p in changed)
    assert (players | ap.players.columns(X, part="row")).only("column").views == {}
    assert not same(players, replace(players, views={}))
    assert not same(players, replace(players, views={INPUT: Fourier(-2)}))
    assert same(players, replace(players))
    assert "spectrum of the input" in repr(players)


@EACH
def test_views_are_saved_as_plain_facts(name, tmp_path) -> None:
    players = owning(VIEWS[name], signal(name))
    credit = ap.Attribution(normal(4), players)
    assert same(ap.load(credit.save(tmp_path)).players, players)


def test_files_without_views_can_still_be_read() -> None:
    from apportion.files import pack_players, unpack_players

    facts, tensors = pack_players(ap.players.columns(X), "")
    del facts["views"]
    assert unpack_players(facts, tensors, "").views == {}


@dataclass(frozen=True)
class Doubled:
    """A view of somebody's own."""

    name: str = "double"

    def analysis(self, x: Tensor) -> Tensor:
        return 2 * x

    def synthesis(self, coefficients: Tensor, x: Tensor) -> Tensor:
        return coefficients / 2


def test_a_view_of_ones_own_plays_but_is_not_saved(tmp_path) -> None:
    columns = ap.players.columns(X)
    own = replace(columns, views={INPUT: Doubled()})
    gates = some(6)
    close(asking(mlp(), players=own).value(gates), asking(mlp(), players=columns).value(gates))
    with pytest.raises(ap.BadRequest, match=r"Doubled cannot be saved.*views=\{\}"):
        ap.Attribution(normal(6), own).save(tmp_path)


def test_players_without_a_coefficient_to_lose_are_named() -> None:
    """A pure tone has content in one bin; rounding in the others is no content."""
    time = torch.arange(32, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        tone = torch.cos(2 * torch.pi * 3 * time / 32)[None, None].to(dtype)
        model = tiny(lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 1)), dtype)
        game = asking(model, tone, players=ap.players.frequencies(tone))
        (note,) = game.describe().notes
        assert note.startswith("16 of 17 players equal their replacement")
        assert "in the spectrum" in game.describe().removal
    with pytest.raises(ap.BadRequest, match="absence changes nothing"):
        asking(model, 0 * tone, players=ap.players.frequencies(tone))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({ap.Site("other"): Fourier()}, "where no player owns anything"),
        ({INPUT: Fourier}, "is no view"),
    ],
)
def test_views_that_are_none_are_refused(views, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        replace(ap.players.columns(X), views=views)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Basis(torch.ones(2, 2)), "linearly independent"),
        (lambda: Basis(torch.ones(3)), "linearly independent"),
        (lambda: Basis(torch.full((1, 2), torch.nan)), "linearly independent"),
        (lambda: Basis(torch.eye(3)).analysis(X), "3 entries, the last axis 6"),
        (lambda: Wavelets(levels=2).analysis(X), "at most 1 fit"),
        (lambda: Wavelets("bior2.2", 1).analysis(X), "no orthonormal wavelet"),
        (lambda: Wavelets("hear", 1).analysis(X), "no orthonormal wavelet"),
    ],
)
def test_views_that_do_not_fit_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_owners_that_do_not_fit_the_coefficients_are_refused() -> None:
    players = ap.players.frequencies(SIGNAL)
    with pytest.raises(ap.BadRequest, match=r"spectrum of the input.*has \(3, 11\) there"):
        asking(Plainly(flat), normal(1, 3, 20), players=players)
