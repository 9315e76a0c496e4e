"""The question: why did the model do that? Features, components, and whether to believe it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attribute import attribute
from .attribution import Attribution
from .budget import (
    CHANGED_ORDERS,
    COMPONENTS,
    EXAMPLES,
    PIXELS,
    RANDOM,
    Speed,
    allot,
    curve,
    measured,
    parts,
    second,
    shapley,
    single_effects,
)
from .checks import Check, Plan, order_matters
from .costs import costs
from .estimators import Estimator, KernelShap, PathIntegral
from .evaluate.additive_fidelity import FEWEST as FEWEST_PLAYERS
from .examples import examples
from .explanation import Explanation, Prediction
from .games import ModelGame
from .games.wrap import Store
from .prediction import asked_about, in_words, predicted, question
from .progress import say
from .questions import Setup, components, features, levels
from .subject import Prepared, Subject, subject_of
from .training import TrainingRun
from .trust import Trust, examine
from .types import BadRequest
from .values import Contrast, Logit, Margin, OfProbabilities, Value

PIXEL_STEPS = 32
TRAININGS = 2.0  # what the credit of training rows takes at least, in trainings
TRAINING = "training examples: this needs the recorded training of the model, train=run"


@dataclass(frozen=True, eq=False)
class Axis:
    """The answer on one axis."""

    setup: Setup
    credit: Attribution
    trust: Trust


class Share(NamedTuple):
    """The seconds one part may take, and those of all parts."""

    seconds: float
    budget: float


def why(
    subject: Subject | nn.Module,
    input: Any,
    *,
    target: int | str | None = None,
    against: int | str | None = None,
    value: Value | None = None,
    train: TrainingRun | Sequence[TrainingRun] | None = None,
    budget: float = 60.0,
    seed: int = 0,
    **overrides: Any,
) -> Explanation:
    """Why did the model do that, and can the answer be believed?

    `input` is a path, a picture, a text, a row or a prepared tensor; `target` a class or token, by
    number or name (default: what the model predicts); `against` another one, for "why this rather
    than that?"; `value` what is explained (default: the log-odds of the target against all others,
    or against the one given); `train` the recorded training of the model, or several with other
    seeds after it (default: the subject's), which adds the axis of training rows. A bare module
    needs what it cannot say itself: why(model, image, labels=names), why(lm, text, tokenizer=...),
    why(model, row, background=rows); those are the fields of `Subject`, and other names are
    refused.

    Speed is measured first; `budget` seconds then decide players, estimators and checks, and what
    was left out is said. Interrupting leaves the model as it was and gives no partial answer.
    """
    if not isinstance(budget, int | float) or not budget > 0:
        raise BadRequest(f"budget={budget!r}: give a positive number of seconds, such as 60.0")
    asked = subject_of(subject, input, overrides)
    given = _one(asked.prepare(input))
    prediction = predicted(asked, given, asked_about(value, target), against)
    value = _value(value, prediction)
    learned, budget_left = _learned(asked, given, value, _runs(train, asked), budget, seed)
    # the components first: what they leave over buys precision for the features
    start = time.perf_counter()
    inner = _components(asked, given, value, COMPONENTS * budget_left, seed)
    left = budget_left - min(time.perf_counter() - start, COMPONENTS * budget_left)
    apart = PIXELS * budget_left if asked.kind == "image" else 0.0
    store = Store()
    shown = _features(asked, given, value, Share(left - apart, budget), seed, store)
    others, other_checks = _pixels(shown, seed, store, apart)
    refused = [f"components: {inner}"] if isinstance(inner, str) else []
    refused += [learned] if isinstance(learned, str) else []
    axis = None if isinstance(inner, str) else inner
    answer = Explanation(
        question(asked, prediction),
        asked.kind,
        shown.credit,
        shown.trust,
        None if axis is None else axis.credit,
        None if axis is None else axis.trust,
        prediction=prediction,
        value=in_words(value, asked, prediction),
        absent=shown.setup.absent,
        absent_component="" if axis is None else axis.setup.absent,
        absent_picture=_absent_picture(asked, shown.setup.game),
        others=others,
        other_checks=other_checks,
        left_out=(*refused, *shown.setup.notes, *_unasked(shown)),
        code=_code(shown, value, seed),
        budget=budget,
        model=asked.name or type(asked.model).__name__,
    )
    return _with_rows(answer, learned)


def _with_rows(answer: Explanation, learned: Examples | str) -> Explanation:
    """The answer with its axis of training rows, and what all of it cost."""
    if isinstance(learned, str):
        return replace(answer, parts=costs(answer, None))
    parts = costs(answer, learned)
    return replace(
        answer,
        examples=learned.credit,
        example_trust=learned.trust,
        refitted=learned.refitted,
        examples_shown=learned.shown,
        example_pictures=learned.pictures,
        parts=parts,
    )


def _learned(
    subject: Subject,
    given: Prepared,
    value: Value,
    runs: Sequence[TrainingRun],
    budget: float,
    seed: int,
) -> tuple[Examples | str, float]:
    """The axis of training rows, or why it was not asked, and the seconds left; what it does not
    use buys precision for the input.
    """
    if not runs:
        return TRAINING, budget
    start, share = time.perf_counter(), EXAMPLES * budget
    if share < TRAININGS * runs[0].seconds:
        wanted = 1.1 * TRAININGS * runs[0].seconds / EXAMPLES
        return f"training examples: the budget is too short for them; give {wanted:.2g} s", budget
    learned = examples(subject, given, value, runs, share, seed)
    return learned, budget - min(time.perf_counter() - start, share)


def _runs(given: TrainingRun | Sequence[TrainingRun] | None, subject: Subject) -> list[TrainingRun]:
    """The recorded trainings asked with; the first is the model's."""
    if given is None:
        return [] if subject.training is None else [subject.training]
    runs = [given] if isinstance(given, TrainingRun) else list(given)
    wrong = [run for run in runs if not isinstance(run, TrainingRun)]
    if wrong or not runs:
        what = type(wrong[0]).__name__ if wrong else "an empty list"
        raise BadRequest(
            f"train= holds {what}; give a recorded training: training.train(recipe), or record "
            "your own loop with training.record(model, rows, ...)"
        )
    return runs


def _one(given: Prepared) -> Prepared:
    """One input: several have several answers."""
    if len(given.x) == 1:
        return given
    raise BadRequest(
        f"why() explains one input; got {len(given.x)}. Ask about each: "
        "[ap.why(model, x[None]) for x in inputs], or several at once with ap.attribute"
    )


def _value(given: Value | None, prediction: Prediction) -> Value:
    """What is explained: as asked, or target against foil, or target against all others."""
    if given is not None and prediction.foil is not None:
        raise BadRequest(
            f"value={given!r} and against= both say what is explained; give one of them"
        )
    if given is not None:
        reads = asked_about(given, None)
        if reads is not None and reads != prediction.target:
            raise BadRequest(
                f"value={given!r} reads {reads}, target= is {prediction.target} "
                f"({prediction.label!r}); give one of them"
            )
        return given
    if prediction.probability is None:
        return Logit(0)
    own = prediction.target
    value: Margin | Contrast = Margin(own)
    if prediction.foil is not None:
        value = Contrast(own, prediction.foil)
    return OfProbabilities(value) if prediction.chances else value


# -- the axes


def _features(
    subject: Subject, given: Prepared, value: Value, share: Share, seed: int, store: Store
) -> Axis:
    setup, speed, granted = _affordable(subject, given, value, share)
    n = setup.game.players.n
    estimator = shapley(n, granted["credit"])
    assert estimator is not None  # parts() asks for as much as it needs
    say(f"features: {estimator} on {n} players, {speed.value * 1000:.1f} ms per coalition")
    credit = attribute(setup.game, estimator, seed=seed, store=store)
    plan = _plan(setup, granted, estimator)
    trust = examine(credit, setup.game, plan, seed=seed, store=store)
    return Axis(setup, credit, trust)


def _affordable(
    subject: Subject, given: Prepared, value: Value, share: Share
) -> tuple[Setup, Speed, dict[str, int]]:
    """The finest question for which the seconds buy credit and all checks; else the coarsest, with
    the checks that fit.
    """
    for level in range(levels(subject)):
        setup = features(subject, given, value, level)
        speed = measured(setup.game)
        wanted = parts(setup.game.players.n, _draws(setup))
        rows = speed.rows(share.seconds) - (setup.game.players.n + 1) * len(setup.beside)
        granted = allot(rows, wanted)
        if len(granted) == len(wanted):
            return setup, speed, granted
    if "orders" in granted:
        return setup, speed, granted
    n = setup.game.players.n
    fewest = sum(wanted[part].fewest for part in ("credit", "orders")) + n + 1
    least = fewest * speed.value * share.budget / share.seconds
    raise BadRequest(
        f"the budget is too short: {n} players at {speed.value * 1000:.2g} ms per coalition need "
        f"at least {least:.3g} s. Give budget={least * 1.1:.3g} or more, or fewer players with "
        "ap.attribute"
    )


def _plan(setup: Setup, granted: Mapping[str, int], estimator: Estimator) -> Plan:
    n = setup.game.players.n
    random, steps = curve(n, granted["orders"])
    samples = granted.get("unseen", 0)
    again = second(n, granted.get("again", 0), estimator)
    rows = [granted["shuffled"]] if "shuffled" in granted else []
    rows += [granted["absence"] // _draws(setup)] if "absence" in granted else []
    changed = shapley(n, min(rows), CHANGED_ORDERS) if rows else None
    exact = isinstance(estimator, KernelShap) and estimator.samples >= 2**n
    missing = {
        "unseen halves": not samples and n >= FEWEST_PLAYERS,
        "same answer twice": again is None and not exact and n > 1,
        "another kind of absence": setup.absence is not None and "absence" not in granted,
        "shuffled weights": "shuffled" not in granted,
    }
    return Plan(
        random,
        steps,
        samples,
        again,
        setup.beside,
        changed,
        setup.absence if "absence" in granted else None,
        shuffled="shuffled" in granted,
        unasked=tuple(name for name, lacking in missing.items() if lacking),
    )


def _draws(setup: Setup) -> int:
    """How many times dearer a coalition is under the other absence."""
    if setup.absence is None:
        return 1
    removal = setup.absence.removal
    kinds = list(removal.values()) if isinstance(removal, Mapping) else [removal]
    most = max(r.draws or 1 for r in kinds)
    return max(most // (setup.game.draws or 1), 1)


def _components(
    subject: Subject, given: Prepared, value: Value, seconds: float, seed: int
) -> Axis | str:
    """The credit inside the model; or why it cannot be asked for."""
    setup = components(subject, given, value, levels(subject) - 1)
    if isinstance(setup, str):
        return setup
    speed = measured(setup.game, gradient=True)
    try:
        together = (RANDOM + 2) * speed.value  # what the check of the largest tenth will take
        estimator = single_effects(setup.game.players.n, speed, seconds - together)
    except BadRequest as failure:
        return str(failure)
    say(f"components: {estimator} on {setup.game.players.n} players")
    store = Store()
    credit = attribute(setup.game, estimator, seed=seed, store=store)
    plan = Plan(samples=0, together=True, orders=False)
    return Axis(setup, credit, examine(credit, setup.game, plan, seed=seed, store=store))


def _pixels(
    shown: Axis, seed: int, store: Store, seconds: float
) -> tuple[dict[str, Attribution], dict[str, Check]]:
    """The same question about single pixels, by a path integral, and whether its order matters."""
    finer = shown.setup.finer
    if finer is None or finer.grad_price is None:
        return {}, {}
    speed = measured(finer, gradient=True)
    if speed.grad is None or PIXEL_STEPS * speed.grad > seconds:
        return {}, {}
    fine = attribute(finer, PathIntegral(steps=PIXEL_STEPS, tolerance=None), seed=seed)
    game = shown.setup.game
    site = next(iter(game.players.owner))
    owner, pixel = game.players.owner[site].flatten(), finer.players.owner[site].flatten()
    totals = torch.zeros(game.players.n, dtype=torch.float64)
    totals.index_add_(0, owner, fine.scores.double()[pixel])
    coarse = replace(fine, scores=totals, players=game.players, error=None)
    # the same seed draws the same random orders, which the store knows already
    rng = torch.Generator().manual_seed(seed)
    order = shown.trust["insertion minus deletion"].score
    if order is None:
        return {"pixels": fine}, {}
    steps = len(next(iter(order.curves.values())).counts) - 1
    plan = Plan(random=order.random, steps=steps)
    return {"pixels": fine}, {"pixels": order_matters(coarse, game, rng, plan, store)}


# -- what is said about it


def _unasked(axis: Axis) -> list[str]:
    """Checks the budget had no room for."""
    return [
        f"{check.name}: the budget had no room for it"
        for check in axis.trust.checks
        if check.score is None
    ]


def _absent_picture(subject: Subject, game: ModelGame) -> Tensor | None:
    """The picture with every player absent, as a person sees it."""
    if subject.kind != "image" or subject.picture is None:
        return None
    site = next(iter(game.players.owner))
    x = game.clean.activations[site]
    absent = game.recorder.absent(site, x[None], torch.tensor([0]))[0]
    return torch.as_tensor(subject.picture(absent.to(x.device)))


def _code(shown: Axis, value: Value, seed: int) -> str:
    # options that are objects of ours are written as one imports them
    named = r"=(?!True\b|False\b|None\b)(?=[A-Z])"
    estimator = re.sub(named, "=ap.", shown.credit.provenance.estimator)
    return "\n".join(
        [
            "import apportion as ap",
            "",
            "# subject: the model with its preprocessing; input: as it was given",
            "model, x = subject.model, subject.prepare(input).x",
            f"value = ap.values.{value!r}",
            f"game = {shown.setup.code}",
            f"credit = ap.attribute(game, ap.{estimator}, seed={seed})",
            "ap.evaluate.insertion_minus_deletion(credit, game)",
        ]
    )
