"""The third axis: which training rows made the model say this, and do refits agree?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from .attribute import attribute
from .attribution import Attribution
from .backward.response import CG, Dense, Influence
from .checks import Check, unasked
from .estimators import Gradient
from .evaluate import Score, rank_agreement
from .explanation import Refitted
from .games import ImplicitGame, RefitGame
from .players import training_rows
from .progress import say
from .subject import Prepared, Subject
from .training import Queries, TrainingRun, reading, train
from .training.refit import one_by_one
from .trust import Trust, decide
from .types import BadRequest
from .values import Value
from .wording import decimals, reach

SMALL = 4000  # parameters up to which the whole curvature is factorised
TOGETHER = 10  # rows whose removal is confirmed by refits
SHARE = 0.05  # of the rows, whose removal is compared with that of as many random ones
SEEDS = (3, 12)  # training seeds that refits are averaged over: fewest, most
SETS = 5  # all rows; without the most helpful, the most harmful; without a share, helpful or random
# how many times less refits may take than so many trainings: one by one, and stepped together
MOST_OVER = {True: 2.0, False: 30.0}
MARGINAL = 0.25  # time of more trainings stepped together, as a share of as many first ones
SHOWN = 5  # rows shown at either end
COUNTS, AGAIN = "refits without the most helpful", "another training"
UNCONFIRMED = Check(
    COUNTS, "decides", None,
    "Not confirmed: the budget had no room for refits, so these are predictions of a derivative.",
    "What training without these rows would do.",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Examples:
    """The answer on the axis of training rows."""

    credit: Attribution
    trust: Trust
    refitted: tuple[Refitted, ...]
    shown: tuple[int, ...]  # the most helpful rows, then the most harmful
    pictures: Tensor | None  # of those, (row, height, width, 3)
    fits: int  # trainings that were run
    seconds: float


@dataclass(frozen=True, eq=False)
class _Refits:
    """Values after training anew, one column per set of rows, one row per training seed."""

    helpful: list[int]
    harmful: list[int]
    values: Tensor  # (seed, set)
    k: int  # rows in a share


def examples(
    subject: Subject,
    given: Prepared,
    value: Value,
    runs: Sequence[TrainingRun],
    seconds: float,
    seed: int,
) -> Examples:
    """Credit of every training row, and what training without the leading ones does.

    Influence at the averaged checkpoints of the runs. One more training tells whether another run
    gives the same order; refits without the leading rows, without as many random rows, tell whether
    the order matters. What the seconds do not pay for is said.
    """
    start = time.perf_counter()
    queries = Queries(given.x, None, reading(value))
    admit_run(subject, given, value, runs[0])
    n = runs[0].recipe.rows.n
    players = training_rows(n, names=named(runs[0], subject))
    solver = Dense() if runs[0].net.size <= SMALL else CG(tolerance=0.03, iterations=400)
    response = Influence(solver=solver, at="averaged")
    game = RefitGame(runs[0], queries, players, seeds=(seed + 1,))
    say(f"training rows: {response} on {n:,} rows")
    credit = attribute(ImplicitGame(game, response, tuple(runs)), Gradient(), seed=seed)
    # refits come first: they decide; one more training, and its credit, if there is time for both
    again = 1.2 * (time.perf_counter() - start + runs[0].seconds)
    left = seconds - (time.perf_counter() - start)
    refits = _refit(credit, game, seed, (left - again, left))
    other = seconds - (time.perf_counter() - start) > again
    checks = [
        UNCONFIRMED if refits is None else _matters(refits, n, game),
        _another(credit, runs[0], response, game, seed) if other else unasked(AGAIN),
    ]
    high, low = _ends(credit, SHOWN)
    return Examples(
        credit,
        decide(checks),
        () if refits is None else tuple(_statements(credit, refits)),
        (*high, *low),
        _pictures(subject, runs[0], [*high, *low]),
        (0 if refits is None else refits.values.numel()) + int(other),
        time.perf_counter() - start,
    )


def admit_run(subject: Subject, given: Prepared, value: Value, run: TrainingRun) -> None:
    """The run ends at the model that is asked about."""
    own = dict(subject.model.named_parameters())
    told = run.final
    same = set(told) <= set(own) and all(
        own[k].shape == p.shape and torch.allclose(own[k].detach(), p, rtol=1e-4, atol=1e-5)
        for k, p in told.items()
    )
    if not same:
        raise BadRequest(
            "train= is the run of another model: its last parameters are not those of the model "
            "asked about. Ask about run.model(), or record the training of this model"
        )


def named(run: TrainingRun, subject: Subject) -> list[str]:
    """The rows by number, with their label where it is a class."""
    y = run.recipe.rows.label
    if y.ndim != 1 or y.is_floating_point():
        return [f"#{i}" for i in range(len(y))]
    return [f"#{i} ({subject.label(int(label))})" for i, label in enumerate(y)]


def _ends(credit: Attribution, k: int) -> tuple[list[int], list[int]]:
    """The k rows of largest credit, and the k of smallest, both from the end inwards."""
    order = credit.scores.argsort(descending=True, stable=True).tolist()
    k = min(k, len(order) // 2)
    return order[:k], order[::-1][:k]


def _refit(
    credit: Attribution, game: RefitGame, seed: int, seconds: tuple[float, float]
) -> _Refits | None:
    """Trains without the leading rows, as often as the seconds allow: the fewer, or, where those
    are too few, the more. None where that is too seldom.
    """
    assert isinstance(game.run, TrainingRun)
    over = MOST_OVER[one_by_one(game.run.net)]
    if game.run.seconds * SETS * SEEDS[0] > over * seconds[1]:
        return None
    n = credit.players.n
    k = max(round(SHARE * n), 1)
    helpful, harmful = _ends(credit, min(TOGETHER, max(n // 10, 1)))
    rng = Generator().manual_seed(seed)
    gates = torch.ones(SEEDS[1], SETS, n, dtype=torch.bool)
    gates[:, 1, helpful] = False
    gates[:, 2, harmful] = False
    gates[:, 3, _ends(credit, k)[0]] = False
    for s in range(SEEDS[1]):  # another random set each time
        gates[s, 4, torch.randperm(n, generator=rng)[:k]] = False
    told = replace(game, seeds=tuple(seed + 1 + s for s in range(SEEDS[1])))

    def ask(seeds: range) -> Tensor:
        draws = torch.tensor(seeds).repeat_interleave(SETS)
        values = told.value(gates[list(seeds)].flatten(0, 1), draws)
        return values.double().reshape(len(seeds), SETS)

    begun = time.perf_counter()
    first = ask(range(1))
    each = time.perf_counter() - begun
    more = each if one_by_one(game.run.net) else MARGINAL * each
    few, many = (1 + int(max(s - each, 0.0) / more) for s in seconds)
    seeds = min(few, SEEDS[1]) if few >= SEEDS[0] else min(many, SEEDS[0])
    if seeds < SEEDS[0]:
        return None
    say(f"training rows: {seeds * SETS} refits, about {each + seeds * more:.0f} s")
    return _Refits(helpful, harmful, torch.cat([first, ask(range(1, seeds))]), k)


def _matters(refits: _Refits, n: int, game: RefitGame) -> Check:
    """Removing the rows of largest credit lowers the value more than removing random ones."""
    gain = refits.values[:, 4] - refits.values[:, 3]
    mean, error = float(gain.mean()), float(gain.std() / len(gain) ** 0.5)
    half = reach(len(gain) - 1) * error
    unit, k = game.describe().unit, refits.k
    score = Score(mean, unit, chance=(-half, half), note=f"{k} of {n:,} rows, {len(gain)} seeds")
    can = (
        f"Trained without the {k:,} rows of largest credit, the value falls "
        f"{mean:.{decimals(abs(mean))}f} {unit} more than without {k:,} random ones."
        if score.outside
        else f"Trained without the {k:,} rows of largest credit, the value falls no more than "
        f"without {k:,} random ones, as far as {len(gain)} training seeds tell."
    )
    cannot = "Which rows of the set it was, or whether one alone would do."
    return Check(COUNTS, "decides", score, can, cannot)


def _another(
    credit: Attribution, run: TrainingRun, response: Influence, game: RefitGame, seed: int
) -> Check:
    """The credit from one more training, with another seed."""
    # a recorded loop comes with its own order: another training takes the rows in another one
    again = train(replace(run.recipe, order=None), seed=run.seed + seed + 1001)
    other = attribute(ImplicitGame(game, response, (again,)), Gradient(), seed=seed)
    score = rank_agreement(credit, other, Generator().manual_seed(seed))
    can = (
        "A training with another seed gives a similar order of the rows."
        if score.outside
        else "A training with another seed gives an unrelated order of the rows."
    )
    return Check(
        AGAIN, "required", score, can, "Whether both are wrong alike.",
        other=other,
    )  # fmt: skip


def _statements(credit: Attribution, refits: _Refits) -> list[Refitted]:
    out, seeds = [], len(refits.values)
    for column, rows, kind in ((1, refits.helpful, "helpful"), (2, refits.harmful, "harmful")):
        change = refits.values[:, column] - refits.values[:, 0]
        error = float(change.std() / seeds**0.5)
        out.append(
            Refitted(
                kind, tuple(credit.players.names[i] for i in rows),
                -float(credit.scores[rows].double().sum()),
                float(change.mean()), reach(seeds - 1) * error, seeds,
            )
        )  # fmt: skip
    return out


def _pictures(subject: Subject, run: TrainingRun, rows: list[int]) -> Tensor | None:
    """The shown rows as people see them, (row, height, width, 3) uint8."""
    x = run.recipe.rows.input
    if subject.kind != "image" or subject.picture is None or not isinstance(x, Tensor):
        return None
    seen = [np.asarray(subject.picture(x[i : i + 1])) for i in rows]
    return torch.as_tensor(np.stack(seen))
