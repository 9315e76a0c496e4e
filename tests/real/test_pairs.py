"""Pairs of words of two sentences, by a real sentence encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import apportion as ap
from tests.conftest import missing

pytestmark = pytest.mark.slow
PAD = 0
ALIKE = ("A cat sleeps on the sofa.", "A kitten naps on a couch.")


@pytest.fixture(scope="module")
def asked() -> tuple[ap.Subject, list[ap.ModelGame], ap.Pairs]:
    """Integrated Jacobians of a pair of sentences from padding, as a cosine."""
    try:
        subject = ap.zoo.load("minilm")
    except ap.BadRequest as refused:
        missing(str(refused))
    games, credits = [], []
    for text in ALIKE:
        ids = subject.prepare(text).x
        padded = ids.clone()
        padded[:, 1:-1] = PAD
        players = ap.players.tokens(
            subject.model, ids, subject.tokenizer, positions=range(1, ids.shape[1] - 1)
        )
        absent = ap.Blend(ap.removals.counterfactual(padded))
        games.append(ap.ModelGame(subject.model, ids, ap.values.Embedding(), players, absent))
        path = ap.PathIntegral(steps=24, tolerance=None)
        credits.append(ap.attribute(games[-1], path, chunk=8))
    return subject, games, ap.pairs(*credits, scale=ap.cosine_scale(*credits))


def embedding(subject: ap.Subject, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return subject.model(ids).last_hidden_state.mean(1)[0]


def test_pairs_add_up_to_the_change_of_the_similarity(asked) -> None:
    """The gap of a product is what the two gaps of the paths make of it, and small."""
    subject, games, found = asked
    rows = [embedding(subject, game.question.call.args[0]) for game in games]
    cosine = torch.nn.functional.cosine_similarity(rows[0], rows[1], 0)
    assert found.ends.both == pytest.approx(float(cosine), abs=1e-5)
    both, only_a, only_b, neither = found.ends
    change = both - only_a - only_b + neither
    assert found.sum() + found.gap == pytest.approx(change, abs=1e-6)
    assert abs(found.gap) < 0.01 * abs(change)


def test_words_that_mean_the_same_are_matched(asked) -> None:
    matched = {(c.a, c.b) for c in asked[2].top(3)}
    assert ("cat", "kitten") in matched and ("sofa", "couch") in matched


def test_without_a_word_of_the_best_pair_sentences_are_less_alike_than_without_another(
    asked,
) -> None:
    """The word is left out of the sentence, not replaced; once on either side."""
    subject, games, found = asked
    ids = [game.question.call.args[0] for game in games]
    best = found.top(1, signed=True)[0]
    for side, name in enumerate((best.a, best.b)):
        other = embedding(subject, ids[1 - side])
        player = games[side].players.names.index(name)
        alike = []
        for place in range(1, ids[side].shape[1] - 1):
            rest = torch.cat([ids[side][:, :place], ids[side][:, place + 1 :]], 1)
            shorter = embedding(subject, rest)
            alike.append(torch.nn.functional.cosine_similarity(shorter, other, 0))
        scores = torch.stack(alike)
        assert float(scores[player]) == float(scores.min())


def test_path_and_second_difference_rank_pairs_alike(asked) -> None:
    """Two different quantities of the same pairs, one without gradients."""
    _, games, found = asked
    single = [ap.attribute(game, ap.LeaveOneOut()) for game in games]
    other = ap.pairs(*single, scale=found.scale)
    ranks = torch.stack(
        [x.scores.double().flatten().argsort().argsort().double() for x in (found, other)]
    )
    chance = 1 / (ranks.shape[1] - 1) ** 0.5  # standard deviation of a rank correlation
    assert float(torch.corrcoef(ranks)[0, 1]) > 4 * chance


def test_one_side_of_the_pair_is_a_similarity_to_the_other_sentence(asked) -> None:
    """The clean value is the pair's cosine; without a vector it is what is left of the sentence."""
    subject, games, _ = asked
    a, b = (embedding(subject, game.question.call.args[0]) for game in games)
    ids = games[0].question.call.args[0]
    players = ap.players.tokens(subject.model, ids, subject.tokenizer)
    absent = ap.Blend(ap.removals.zeros())
    for value, to in ((ap.values.Similarity(b), b), (ap.values.Similarity(), a)):
        credit = ap.attribute(
            ap.ModelGame(subject.model, ids, value, players, absent), ap.LeaveOneOut()
        )
        cosine = torch.nn.functional.cosine_similarity(a, to, 0)
        assert float(credit.full) == pytest.approx(float(cosine), abs=1e-5)
