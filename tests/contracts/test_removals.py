"""Every meaning of absence: present elements stay as they are, bit for bit; absent ones become the
reference.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import apportion as ap
from apportion.removals import TABLE, Reference, Removal
from apportion.removals.references import gaussian_blur
from apportion.taps import Call
from tests.contracts.made import HIDDEN, Plainly, asking, hard, soft, some
from tests.small import close, mlp, normal

PICTURE = normal(2, 2, 8, 8, seed=1)  # two instances
OTHER, POOL = normal(2, 2, 8, 8, seed=2), normal(5, 2, 8, 8, seed=3)
NONE = torch.zeros(1, dtype=torch.long)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """scipy's Gaussian over the last two axes, borders repeated."""
    axes = (0,) * (x.ndim - 2) + (sigma, sigma)
    return torch.from_numpy(gaussian_filter(x.numpy(), axes, mode="nearest"))


def per_channel(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(1, 2, 1, 1)


def drawn(d: int) -> Tensor:
    """The normal numbers of draw d, which the two instances share."""
    return torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(d)).double()


# reference, and by another way what it puts in place of the picture in draw d
ROWS = {
    "zeros": (ap.removals.zeros(), lambda d: torch.zeros_like(PICTURE)),
    "constant": (ap.removals.constant(0.7), lambda d: torch.full_like(PICTURE, 0.7)),
    "mean": (ap.removals.mean(POOL), lambda d: POOL.mean(0).expand_as(PICTURE)),
    "blur": (ap.removals.blur(1.5), lambda d: blurred(PICTURE, 1.5)),
    "rows": (ap.removals.rows(POOL), lambda d: POOL[d].expand_as(PICTURE)),
    "resample": (ap.removals.resample(POOL), lambda d: POOL[d % 5].expand_as(PICTURE)),
    "counterfactual": (ap.removals.counterfactual(OTHER), lambda d: OTHER),
    "noisy": (ap.removals.noisy(0.3), lambda d: PICTURE + 0.3 * drawn(d)),
    "noise": (
        ap.removals.noise((0.3, 2.0), mean=(0.0, 5.0)),
        lambda d: (drawn(d) * per_channel(0.3, 2.0) + per_channel(0.0, 5.0)).expand_as(PICTURE),
    ),
    "step": (ap.removals.step(0.5), lambda d: PICTURE - 0.5),
}
EACH = pytest.mark.parametrize("name", list(TABLE))
DRAWS = {"rows": 5, "resample": None, "noisy": None, "noise": None}


def test_every_row_has_a_meaning() -> None:
    assert ROWS.keys() == TABLE.keys()


def look(name: str, *, jitter: float = 0.0) -> ap.ModelGame:
    """A game whose value is the picture that reaches the model: 128 outputs per instance."""
    removal: Removal = ap.Blend(ROWS[name][0])
    removal = ap.Jitter(removal, jitter) if jitter else removal
    players = ap.players.pixels(PICTURE)
    see = Plainly(lambda x: x.flatten(1))
    value = ap.values.Logit(tuple(range(128)))
    return asking(see, PICTURE, removal, players=players, value=value)


def seen(game: ap.ModelGame, gates: Tensor, draw: int = 0) -> Tensor:
    """What the model saw, (row, instance, channel, height, width)."""
    states = None if game.draws == 1 else torch.full((len(gates),), draw)
    return game.value(gates, states).unflatten(-1, (2, 8, 8))


@EACH
def test_declares_its_draws_and_reference(name) -> None:
    reference = ROWS[name][0]
    removal = ap.Blend(reference)
    assert isinstance(reference, Reference) and isinstance(removal, Removal)
    assert (removal.domain, removal.reference) == ("unit", reference)
    assert removal.draws == DRAWS.get(name, 1)
    assert reference.absence == (name != "step")
    assert repr(reference).startswith(name) and name in repr(removal)


@EACH
@pytest.mark.parametrize("draw", [0, 3])
def test_hard_gates_choose_between_the_input_and_the_reference(name, draw) -> None:
    game = look(name)
    gates = some(64)
    gates[0] = True
    expected = torch.where(gates.reshape(-1, 1, 1, 8, 8), PICTURE, ROWS[name][1](draw).to(PICTURE))
    close(seen(game, gates, draw), expected, atol=1e-12)
    everyone = seen(game, torch.ones(1, 64, dtype=torch.bool), draw)[0]
    assert torch.equal(everyone, PICTURE)


@EACH
def test_soft_gates_mix_in_proportion(name) -> None:
    game = look(name)
    gates = soft(64)
    g = gates.reshape(-1, 1, 1, 8, 8)
    close(seen(game, gates, 2), g * PICTURE + (1 - g) * ROWS[name][1](2), atol=1e-12)
    ends = torch.ones(1, 64, dtype=torch.float64)
    assert torch.equal(seen(game, ends, 2)[0], PICTURE)


@EACH
def test_nobody_present_is_the_reference_and_undefined_where_that_is_no_absence(name) -> None:
    game, nobody = look(name), torch.zeros(2, 64, dtype=torch.bool)
    if name != "step":
        close(seen(game, nobody, 4)[0], ROWS[name][1](4), atol=1e-12)
        return
    for gates in (nobody, nobody.double()):
        with pytest.raises(
            ap.BadRequest, match=r"undefined under step\(0\.5\).*Blend\(zeros\(\)\)"
        ):
            game.value(gates)
        with pytest.raises(ap.BadRequest, match="undefined"):
            game.grad(gates)
    one = hard("1" + "0" * 63)
    assert game.value(one).isfinite().all()  # somebody is present


@EACH
def test_a_blend_is_where_for_hard_and_a_line_for_soft_gates(name) -> None:
    """Called directly, on tensors of any precision: the answer has that of the input."""
    removal = ap.Blend(ROWS[name][0])
    keep = some(64, rows=1).reshape(1, 1, 1, 8, 8)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x, absent = PICTURE[None].to(dtype), OTHER[None]
        out = removal(x, keep, absent, NONE)
        assert out.dtype == dtype
        assert torch.equal(out, torch.where(keep, x, absent.to(dtype)))
        half = removal(x, torch.full((1, 1, 1, 1, 1), 0.25), absent, NONE)
        assert half.dtype == dtype
        wide = 0.25 * x.double() + 0.75 * absent
        close(half, wide, atol=0.02 if dtype == torch.bfloat16 else 1e-6)


# -- single references


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.5, 10.0])
@pytest.mark.parametrize("shape", [(1, 3, 11, 7), (2, 5, 9), (1, 2, 3, 6, 1)])
def test_blur_is_the_gaussian_filter_of_scipy(sigma, shape) -> None:
    x = normal(*shape)
    close(gaussian_blur(x, sigma), blurred(x, sigma), atol=1e-12)
    narrow = gaussian_blur(x.half(), sigma)
    assert narrow.dtype == torch.float16
    close(narrow, blurred(x, sigma), atol=5e-3)


def test_blur_keeps_the_mean_level_of_a_flat_picture() -> None:
    flat = torch.full((1, 1, 6, 6), 3.25)
    close(gaussian_blur(flat, 2.0), flat, atol=1e-6)


def test_pools_are_tensors_or_lists_of_inputs() -> None:
    as_list = [list(map(float, row)) for row in np.arange(12.0).reshape(2, 6)]
    tensor = torch.tensor(as_list)
    for build in (ap.removals.mean, ap.removals.rows, ap.removals.resample):
        assert torch.equal(build(as_list).rows, tensor)
        assert torch.equal(build(list(tensor)).rows, tensor)
        assert torch.equal(build(tuple(tensor)).rows, tensor)
        assert build(tensor).size == 2


@pytest.mark.parametrize("build", [ap.removals.mean, ap.removals.rows, ap.removals.resample])
@pytest.mark.parametrize(
    "rows",
    [
        torch.zeros(0, 6),
        [],
        torch.tensor(1.0),
        [torch.zeros(6), torch.zeros(5)],
        ["a", "b"],
        torch.full((2, 6), float("nan")),
    ],
    ids=["no row", "nothing", "a number", "ragged", "words", "nan"],
)
def test_pools_that_hold_no_inputs_are_refused(build, rows) -> None:
    with pytest.raises(ap.BadRequest, match=build.__name__):
        build(rows)


def test_a_pool_drops_none_of_its_rows() -> None:
    """Tensors and plain lists may not stand side by side and lose one another."""
    given = [torch.zeros(3), [1.0, 2.0, 3.0]]
    try:
        kept = ap.removals.mean(given).rows
    except ap.BadRequest:
        kept = torch.zeros(2, 3)  # refusing is as good
    assert len(kept) == 2


@pytest.mark.parametrize("build", [ap.removals.mean, ap.removals.rows, ap.removals.resample])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_users_background_is_read_and_never_written(build, dtype) -> None:
    x, pool = PICTURE[:1].to(dtype), POOL.to(dtype)
    before = pool.clone()
    game = asking(
        Plainly(lambda x: x.flatten(1)), x, ap.Blend(build(pool)), players=ap.players.pixels(x)
    )
    states = None if game.draws == 1 else torch.tensor([0, 3])
    game.value(torch.zeros(2, 64, dtype=torch.bool), states)
    game.grad(torch.full((2, 64), 0.5), states)
    assert torch.equal(pool, before)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.removals.step(0), r"step\(1\.0\)"),
        (lambda: ap.removals.step(float("nan")), "step"),
        (lambda: ap.removals.step(float("inf")), "step"),
        (lambda: ap.removals.constant(float("nan")), "constant"),
        (lambda: ap.removals.constant(float("inf")), "constant"),
        (lambda: ap.removals.blur(0), "must be positive"),
        (lambda: ap.removals.blur(-1), "must be positive"),
        (lambda: ap.removals.blur(float("nan")), "must be positive"),
        (lambda: ap.removals.blur(float("inf")), "blur"),
        (lambda: ap.Jitter(ap.Blend(ap.removals.zeros()), 0), "standard deviation; it must be"),
        (lambda: ap.Jitter(ap.Blend(ap.removals.zeros()), float("nan")), "positive"),
        (lambda: ap.Jitter(ap.Blend(ap.removals.zeros()), float("inf")), "Jitter"),
        (lambda: gaussian_blur(torch.zeros(1, 6), 1.0), "float picture"),
        (lambda: gaussian_blur(torch.zeros(1, 6, 6).long(), 1.0), "float picture"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_references_of_another_shape_are_refused_when_they_are_needed() -> None:
    call = Call.of(PICTURE)
    for reference in (
        ap.removals.counterfactual(OTHER[..., :7]),
        ap.removals.mean(POOL[:, :, :7]),
        ap.removals.rows(POOL[:, :1]),
    ):
        with pytest.raises(ap.BadRequest, match="Align them"):
            reference.inputs(call, 0)


def test_a_unit_step_makes_gate_slopes_plain_gradients() -> None:
    """Also inside the model, and in proportion to its size."""
    model, x = mlp(), normal(1, 6)
    leaf = x.clone().requires_grad_()
    hidden = model[0](leaf)
    by_input = torch.autograd.grad(model[1:](hidden)[0, 0], leaf, retain_graph=True)[0]
    by_hidden = torch.autograd.grad(model[1:](hidden)[0, 0], hidden)[0]
    for size in (1.0, 0.25):
        removal = ap.Blend(ap.removals.step(size))
        one = torch.ones(1, 6, dtype=torch.float64)
        close(asking(model, x, removal).grad(one)[1], size * by_input, atol=1e-12)
        inside = asking(model, x, removal, players=ap.players.neurons(model, HIDDEN))
        one = torch.ones(1, 8, dtype=torch.float64)
        close(inside.grad(one)[1], size * by_hidden, atol=1e-12)


# -- noise


def test_jitter_adds_gaussian_noise_of_the_given_size_after_the_removal() -> None:
    game, sigma = look("zeros", jitter=0.3), 0.3
    assert game.draws is None
    gates = some(64, rows=1).expand(400, 64)
    kept = torch.where(gates[:1].reshape(1, 1, 1, 8, 8), PICTURE, 0.0)
    values = game.value(gates, torch.arange(400)).unflatten(-1, (2, 8, 8))
    noise = (values - kept)[:, 0].flatten(1)
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 * sigma / count**0.5
    assert abs(float(noise.std()) / sigma - 1) < 4 / (2 * count) ** 0.5
    assert float(torch.corrcoef(noise.T).fill_diagonal_(0).abs().max()) < 5.5 / 400**0.5
    fourth = float((noise / sigma).pow(4).mean())
    assert abs(fourth - 3) < 4 * (96 / count) ** 0.5  # as a normal distribution has


def test_the_same_draw_is_the_same_noise_for_every_coalition_and_instance() -> None:
    game = look("zeros", jitter=0.3)
    gates = some(64, rows=3)
    kept = torch.where(gates.reshape(3, 1, 1, 8, 8), PICTURE, 0.0)
    noise = game.value(gates, torch.tensor([7, 7, 8])).unflatten(-1, (2, 8, 8)) - kept
    close(noise[0], noise[1], atol=1e-12)
    close(noise[:, 0], noise[:, 1], atol=1e-12)
    assert float((noise[0] - noise[2]).abs().max()) > 0.1
    close(look("zeros", jitter=0.6).value(gates, torch.tensor([7, 7, 8])).unflatten(-1, (2, 8, 8))
          - kept, 2 * noise, atol=1e-12)  # fmt: skip


def test_the_noise_at_two_sites_is_not_the_same() -> None:
    removal = ap.Jitter(ap.Blend(ap.removals.zeros()), 1.0)
    first, second = torch.nn.Identity(), torch.nn.Identity()
    model = torch.nn.Sequential(first, second)
    x = normal(1, 6)
    players = ap.players.neurons(model, "0", input=x) | ap.players.neurons(model, "1", input=x)
    game = asking(model, x, removal, players=players, value=ap.values.Logit(tuple(range(6))))
    everyone = torch.ones(2, 12, dtype=torch.bool)
    both = game.value(everyone, torch.tensor([0, 1])) - x
    one = asking(model, x, removal, players=ap.players.neurons(model, "0", input=x),
                 value=game.question.value)  # fmt: skip
    alone = one.value(everyone[:, :6], torch.tensor([0, 1])) - x
    assert float((both - 2 * alone).abs().max()) > 0.1


@EACH
def test_noise_comes_on_top_of_any_reference(name) -> None:
    game, calm = look(name, jitter=0.1), look(name)
    gates = some(64)
    noise = seen(game, gates, 3) - seen(calm, gates, 3)
    assert 0 < float(noise.abs().max()) < 0.1 * 6
    close(
        noise, (seen(look("zeros", jitter=0.1), gates, 3) - seen(look("zeros"), gates)), atol=1e-9
    )
