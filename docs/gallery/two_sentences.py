"""Which words of two sentences make them alike: integrated Jacobians of a sentence encoder.

    python docs/gallery/two_sentences.py [--fast]

The embedding is explained as 384 outputs at once, by path integrals from a sentence of padding;
credits of two sentences multiply to a credit of pairs of words, which adds up to the change of the
cosine. Leaving a word of the best pair out of its sentence costs more likeness than another word.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import apportion as ap

PAD = 0
SENTENCES = (
    ("A cat sleeps on the sofa.", "A kitten naps on a couch."),
    ("How do I cook rice?", "Ways of boiling rice"),
    ("She won the race.", "She came first in the run."),
)


def question(subject: ap.Subject, text: str) -> ap.ModelGame:
    """The embedding of a sentence, its tokens replaced by padding; both ends stay."""
    ids = subject.prepare(text).x
    inner = range(1, ids.shape[1] - 1)
    padded = ids.clone()
    padded[:, 1:-1] = PAD
    players = ap.players.tokens(subject.model, ids, subject.tokenizer, positions=inner)
    absent = ap.Blend(ap.removals.counterfactual(padded))
    return ap.ModelGame(subject.model, ids, ap.values.Embedding(), players, absent)


def left_out(subject: ap.Subject, games: list[ap.ModelGame], found: ap.Pairs) -> str:
    """The cosine without the word of the best pair, on either side, and without a word on average.

    Words are taken out of the text, not replaced. Both words at once would leave the rest as alike.
    """
    ids = [game.question.call.args[0] for game in games]
    whole = [embedding(subject, x) for x in ids]
    best = found.top(1, signed=True)[0]
    told = []
    for side, word in enumerate((best.a, best.b)):
        places = range(1, ids[side].shape[1] - 1)
        shorter = [torch.cat([ids[side][:, :p], ids[side][:, p + 1 :]], 1) for p in places]
        alike = torch.stack(
            [cosine_similarity(embedding(subject, x), whole[1 - side], 0) for x in shorter]
        )
        own = float(alike[games[side].players.names.index(word)])
        told.append(f"without {word!r} {own:.3f}, without a word {float(alike.mean()):.3f}")
    return "; ".join(told)


def embedding(subject: ap.Subject, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return ap.values.Embedding()(subject.model(ids))[0]


def main(fast: bool) -> None:
    subject = ap.zoo.load("minilm")
    for texts in SENTENCES[:1] if fast else SENTENCES:
        games = [question(subject, text) for text in texts]
        steps = ap.PathIntegral(steps=2 if fast else 24, tolerance=None)
        a, b = (ap.attribute(game, steps, chunk=8) for game in games)
        found = ap.pairs(a, b, scale=ap.cosine_scale(a, b))
        print(f"{texts[0]}  |  {texts[1]}")
        print(found)
        print(f"  cosine {left_out(subject, games, found)}\n")


if __name__ == "__main__":
    main("--fast" in sys.argv)
