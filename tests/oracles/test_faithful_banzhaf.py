"""Faithful Banzhaf interactions as the plain least-squares fit to all coalitions."""

from __future__ import annotations

import pytest
import torch

import apportion as ap
from tests.oracles import sets
from tests.oracles.slow import any_game
from tests.small import close


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_best_fit_to_all_coalitions_alike(order) -> None:
    game, v, _ = any_game(sets.N)
    found = ap.attribute(game, ap.FaithfulBanzhaf(order=order))
    fit = sets.best_fit(v, order, lambda size: 1.0, ends=False)
    close(found.scores, torch.tensor(fit))


def test_the_top_order_is_the_banzhaf_interaction() -> None:
    game, _, _ = any_game(sets.N)
    for order in (1, 2, 3):
        faithful = ap.attribute(game, ap.FaithfulBanzhaf(order=order)).of(order)
        plain = ap.attribute(game, ap.BanzhafInteractions(order=order)).of(order)
        close(faithful.scores, plain.scores)
