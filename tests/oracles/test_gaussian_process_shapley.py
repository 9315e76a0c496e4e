"""The surrogate's Shapley values by enumeration, its variances by likelihood, its design by brute
force, and what its intervals are worth.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.estimators import _spectrum
from apportion.estimators._optimal import FALLING, FREE, REST, chosen
from apportion.estimators._spectrum import Parts, distances, fit_shares, krawtchouk, posterior
from apportion.games import toy
from tests.oracles.slow import any_game, generator, shapley, subsets
from tests.small import close, normal


def gates_of_all(n: int) -> Tensor:
    return torch.tensor([[i in s for i in range(n)] for s in subsets(n)])


def functional(n: int) -> Tensor:
    """Shapley values as a matrix on the 2^n values, column by column from the definition."""
    sets = subsets(n)
    columns = [shapley(lambda s, one=one: float(s == one), n) for one in sets]
    return torch.as_tensor(np.array(columns)).T


def dense(parts: Parts, shares: Tensor, n: int) -> Tensor:
    every = gates_of_all(n)
    return (shares @ parts.tables)[distances(every, every)]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_parts_are_sums_of_products_of_signs(n) -> None:
    """Kr_k(distance) = mean over sets W of size k of the product of both coalitions' signs on W."""
    every = gates_of_all(n)
    signs = 2.0 * every.double() - 1
    table = krawtchouk(n, n)
    for k in range(n + 1):
        terms = torch.stack([signs[:, list(w)].prod(-1) for w in combinations(range(n), k)], 1)
        close(table[k][distances(every, every)], terms @ terms.T / terms.shape[1], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_shapley_values_of_each_part_in_closed_form(n) -> None:
    """Covariance of every value with every score, and variance of a score, by enumeration."""
    parts, rule, every = Parts.of(n), functional(n), gates_of_all(n)
    for k, unit in enumerate(torch.eye(len(parts.tables)).double()):
        covariance = dense(parts, unit, n)
        close(parts.reach(unit, every), covariance @ rule.T, atol=1e-12)
        close(parts.spread[k].expand(n), (rule @ covariance @ rule.T).diagonal(), atol=1e-12)


@pytest.mark.parametrize(("n", "rows"), [(4, 12), (6, 40)])
def test_scores_and_errors_are_those_of_the_expected_game(n, rows) -> None:
    """The whole game conditioned on the values asked, by the kriging equations, which keep the
    constant free with a multiplier; then its Shapley values by enumeration.
    """
    parts, every, rule = Parts.of(n), gates_of_all(n), functional(n)
    values = toy.moebius(n, 4, generator(3)).value(every) + 0.1 * normal(2**n, seed=1)
    asked = torch.randperm(2**n, generator=generator(n))[:rows]
    values = values / 2 ** values[asked].std().log2().round()  # the unit its fit works in
    got = posterior(parts, every[asked], values[asked], rows)
    shares = fit_shares(parts, distances(every[asked], every[asked]), values[asked])
    prior = dense(parts, shares, n)
    system = torch.ones(rows + 1, rows + 1).double()
    system[-1, -1] = 0
    system[:rows, :rows] = prior[asked][:, asked]
    right = torch.cat([prior[asked], torch.ones(1, 2**n).double()])
    solved = torch.linalg.solve(system, right)
    close(got.scores, rule @ solved[:rows].T @ values[asked], atol=1e-7)
    left = (rule @ (prior - right.T @ solved) @ rule.T).diagonal()
    ratio = got.error / left.sqrt()  # one factor for all, from the coalitions left out
    close(ratio, ratio.mean().expand(n), atol=1e-3)
    assert float(ratio.min()) > 0.99


def test_held_out_error_is_that_of_fits_without_one_coalition() -> None:
    n, parts = 6, Parts.of(6)
    asked = chosen(n, 36, generator(0))
    values = toy.moebius(n, 4, generator(1)).value(asked)
    got = posterior(parts, asked, values, 36)
    shares = fit_shares(parts, distances(asked, asked), values)
    prior = (shares @ parts.tables)[distances(asked, asked)] + 1e6 * values.var()
    missed = []
    for one in range(36):
        kept = [i for i in range(36) if i != one]
        weights = torch.linalg.solve(prior[kept][:, kept], prior[kept][:, one])
        missed.append(values[one] - weights @ values[kept])
    rmse = torch.stack(missed).square().mean().sqrt() / values.std()
    assert got.held_out == pytest.approx(float(rmse), rel=1e-3)


def test_fitting_never_lowers_the_restricted_likelihood(monkeypatch) -> None:
    n, parts = 8, Parts.of(8)
    asked = chosen(n, 80, generator(2))
    values = toy.moebius(n, 3, generator(5)).value(asked) + 0.05 * normal(80, seed=4)
    ones = torch.ones(80).double()

    def likelihood(shares: Tensor) -> float:
        k = (shares @ parts.tables)[distances(asked, asked)]
        inverse = torch.linalg.inv(k)
        weight = ones @ inverse @ ones
        p = inverse - torch.outer(inverse @ ones, ones @ inverse) / weight
        return float(-(torch.logdet(k) + weight.log() + values @ p @ values) / 2)

    found = []
    for steps in (1, 2, 4, 8, 16, 50):
        monkeypatch.setattr(_spectrum, "STEPS", steps)
        found.append(likelihood(fit_shares(parts, distances(asked, asked), values)))
    assert all(b > a - 1e-2 for a, b in pairwise(found)), found
    assert found[-1] > found[0] + 5


def test_the_shares_tell_in_what_sizes_players_interact() -> None:
    """Games drawn with known parts: 60 % alone, 30 % in up to threes, 10 % without structure."""
    n, parts = 8, Parts.of(8)
    truth = torch.tensor([0.6, 0, 0.3, 0, 0, 0, 0.1]).double()
    asked = gates_of_all(n)[torch.randperm(256, generator=generator(1))[:200]]
    root = torch.linalg.cholesky(dense(parts, truth + 1e-9, n))
    every = {tuple(row): i for i, row in enumerate(gates_of_all(n).tolist())}
    rows = [every[tuple(row)] for row in asked.tolist()]
    found = [
        posterior(parts, asked, (root @ normal(256, seed=s))[rows], 200).orders for s in range(12)
    ]
    mean = torch.stack(found).mean(0)
    close(mean, truth @ parts.orders, atol=0.1)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_exact_from_all_coalitions_on(n) -> None:
    game, v, _ = any_game(n, seed=n)
    truth = torch.as_tensor(shapley(v, n))
    for samples in (2**n, 3 * 2**n):
        credit = ap.attribute(game, ap.GaussianProcessShapley(samples=samples))
        close(credit.scores, truth)
        close(credit.error, torch.zeros(n), atol=0)
        assert credit.cost.evaluations == 2**n
    if n > 3:
        short = ap.attribute(game, ap.GaussianProcessShapley(samples=2**n - 1))
        assert float((short.scores - truth).abs().max()) > 1e-4


@pytest.mark.parametrize("n", [9, 10])
def test_exact_for_order_three_with_more_samples_than_sets(n) -> None:
    """As many equations as unknowns, and the variance of larger sets is found to be none."""
    unknown = 1 + n + math.comb(n, 2) + math.comb(n, 3)
    for seed in range(6):
        game = toy.moebius(n, 3, generator(seed))
        for samples, exact in ((unknown + unknown // 4, True), (unknown // 3, False)):
            estimator = ap.GaussianProcessShapley(samples=samples)
            off = ap.attribute(game, estimator, seed=seed).scores - game.shapley()
            assert (float(off.abs().max()) < 1e-5) == exact
    four = toy.moebius(n, 4, generator(0))
    credit = ap.attribute(four, ap.GaussianProcessShapley(samples=unknown + unknown // 4))
    assert float((credit.scores - four.shapley()).abs().max()) > 1e-4


@pytest.mark.parametrize("n", [5, 8])
def test_the_first_coalitions_determine_games_of_order_three(n) -> None:
    """Ends, single players, all but one, and pairs: the Shapley value of every product of up to
    three signs is one and the same weighted sum of these values.
    """
    count = 2 + 2 * n + n * (n - 1) // 2
    asked = chosen(n, 2 * count, generator(0))[:count]
    signs, every = 2.0 * asked.double() - 1, 2.0 * gates_of_all(n).double() - 1
    small = [w for size in range(4) for w in combinations(range(n), size)]
    design = torch.stack([signs[:, list(w)].prod(-1) for w in small], 1)
    truth = torch.stack([(2 / len(w) if len(w) % 2 else 0) * one(n, w) for w in small], 1)
    rule = torch.linalg.lstsq(design.T, truth.T).solution
    close(design.T @ rule, truth.T, atol=1e-9)
    if n == 5:
        products = torch.stack([every[:, list(w)].prod(-1) for w in small], 1)
        close(functional(n) @ products, truth, atol=1e-9)


def one(n: int, members: tuple[int, ...]) -> Tensor:
    out = torch.zeros(n).double()
    out[list(members)] = 1
    return out


def test_each_coalition_of_the_design_is_the_best_next_one() -> None:
    """Against the summed posterior variance of the scores, computed anew for every candidate."""
    n, rows = 5, 20
    rule, every, rows_of_order = functional(n), gates_of_all(n), krawtchouk(n, n)
    shares = torch.tensor([FREE, FREE, *(FALLING ** (k - 1) for k in range(2, n + 1))]).double()
    table = shares @ rows_of_order
    table[0] += REST
    prior = table[distances(every, every)]
    index = {tuple(row): i for i, row in enumerate(every.tolist())}
    design = [index[tuple(row)] for row in chosen(n, rows, generator(0)).tolist()]

    def left(asked: list[int]) -> float:
        gain = torch.linalg.solve(prior[asked][:, asked], prior[asked] @ rule.T)
        return float((rule @ prior @ rule.T - rule @ prior[:, asked] @ gain).trace())

    for step in range(12, rows):
        before = design[:step]
        options = {one: left([*before, one]) for one in range(2**n) if one not in before}
        assert options[design[step]] <= min(options.values()) * (1 + 1e-6) + 1e-7


@pytest.mark.parametrize(("n", "rows"), [(2, 4), (3, 8), (6, 30), (9, 300), (16, 120), (40, 100)])
def test_the_design_asks_nothing_twice_and_begins_with_single_players(n, rows) -> None:
    design = chosen(n, rows, generator(n))
    assert len({tuple(row) for row in design.tolist()}) == len(design) == rows
    size = design.sum(-1)
    head = size[: min(rows, 2 * n + 2)].tolist()
    if n > 3:
        assert sorted(head) == sorted([0, n] + [1] * n + [n - 1] * n)
        assert not torch.equal(design, chosen(n, rows, generator(n + 1)))


def test_intervals_cover() -> None:
    """Near 95 % over games whose interactions fall with their order, and over random ones, where
    the variances are told by few values.
    """
    falling, unstructured = [], []
    for seed in range(40):
        game = toy.moebius(9, 5, generator(seed))
        credit = ap.attribute(game, ap.GaussianProcessShapley(samples=90), seed=seed)
        falling.append((credit.scores - game.shapley()).abs() <= 1.96 * credit.error)
        worth, every = normal(256, seed=seed), (torch.arange(256)[:, None] >> torch.arange(8)) & 1
        random = ap.FunctionGame(lambda g, w=worth: w[(g.long() << torch.arange(8)).sum(-1)], 8)
        truth = _spectrum.whole_table(every.bool(), worth[:, None])[0]
        credit = ap.attribute(random, ap.GaussianProcessShapley(samples=90), seed=seed)
        unstructured.append((credit.scores - truth).abs() <= 1.96 * credit.error)
    for covered in (falling, unstructured):
        assert 0.85 <= float(torch.stack(covered).double().mean()) <= 0.99


def test_half_the_evaluations_of_kernel_shap_are_enough() -> None:
    far = {"half": [], "whole": []}
    for seed in range(8):
        game = toy.moebius(10, 4, generator(seed))
        for name, estimator in (
            ("half", ap.GaussianProcessShapley(samples=120)),
            ("whole", ap.KernelShap(samples=240)),
        ):
            off = ap.attribute(game, estimator, seed=seed).scores - game.shapley()
            far[name].append(off.square().mean())
    assert float(sum(far["half"])) < float(sum(far["whole"]))


def test_stops_at_the_precision_asked_for() -> None:
    game = toy.moebius(9, 4, generator(2))
    asked = ap.GaussianProcessShapley(samples=400, until=ap.StandardError(0.05))
    credit = ap.attribute(game, asked)
    assert float(credit.error.max()) <= 0.05
    assert credit.cost.evaluations < 400
    strict = ap.attribute(game, ap.GaussianProcessShapley(samples=60, until=ap.StandardError(1e-6)))
    assert "ceiling of 60 samples" in strict.provenance.notes[1]
    assert "left out" in strict.provenance.notes[0]


def test_requests_that_cannot_be_met_are_refused() -> None:
    game = toy.moebius(9, 2, generator(0))
    with pytest.raises(ap.BadRequest, match="minimum is 20"):
        ap.attribute(game, ap.GaussianProcessShapley(samples=19))
    with pytest.raises(ap.BadRequest, match="at most 4096"):
        ap.GaussianProcessShapley(samples=5000)
    with pytest.raises(ap.BadRequest, match="PermutationShapley"):
        ap.GaussianProcessShapley(samples=4096).cost(3000)
