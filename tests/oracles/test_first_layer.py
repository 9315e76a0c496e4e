"""Rules of the first layer equal their definitions; what a gate gets is relevance itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import Rules, epsilon, flat, gamma, w_square, z_box
from tests.oracles import relevance
from tests.oracles.composites import evenly
from tests.oracles.test_epsilon import conv_net, credit_of
from tests.small import close, mlp, normal

LOW, HIGH = -3.0, 2.5


def box(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    low, high = (torch.full_like(x, bound) for bound in (LOW, HIGH))
    return relevance.box(x, w, r, low, high)


def squared(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    share = w.square()
    return (share / share.sum(1, keepdim=True) * r[:, None]).sum(0)


FIRST: dict[str, tuple[Rules, Callable[..., Tensor]]] = {
    "box": (z_box(LOW, HIGH, 0), box),
    "flat": (flat(0), evenly),
    "squared": (w_square(0), squared),
}


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_a_network_of_layers_by_its_definition(name, act) -> None:
    rules, by_hand = FIRST[name]
    model, x = mlp(act=act), normal(1, 6, seed=1)
    x[0, 2] = 0  # no gradient times input could reach this one
    upper = partial(relevance.linear, eps=1e-3)
    expected = relevance.stack(model, x[0], 1, upper, first=by_hand)
    close(credit_of(model, x, epsilon(1e-3) | rules).scores, expected, atol=1e-12)
    assert abs(float(expected[2])) > 1e-9


@pytest.mark.parametrize("name", FIRST)
def test_convolutions_by_their_matrices(name) -> None:
    rules, by_hand = FIRST[name]
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4).clamp(LOW, HIGH)
    upper = partial(relevance.gamma, g=0.25)
    expected = relevance.stack(model, x[0], 1, upper, first=by_hand)
    scores = credit_of(model, x, gamma(0.25) | rules).scores
    close(scores, expected.sum(0).flatten(), atol=1e-12)


@pytest.mark.parametrize("name", FIRST)
def test_relevance_of_the_first_layer_is_handed_on_whole(name) -> None:
    """Biases of the first layer take no share, so its inputs sum to what its outputs had."""
    rules, _ = FIRST[name]
    model, x = mlp(act=nn.Tanh), normal(1, 6, seed=1)
    units = ap.players.neurons(model, "0", input=x)
    table = epsilon(1e-9) | rules
    game = ap.ModelGame(model, x, ap.values.Logit(1), units, ap.Blend(ap.removals.zeros()))
    above = ap.attribute(game.under(table), ap.Gradient()).scores.sum()
    close(credit_of(model, x, table).scores.sum(), above)


@pytest.mark.parametrize("name", FIRST)
def test_relevance_does_not_depend_on_the_removal(name) -> None:
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    players, value = ap.players.columns(x), ap.values.Logit(1)
    references = [
        ap.removals.zeros(), ap.removals.counterfactual(normal(1, 6, seed=2)), ap.removals.step(1.0)
    ]  # fmt: skip
    games = [ap.ModelGame(model, x, value, players, ap.Blend(r)) for r in references]
    table = epsilon() | FIRST[name][0]
    one, *others = (ap.attribute(g.under(table), ap.Gradient()).scores for g in games)
    for other in others:
        close(other, one, atol=1e-14)


def test_a_box_per_channel() -> None:
    """Bounds broadcast to the input; a box of one channel is that of its matrix's columns."""
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4).clamp(-2, 2)
    low, high = torch.tensor([-2.0, -4.0]), torch.tensor([2.0, 3.0])
    wide = [b.repeat_interleave(36).double() for b in (low, high)]

    def by_hand(a: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
        return relevance.box(a, w, r, *wide)

    upper = partial(relevance.gamma, g=0.25)
    expected = relevance.stack(model, x[0], 1, upper, first=by_hand).sum(0).flatten()
    bounds = [b[:, None, None] for b in (low, high)]
    close(credit_of(model, x, gamma() | z_box(*bounds, 0)).scores, expected, atol=1e-12)
    with pytest.raises(ap.BadRequest, match=r"bound of shape \(5,\) does not fit"):
        credit_of(model, x, z_box(torch.zeros(5) - 9, 9.0))


class Moved(nn.Module):
    """Puts the elements of its input elsewhere before the first layer reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(act=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 6 and x.dtype == torch.float64
        left, right = x.view(-1, 2, 3).transpose(0, 1).contiguous().clone()
        return self.body[2:](self.body[1](F.linear(left, self.body[0].weight[:, :3])
                                          + F.linear(right, self.body[0].weight[:, 3:],
                                                     self.body[0].bias)))  # fmt: skip


def test_elements_may_move_before_the_first_layer() -> None:
    """Two layers read a part each: their relevance adds up at the gates."""
    x = normal(1, 6, seed=1)
    model = Moved()
    credit = credit_of(model, x, epsilon(0) | w_square(0))
    left, right = x[0, :3], x[0, 3:]
    w = model.body[0].weight.detach()
    h = [w[:, :3] @ left, w[:, 3:] @ right + model.body[0].bias.detach()]
    z = h[0] + h[1]
    above = relevance.stack(model.body[2:], z.relu(), 1, relevance.linear)
    # of a sum: in proportion to the summands
    parts = [squared(a, m, z, above * part / z) for a, m, part in (
        (left, w[:, :3], h[0]), (right, w[:, 3:], h[1]))]  # fmt: skip
    close(credit.scores, torch.cat(parts), atol=1e-12)


@pytest.mark.parametrize("name", FIRST)
def test_zeros_around_the_input_are_the_padding_of_the_layer(name) -> None:
    """Put there by the model in two steps, or by the first convolution: the same relevance."""
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4).clamp(LOW, HIGH)
    apart = copy.deepcopy(model)
    apart[0].padding = (0, 0)
    apart = nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), nn.ZeroPad2d((0, 1, 1, 0)), apart)
    table = gamma(0.25) | FIRST[name][0]
    close(credit_of(apart, x, table).scores, credit_of(model, x, table).scores, atol=1e-14)


@pytest.mark.parametrize(
    "change",
    [lambda x: F.pad(x, (1, 0), value=2.0)[:, :6], lambda x: x - 1, lambda x: x / 2, torch.tanh],
)
def test_a_model_that_changes_its_input_first_is_refused(change) -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(change(x))

    rules = z_box(LOW, HIGH)  # no activations in it
    with pytest.raises(ap.BadRequest, match=r"the model first changes its input by .*Move that"):
        credit_of(Normalised(), normal(1, 6, seed=1), rules)


def test_a_first_layer_of_another_kind_keeps_its_rule() -> None:
    """A box for convolutions does nothing to a network without them."""
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    table = epsilon() | z_box(LOW, HIGH).only(ap.backward.CONVOLUTIONS)
    close(credit_of(model, x, table).scores, credit_of(model, x, epsilon()).scores, atol=0)


def test_sites_behind_the_first_layer_are_as_without_it() -> None:
    model, x = mlp(act=nn.ReLU), normal(1, 6, seed=1)
    units = ap.players.neurons(model, "1", input=x)
    game = ap.ModelGame(model, x, ap.values.Logit(1), units, ap.Blend(ap.removals.zeros()))
    one, other = (
        ap.attribute(game.under(t), ap.Gradient()).scores for t in (epsilon(), epsilon() | flat())
    )
    close(one, other, atol=0)


def test_an_input_outside_its_box_is_refused() -> None:
    with pytest.raises(ap.BadRequest, match="elements of the input lie outside the box"):
        credit_of(mlp(), normal(1, 6, seed=1), epsilon() | z_box(0.0, 1.0))
    with pytest.raises(ap.BadRequest, match="must not be negative"):
        flat(-1.0)
