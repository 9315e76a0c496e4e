"""Tokens and attention heads in one game, by one backward pass that adds up.

    python docs/gallery/sentence.py [--fast]

Under the CP-LRP rules the credit of all tokens sums to the logit of " Mary". Heads are another cut
through the same network; norms in between are frozen, so their sum is another number. The plain
gradient and AttnLRP do not add up, and do not claim to.
"""

from __future__ import annotations

import sys

import apportion as ap


def main(fast: bool) -> None:
    subject = ap.zoo.load("smollm2")
    lm, ids = subject.model, subject.prepare(ap.zoo.samples.sample("text")).x
    target = subject.index(" Mary")
    players = ap.players.tokens(lm, ids, subject.tokenizer) | ap.players.heads(lm)
    zeros = ap.Blend(ap.removals.zeros())
    game = ap.ModelGame(lm, ids, ap.values.Logit(target), players, zeros)
    tables = {"CP-LRP": ap.backward.CP_LRP, "AttnLRP": ap.backward.ATTN_LRP, "gradient": None}
    for name, rules in tables.items():
        asked = game if rules is None else game.under(rules)
        credit = ap.attribute(asked, ap.Gradient())
        tokens = credit.by("token")
        total = float(tokens.sum())
        print(f"{name}: tokens sum to {total:+.3f}, the logit is {float(game.clean.values):+.3f}")
        print("    " + ", ".join(f"{c.name} {c.score:+.2f}" for c in tokens.top(4)))
        if fast:
            break


if __name__ == "__main__":
    main("--fast" in sys.argv)
