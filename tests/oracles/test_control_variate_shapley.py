"""Corrections averaged over every sample there could have been, and what the errors are worth."""

from __future__ import annotations

from itertools import combinations, permutations, product

import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.estimators._control import Asked, Proposed, corrected, folded, worth
from apportion.estimators._spectrum import Parts, Surrogate, distances
from apportion.games import toy
from tests.contracts.made import asking
from tests.oracles.slow import any_game, generator, shapley, within_noise
from tests.small import close, mlp, normal

N = 4
SINGLE = [frozenset({i}) for i in range(N)]
HALVES = [frozenset({0, i}) for i in range(1, N)]  # with their complements all of size 2


def asked_of(v, sides: list[frozenset[int]]) -> Asked:
    """These coalitions and their complements."""
    everyone = frozenset(range(N))
    return Asked(
        torch.tensor([[i in s for i in range(N)] for s in sides]),
        torch.tensor([len(s) for s in sides]),
        {1: N, 2: 3},
        torch.tensor([[[v(s)], [v(everyone - s)]] for s in sides], dtype=torch.float64),
        torch.tensor([[v(frozenset())], [v(everyone)]], dtype=torch.float64),
    )


def anything(asked: Asked) -> Proposed:
    """Depends on what was asked in a way that nobody would think of."""
    slopes = (asked.odd[:, 0].square() @ asked.side.double()).sin()[None] * 3
    cubes = asked.values.sum().cos() * 2

    def odd(side: Tensor) -> Tensor:
        signs = 2.0 * side.double() - 1
        third = signs[:, 0] * signs[:, 1] * signs[:, 2]  # its Shapley values are 2/3 each
        return signs @ slopes.T + 2 * cubes * third[:, None]

    known = slopes.clone()
    known[:, :3] += 2 * cubes / 3
    return Proposed(known, odd)


def fixed(asked: Asked) -> Proposed:
    """The same whatever was asked."""
    slopes = torch.tensor([[1.0, -2.0, 0.5, 0.0]], dtype=torch.float64)
    return Proposed(slopes, lambda side: (2.0 * side.double() - 1) @ slopes.T)


def every_sample(v, propose) -> tuple[Tensor, Tensor]:
    """Scores and errors of each way to ask two pairs of both sizes and to fold them."""
    scores, errors = [], []
    halves = [list(c) for c in combinations(HALVES, 2)]
    for one, two in product(combinations(SINGLE, 2), halves):
        for first, second in product(permutations(range(2)), repeat=2):
            fold = torch.tensor([*first, *second])
            found, error, _ = corrected(asked_of(v, [*one, *two]), fold, propose)
            scores.append(found[0])
            errors.append(error[0])
    return torch.stack(scores), torch.stack(errors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("propose", [anything, fixed])
def test_unbiased_whatever_was_proposed(seed, propose) -> None:
    """The mean over all samples and folds is the Shapley value, to rounding."""
    _, v, _ = any_game(N, seed)
    scores, _ = every_sample(v, propose)
    close(scores.mean(0), torch.as_tensor(shapley(v, N)), atol=1e-12)
    assert float(scores.std(0).min()) > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_squared_error_is_unbiased_too(seed) -> None:
    """Its mean over all samples is the variance of the scores over them, for a fixed proposal."""
    _, v, _ = any_game(N, seed)
    scores, errors = every_sample(v, fixed)
    close(errors.square().mean(0), scores.var(0, correction=0), atol=1e-12)


def test_worth_is_the_definition_of_complementary_contributions() -> None:
    """phi_i = (1/n) sum_k mean over coalitions of size k with i of v(S) - v(complement)."""
    for n in (2, 3, 5):
        sides = [
            frozenset(c)
            for size in range(1, n // 2 + 1)
            for c in combinations(range(n), size)
            if 2 * size < n or 0 in c
        ]
        side = torch.tensor([[i in s for i in range(n)] for s in sides])
        weight, everyone = worth(side), frozenset(range(n))
        count = {k: sum(len(s) == k for s in sides) for k in range(1, n)}
        for j, s in enumerate(sides):
            for i in range(n):
                own = s if i in s else everyone - s  # the one of both that holds i
                alike = sum(1 for c in combinations(range(n), len(own)) if i in c)
                sign = 1 if i in s else -1
                expected = sign * count[len(s)] / (n * alike)
                assert float(weight[j, i]) == pytest.approx(expected, rel=1e-12)


def test_folds_share_every_stratum_that_is_not_exhausted() -> None:
    _, v, _ = any_game(N)
    asked = asked_of(v, [*SINGLE, *HALVES[:2]])
    fold = folded(asked, generator(0))
    assert fold[:4].tolist() == [-1] * 4  # every single player was asked
    assert sorted(fold[4:].tolist()) == [0, 1]


@pytest.mark.parametrize("proposal", [p for p in ap.Proposal if p is not ap.Proposal.GRADIENT])
def test_unbiased_on_a_game_without_structure(proposal) -> None:
    game, v, _ = any_game(6, seed=2)
    truth = torch.as_tensor(shapley(v, 6))
    estimator = ap.ControlVariateShapley(samples=34, proposal=proposal)
    within_noise(
        torch.stack([ap.attribute(game, estimator, seed=s).scores - truth for s in range(100)])
    )


@pytest.mark.parametrize("proposal", ap.Proposal)
@pytest.mark.parametrize("samples", [32, 100])
def test_exact_from_all_coalitions_on(proposal, samples) -> None:
    game = toy.moebius(5, 5, generator(3))
    credit = ap.attribute(game, ap.ControlVariateShapley(samples=samples, proposal=proposal))
    close(credit.scores, game.shapley(), atol=1e-12)
    assert float(credit.error.max()) == 0
    assert credit.cost.evaluations == 32


@pytest.mark.parametrize("proposal", ap.Proposal)
def test_a_game_that_is_what_was_proposed_leaves_no_error(proposal) -> None:
    """Games of order one and two, whose v(S) - v(complement) is additive, for all but the empty
    proposal; not those of order three.
    """
    fits = {ap.Proposal.NONE: 0}
    for order in (1, 2, 3):
        game = toy.moebius(9, order, generator(order))
        credit = ap.attribute(game, ap.ControlVariateShapley(samples=80, proposal=proposal))
        missed = float((credit.scores - game.shapley()).abs().max())
        if order <= fits.get(proposal, 2):
            assert missed < 1e-6
            hidden = 1e-4 if proposal is ap.Proposal.SURROGATE and order > 1 else 1e-9
            assert float(credit.error.max()) < hidden  # the surrogate's rounding is in its error
        else:
            assert missed > 1e-4
            assert float(credit.error.max()) > 1e-4


@pytest.mark.parametrize("proposal", ap.Proposal)
def test_the_error_is_what_it_says(proposal) -> None:
    """Mean squared error over seeds, beside the squared error that each answer tells of itself."""
    game = toy.moebius(9, 3, generator(6))
    estimator = ap.ControlVariateShapley(samples=120, proposal=proposal)
    found = [ap.attribute(game, estimator, seed=s) for s in range(60)]
    missed = torch.stack([credit.scores - game.shapley() for credit in found]).square().mean()
    told = torch.stack([credit.error for credit in found]).square().mean()
    assert 0.75 < float(missed / told) < 1.33


def test_the_better_the_proposal_the_smaller_the_error() -> None:
    """On a network: nothing, its slopes, a linear fit, a surrogate of all orders."""
    game = asking(mlp(inputs=10), 3 * normal(1, 10, seed=5))
    kinds = (ap.Proposal.NONE, ap.Proposal.GRADIENT, ap.Proposal.LINEAR, ap.Proposal.SURROGATE)
    error = [
        float(ap.attribute(game, ap.ControlVariateShapley(samples=200, proposal=p)).error.mean())
        for p in kinds
    ]
    assert error[3] < error[2] < error[0]
    assert error[1] < error[0]


def test_one_gradient_proposes_and_a_hard_game_has_none() -> None:
    estimator = ap.ControlVariateShapley(samples=40, proposal=ap.Proposal.GRADIENT)
    assert ap.attribute(toy.moebius(5, 3, generator(0)), estimator).cost.gradients == 1
    with pytest.raises(ap.NotSoft, match="GRADIENT"):
        ap.attribute(toy.additive(normal(5), domain="binary"), estimator)


def test_the_surrogate_predicts_as_the_dense_regression_does() -> None:
    """Expected v(S) - v(complement), from the whole covariance matrix with the constant free."""
    n = 5
    every = torch.tensor([[bool(k >> i & 1) for i in range(n)] for k in range(2**n)])
    rows, values = every[::3], normal(len(every[::3]), seed=8).double()
    fit = Surrogate.fitted(Parts.of(n), rows, values, len(rows))
    table = fit.shares @ fit.parts.tables
    ones = torch.ones(len(rows), dtype=torch.float64)
    inverse = torch.linalg.inv(table[distances(rows, rows)])
    mean = ones @ inverse @ values / (ones @ inverse @ ones)
    expected = mean + table[distances(every, rows)] @ inverse @ (values - mean)
    close(fit.odd(every), expected - expected.flip(0), atol=1e-9)


@pytest.mark.parametrize("samples", [8, 20])
def test_too_few_samples_name_the_fewest(samples) -> None:
    with pytest.raises(ap.BadRequest, match="minimum is 22"):
        ap.ControlVariateShapley(samples=samples).cost(6)
    fewest = ap.ControlVariateShapley(samples=22)
    assert ap.attribute(any_game(6)[0], fewest).cost.evaluations == 22


def test_stops_at_the_precision_asked() -> None:
    game = toy.moebius(9, 3, generator(6))
    early = ap.ControlVariateShapley(samples=500, until=ap.StandardError(0.05))
    credit = ap.attribute(game, early)
    assert credit.cost.evaluations < 500
    assert float(credit.error.max()) <= 0.05


@pytest.mark.parametrize("samples", [46, 54, 66])
def test_no_seed_is_refused_and_few_samples_know_how_few_they_are(samples) -> None:
    """At the fewest samples and a little above: strata of two pairs have one degree of freedom."""
    game = toy.moebius(12, 3, generator(2))
    inside = []
    for proposal in (ap.Proposal.LINEAR, ap.Proposal.NONE):
        for seed in range(60):
            estimator = ap.ControlVariateShapley(samples=samples, proposal=proposal)
            credit = ap.attribute(game, estimator, seed=seed)
            inside.append((credit.scores - game.shapley()).abs() <= credit.reach * credit.error)
    # 120 answers are independent, their players are not
    slack = 2.6 * (0.05 * 0.95 / 120) ** 0.5
    assert abs(float(torch.stack(inside).double().mean()) - 0.95) <= slack
