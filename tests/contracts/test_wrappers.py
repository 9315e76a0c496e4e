"""Wrappers change how a game is asked, never what it answers; draws are circumstances, not luck."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

import apportion as ap
from apportion.games import Ledger, Store, counted, toy
from apportion.games.batches import SETTLED, START, Search
from tests.contracts.made import (
    WRAPPED,
    ZEROS,
    Counting,
    X,
    asking,
    hard,
    marginal,
    mixed,
    soft,
    some,
    stochastic,
    tiny,
)
from tests.small import close, mlp, normal, table_game

BACKGROUND = normal(4, 6, seed=9)


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_pass_on_what_the_game_offers(name) -> None:
    game = WRAPPED[name]()
    inner = game.inner
    assert game.players is inner.players
    assert (game.domain, game.exact) == (inner.domain, inner.exact)
    assert game.describe() == inner.describe()
    assert game.price == inner.price * game.share
    assert game.grad_price == inner.grad_price * game.share


# -- draws


def test_a_draw_is_a_deterministic_game_whatever_it_is_asked_with() -> None:
    for game in (marginal(), stochastic(), table_game(removal=ap.Jitter(ZEROS, 0.5))):
        gates, draw = some(game.players.n), torch.tensor([3, 0, 1, 3, 2])
        together = game.value(gates, draw)
        assert torch.equal(together, game.value(gates, draw))
        alone = [game.value(g[None], d[None]) for g, d in zip(gates, draw, strict=True)]
        close(together, torch.cat(alone), atol=1e-12)


def test_draw_d_replaces_columns_by_those_of_background_row_d() -> None:
    game, gates = marginal(), some(6, rows=4)
    with torch.no_grad():
        by_hand = mlp()(torch.where(gates, X, BACKGROUND))[:, 1]
    close(game.value(gates, torch.arange(4)), by_hand, atol=1e-12)


@pytest.mark.parametrize(
    "game", [marginal(), stochastic(), table_game(removal=ap.Jitter(ZEROS, 1))]
)
def test_several_draws_and_none_given_is_refused(game) -> None:
    n = game.players.n
    with pytest.raises(ap.BadRequest, match=r"ap\.averaged\(game\)"):
        game.value(some(n))
    with pytest.raises(ap.BadRequest, match=r"ap\.averaged\(game\)"):
        game.grad(soft(n))


@pytest.mark.parametrize(
    "draw",
    [torch.zeros(4).long(), torch.zeros(5), torch.zeros(5, 1).long(), torch.zeros(5).bool()],
)
def test_draws_are_one_integer_per_row(draw) -> None:
    with pytest.raises(ap.BadRequest, match="one integer per gate row"):
        marginal().value(some(6), draw)


@pytest.mark.parametrize("number", [-1, 4])
def test_draws_that_do_not_exist_are_refused(number) -> None:
    for game in (marginal(), stochastic()):
        with pytest.raises(ap.BadRequest, match="from 0 to 3"):
            game.value(some(game.players.n), torch.full((5,), number))
    with pytest.raises(ap.BadRequest, match="from 0 to 0"):
        table_game().value(some(6), torch.full((5,), 1))


@pytest.mark.parametrize("game", [marginal(), stochastic()])
def test_averaging_is_the_mean_over_draws_of_values_and_slopes(game) -> None:
    n = game.players.n
    average = ap.averaged(game)
    gates, halves = some(n), soft(n)
    each = [game.value(gates, torch.full((5,), d)) for d in range(4)]
    close(average.value(gates), torch.stack(each).mean(0), atol=1e-12)
    slopes = [game.grad(halves, torch.full((3,), d))[1] for d in range(4)]
    close(average.grad(halves)[1], torch.stack(slopes).mean(0), atol=1e-12)
    assert (average.draws, average.price) == (1, game.price * 4)


def test_a_part_of_the_draws_is_a_sample_without_repeats_named_by_its_seed() -> None:
    game = marginal(20)
    gates = hard("010110")
    every = game.value(gates.expand(20, 6), torch.arange(20))
    seen = {round(float(ap.averaged(game, 2, seed=s).value(gates)[0]), 9) for s in range(30)}
    pairs = {round(float((every[i] + every[j]) / 2), 9) for i in range(20) for j in range(i)}
    assert len(seen) > 10
    assert seen <= pairs
    assert torch.equal(
        ap.averaged(game, 2, seed=5).value(gates), ap.averaged(game, 2, seed=5).value(gates)
    )


def test_an_unlimited_supply_is_averaged_over_as_many_as_are_asked() -> None:
    game = table_game(removal=ap.Blend(ap.removals.resample(BACKGROUND)))
    assert game.draws is None
    with pytest.raises(ap.BadRequest, match=r"draws=20"):
        ap.averaged(game)
    with pytest.raises(ap.BadRequest, match="draws=20"):
        ap.attribute(game, ap.LeaveOneOut())
    many = ap.averaged(game, 4000, seed=1).value(hard("010110"))
    close(many, ap.averaged(marginal()).value(hard("010110")), atol=0.02)


@pytest.mark.parametrize("draws", [0, -1, 5])
def test_averages_over_no_or_too_many_draws_are_refused(draws) -> None:
    with pytest.raises(ap.BadRequest, match=f"draws={draws}"):
        ap.averaged(marginal(), draws)


def test_a_shared_draw_makes_gains_far_less_noisy_than_a_draw_each() -> None:
    """Common random numbers: the variance of one player's gain falls at least tenfold."""
    game = marginal(200)
    rng = Generator().manual_seed(0)
    with_it, without = hard("111000").expand(200, 6), hard("110000").expand(200, 6)
    same = torch.arange(200)
    other = torch.randperm(200, generator=rng)
    full = game.value(with_it, same)
    shared, apart = full - game.value(without, same), full - game.value(without, other)
    close(shared.mean()[None], apart.mean()[None], atol=1e-9)
    assert 10 * float(shared.var()) < float(apart.var())
    average = ap.averaged(game, 10, seed=3)
    gains = average.value(torch.cat([with_it[:1], without[:1]]))
    alone = torch.cat([average.value(with_it[:1]), average.value(without[:1])])
    close(gains, alone, atol=1e-12)


def test_attribute_averages_a_stochastic_game_over_all_its_draws() -> None:
    game = stochastic()
    credit = ap.attribute(game, ap.LeaveOneOut())
    close(credit.scores, game.leave_one_out())
    assert credit.cost == ap.Cost(evaluations=4 * 6)  # one evaluation is one (gate row, draw)
    assert credit.provenance.draws == 4


def test_removals_in_one_game_share_the_draw() -> None:
    """Draw d means row d for columns and for hidden units alike."""
    model = mlp()
    bg = ap.Blend(ap.removals.rows(BACKGROUND))
    game = mixed(model, {"column": bg, "neuron": ap.Blend(ap.removals.rows(BACKGROUND))})
    with torch.no_grad():
        gone = model(BACKGROUND)[:, 0]
    close(game.value(torch.zeros(4, 14, dtype=torch.bool), torch.arange(4)), gone, atol=1e-12)


def test_pools_of_unequal_size_cannot_share_a_draw() -> None:
    few, many = (ap.Blend(ap.removals.rows(normal(k, 6))) for k in (2, 3))
    with pytest.raises(ap.BadRequest, match=r"\[2, 3\] draws.*one size"):
        mixed(removal={"column": few, "neuron": many})


# -- batches


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_batches_hold_at_most_as_many_rows_as_given(rows) -> None:
    model = tiny(Counting)
    game = asking(model)
    gates, plain = some(6, rows=7), asking(mlp())
    del model.rows[:]
    close(ap.chunked(game, rows).value(gates), plain.value(gates), atol=1e-12)
    assert model.rows == [rows] * (7 // rows) + [7 % rows] * (7 % rows > 0)
    del model.rows[:]
    ap.chunked(game, rows).grad(soft(6, rows=7))
    assert max(model.rows) == min(rows, 7) and sum(model.rows) == 7


def test_measured_batches_ask_every_row_once() -> None:
    model = tiny(Counting)
    game = asking(model)
    del model.rows[:]
    gates = some(6, rows=301)
    close(ap.chunked(game).value(gates), asking(mlp()).value(gates), atol=1e-12)
    assert sum(model.rows) == 301
    assert model.rows[0] == 4  # the first size tried


def test_a_batch_has_at_least_one_row() -> None:
    with pytest.raises(ap.BadRequest, match="chunk=0"):
        ap.chunked(table_game(), 0)
    with pytest.raises(ap.BadRequest, match="chunk=-3"):
        ap.attribute(table_game(), ap.LeaveOneOut(), chunk=-3)


@pytest.mark.parametrize("rows", [None, 64])
@pytest.mark.parametrize("most", [1, 3, 5])
@pytest.mark.parametrize(
    "failure",
    [
        None,
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_batches_that_do_not_fit_are_halved_until_they_do(rows, most, failure) -> None:
    model = tiny(lambda: Counting(most, failure))
    game = ap.chunked(asking(model), rows)
    gates, plain = some(6, rows=40), asking(mlp())
    del model.rows[:]
    close(game.value(gates), plain.value(gates), atol=1e-12)
    assert sum(model.rows) == 40 and max(model.rows) <= most
    close(game.grad(soft(6, rows=9))[1], plain.grad(soft(6, rows=9))[1], atol=1e-12)


def test_what_does_not_fit_even_alone_is_named_and_other_failures_pass() -> None:
    model = tiny(Counting)
    game = asking(model)
    model.most = 0
    with pytest.raises(ap.OverBudget, match="one coalition at a time"):
        ap.chunked(game, 8).value(some(6))
    model.failure = RuntimeError("the matrix is singular")
    with pytest.raises(RuntimeError, match="singular"):
        ap.chunked(game, 8).value(some(6))


def test_the_draws_of_an_average_need_not_fit_into_memory_together() -> None:
    """`ap.averaged(game)` handed to `attribute` is asked in batches inside as well."""
    removal = ap.Blend(ap.removals.rows(normal(8, 6, seed=9)))
    small, plain = (
        asking(tiny(lambda: Counting(4)), removal=removal),
        asking(mlp(), removal=removal),
    )
    credit = ap.attribute(ap.averaged(small), ap.LeaveOneOut())
    close(credit.scores, ap.attribute(plain, ap.LeaveOneOut()).scores, atol=1e-12)


# -- memory of what is known


def test_each_coalition_runs_once_whatever_it_is_asked_with() -> None:
    model = tiny(Counting)
    game = ap.cached(asking(model))
    gates = hard("110000", "001100", "110000", "110000")
    del model.rows[:]
    first = game.value(gates)
    assert sum(model.rows) == 2
    close(first, asking(mlp()).value(gates), atol=1e-12)
    first += 1  # what was handed out is the asker's
    again = game.value(torch.cat([gates[:1], hard("111111")]))
    assert sum(model.rows) == 3
    close(again[0], first[0] - 1)


def test_draws_and_soft_gates_are_not_confused_with_what_is_known() -> None:
    store = Store()
    game = ap.cached(marginal(), store)
    row = hard("010110")
    values = torch.cat([game.value(row, torch.tensor([d])) for d in (0, 1, 0, 1)])
    close(values[:2], values[2:])
    assert float(values[0]) != float(values[1])
    assert (len(store.known), store.hits) == (2, 2)
    game.value(row.double(), torch.tensor([0]))
    assert (len(store.known), store.hits) == (2, 2)


def test_one_store_serves_several_questions_of_attribute() -> None:
    model = tiny(Counting)
    game, store = asking(model), Store()
    ap.attribute(game, ap.LeaveOneOut(), store=store)
    del model.rows[:]
    again = ap.attribute(game, ap.LeaveOneOut(), store=store)
    assert not model.rows
    assert again.cost == ap.Cost(evaluations=7)  # asked, though answered from memory


# -- what was asked


def test_every_row_is_entered_before_it_is_asked() -> None:
    ledger = Ledger()
    game = counted(stochastic(), ledger)
    game.value(some(5), torch.zeros(5).long())
    game.grad(soft(5), torch.zeros(3).long())
    assert ledger.spent == ap.Cost(evaluations=5, gradients=3)


def test_over_the_bound_nothing_is_asked() -> None:
    model = tiny(Counting)
    ledger = Ledger(ap.Cost(evaluations=6), asked_for="this test")
    game = counted(asking(model), ledger)
    del model.rows[:]
    game.value(some(6))
    with pytest.raises(ap.OverBudget, match=r"this test.*6 evaluations.*5 evaluations were spent"):
        game.value(some(6, rows=2))
    with pytest.raises(ap.OverBudget):
        game.grad(soft(6, rows=1))
    assert sum(model.rows) == 5
    assert ledger.spent == ap.Cost(evaluations=5)
    game.value(some(6, rows=1))
    assert sum(model.rows) == 6


@pytest.mark.parametrize(
    ("game", "estimator", "needed"),
    [
        (table_game(), ap.LeaveOneOut(), ap.Cost(evaluations=7)),
        (stochastic(), ap.LeaveOneOut(), ap.Cost(evaluations=24)),
        (table_game(), ap.Gradient(), ap.Cost(gradients=1)),
    ],
)
def test_a_budget_admits_what_is_needed_and_no_row_less(game, estimator, needed) -> None:
    assert ap.attribute(game, estimator, budget=needed).cost == needed
    less = ap.Cost(max(needed.evaluations - 1, 0), max(needed.gradients - 1, 0))
    with pytest.raises(ap.OverBudget, match="Lower its samples, or coarsen the players"):
        ap.attribute(game, estimator, budget=less)


@pytest.mark.parametrize(
    ("seconds", "settled"),
    [
        (lambda rows: 1.0, 4),  # no size is faster: the first one stays
        (lambda rows: rows**-0.5, 4096),  # larger is always faster
        (lambda rows: rows**0.5, 1),  # smaller is
        (lambda rows: 0.7 if rows % 16 == 0 else 1.0, 16),  # kernels that want 16 rows
        (lambda rows: abs(rows - 2) + 1, 2),
        (lambda rows: 1.0 if rows in (8, 16) else 2.0, 8),  # of equals the smaller
    ],
)
def test_the_search_settles_at_the_fastest_batch(seconds, settled) -> None:
    """Seconds per row by batch size, as a machine might have them."""
    search = Search()
    for _ in range(100):
        search.took(search.size, seconds(search.size) * search.size)
    assert search.size == settled


def test_a_cold_first_size_is_not_taken_for_a_slow_one() -> None:
    """The first ten batches take half as long again, whatever their size."""
    search, batches = Search(), 0
    while search.step != SETTLED:
        batches += 1
        search.took(search.size, (1.5 if batches <= 10 else 1.0) * search.size)
    assert search.size == START
    assert search.times[START] == 1.0


# -- one output of several


def test_picking_reads_one_output_of_values_and_slopes() -> None:
    game = table_game(ap.values.Logit((0, 2)), instances=3)
    values, (_, grads) = game.value(some(6)), game.grad(soft(6))
    for i in (0, 2, -1):
        close(ap.picked(game, i).value(some(6)), values[:, i])
        close(ap.picked(game, i, 1).grad(soft(6))[1], grads[:, i, 1])
        close(ap.picked(ap.picked(game, i), 1).value(some(6)), values[:, i, 1])


@pytest.mark.parametrize("index", [(3,), (0, 2), (0, 0, 0), (-4,)])
def test_outputs_that_do_not_exist_cannot_be_picked(index) -> None:
    game = ap.picked(table_game(ap.values.Logit((0, 2)), instances=3), *index)
    with pytest.raises(ap.BadRequest, match=r"outputs of shape \(3, 2\)"):
        game.value(some(6))
    with pytest.raises(ap.BadRequest, match=r"outputs of shape \(3, 2\)"):
        game.grad(soft(6))


def test_the_mean_over_many_draws_in_pieces_is_the_mean(monkeypatch) -> None:
    """More gates than one piece holds are repeated and averaged a few rows at a time."""
    game, whole = stochastic(), ap.averaged(stochastic()).value(some(5))
    monkeypatch.setattr("apportion.games.wrap.PIECE", 2 * 4 * 5)
    close(ap.averaged(game).value(some(5)), whole, atol=1e-12)
    close(ap.averaged(game).grad(soft(5))[0], ap.averaged(game).value(soft(5)), atol=1e-12)
    none = torch.zeros(1, 5, dtype=torch.bool)
    assert isinstance(game, toy.MoebiusGame)
    close(ap.averaged(game).value(none)[0], game.mean[0])
