"""Composites carried layer by layer, each kind of layer by its own rule."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from apportion.backward import TABLE, Rules
from tests.oracles import relevance
from tests.oracles.relevance import Share
from tests.oracles.test_epsilon import conv_net, credit_of
from tests.small import close, normal

EPS: Share = partial(relevance.linear, eps=1e-6)
PLUS, TWO_ONE = (partial(relevance.alpha_beta, alpha=a, beta=b) for a, b in ((1, 0), (2, 1)))
GAMMA: Share = partial(relevance.gamma, g=0.25)


def box(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """z^B of a box from -3 to 3."""
    return relevance.box(x, w, r, torch.full_like(x, -3), torch.full_like(x, 3))


def evenly(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """Each unit's relevance over the places its weights reach, equally."""
    reach = (w != 0).to(w)
    return (reach / reach.sum(1, keepdim=True) * r[:, None]).sum(0)


def check(name: str, rules: Rules, conv: Share, first: Share | None = None) -> None:
    """Convolutions by one rule, linear layers by epsilon, the first by its own; no more is claimed
    than holds.
    """
    model, x = conv_net(), normal(1, 2, 6, 6, seed=4)
    expected = relevance.stack(model, x[0], 1, EPS, conv, first)
    credit = credit_of(model, x, rules)
    # stabilisers of the first layer are left out by hand
    scale = float(expected.abs().max())
    close(credit.scores, expected.sum(0).flatten(), atol=1e-4 * scale)
    assert TABLE[name].name == rules.name and not rules.conserves
    assert abs(float(credit.scores.sum() / credit.full) - 1) > 1e-3
