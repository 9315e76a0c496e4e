"""Players of a text: pieces joined are the text, words hold whole tokens, whatever the spelling."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.players.text import pieces
from tests.contracts.made import asking, some, tiny
from tests.contracts.words import Bytes, Underlined, WordPiece
from tests.small import IDS, close, decoder

SPELLINGS = {
    "word pieces": (
        WordPiece(["the", "un", "##believ", "##able", "cat", ",", "it", "sat", "."]),
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "the unbelievable cat, it sat.",
    ),
    "word pieces rewritten late": (
        WordPiece(["i", "don", "'", "t", "know", "."]),
        [0, 1, 2, 3, 4, 5],
        "i don't know.",
    ),
    "bytes of one character apart": (
        Bytes([b"caf", b"\xc3", b"\xa9", b" \xf0\x9f", b"\x98\x80", b"!"]),
        [0, 1, 2, 3, 4, 5],
        "caf\u00e9 \U0001f600!",
    ),
    "a character cut off at the end": (Bytes([b"caf", b"\xc3"]), [0, 1], "caf\ufffd"),
    "underlined": (
        Underlined(["_Mary", "_and", "_Jo", "hn", "_", "_left"]),
        [0, 1, 2, 3, 4, 5],
        None,
    ),
    "repeats": (Underlined(["_no", "_no", "_no"]), [0, 1, 2], "no no no"),
    "one token": (Underlined(["_Yes"]), [0], "Yes"),
}
EACH = pytest.mark.parametrize("name", list(SPELLINGS))


def players_of(name: str, build=ap.players.tokens, **more):
    tokenizer, ids, _ = SPELLINGS[name]
    return build(decoder(), torch.tensor([ids]), tokenizer, **more)


@EACH
def test_the_pieces_of_tokens_joined_are_the_text(name) -> None:
    tokenizer, ids, text = SPELLINGS[name]
    found = pieces(ids, tokenizer)
    assert len(found) == len(ids)
    assert "".join(found) == tokenizer.decode(ids) == (text or tokenizer.decode(ids))
    players = players_of(name)
    assert players.geometry["token"].shown == found
    assert players.n == len(ids) == len(set(players.names))
    assert players.grid == (len(ids),)


def test_a_piece_is_what_its_token_adds() -> None:
    tokenizer, ids, _ = SPELLINGS["word pieces"]
    expected = ("the", " un", "believ", "able", " cat", ",", " it", " sat", ".")
    assert pieces(ids, tokenizer) == expected
    assert players_of("word pieces").names == tuple(e.strip() for e in expected)
    tokenizer, ids, _ = SPELLINGS["bytes of one character apart"]
    assert pieces(ids, tokenizer) == ("caf", "", "\u00e9", " ", "\U0001f600", "!")
    assert players_of("repeats").names == ("no", "no #2", "no #3")


@EACH
def test_words_hold_each_token_once_and_are_the_words_of_the_text(name) -> None:
    tokenizer, ids, _ = SPELLINGS[name]
    text = tokenizer.decode(ids)
    fine, words = players_of(name), players_of(name, ap.players.words)
    owner = next(iter(words.owner.values())).flatten().tolist()
    assert sorted(set(owner)) == list(range(words.n))
    assert owner == sorted(owner)  # words are runs of neighbouring tokens
    assert words.n <= fine.n
    assert set(words.kinds) == {"word"}
    assert "".join(words.geometry["word"].shown) == text
    spelt = re.findall(r"\w+|[^\w\s]", text)
    if name == "word pieces rewritten late":
        spelt.remove("t")  # one token adds "'t": a player is never finer than a token
    assert [re.sub(r" #\d+$", "", w) for w in words.names] == spelt


def test_a_word_is_made_of_the_tokens_that_spell_it() -> None:
    words = players_of("word pieces", ap.players.words)
    assert words.names == ("the", "unbelievable", "cat", ",", "it", "sat", ".")
    owner = next(iter(words.owner.values())).flatten().tolist()
    assert owner == [0, 1, 1, 1, 2, 3, 4, 5, 6]
    john = players_of("underlined", ap.players.words)
    owner = next(iter(john.owner.values())).flatten().tolist()
    assert owner[:4] == [0, 1, 2, 2]


def test_words_of_some_positions_leave_the_others_present() -> None:
    words = players_of("word pieces", ap.players.words, positions=[1, 2, 3, 4])
    assert words.names == ("unbelievable", "cat")
    owner = next(iter(words.owner.values())).flatten().tolist()
    assert owner == [-1, 0, 0, 0, 1, -1, -1, -1, -1]


def test_an_absent_word_is_all_its_tokens_absent() -> None:
    model = decoder()
    ids = torch.tensor([list(range(9))])
    tokenizer = SPELLINGS["word pieces"][0]
    words, fine = (f(model, ids, tokenizer) for f in (ap.players.words, ap.players.tokens))
    gates = some(words.n)
    owner = next(iter(words.owner.values())).flatten()
    coarse, every = (asking(model, ids, players=p) for p in (words, fine))
    close(coarse.value(gates), every.value(gates[:, owner]), atol=1e-12)


def test_tokens_without_a_tokenizer_are_their_numbers() -> None:
    players = ap.players.tokens(decoder(), IDS)
    assert players.names == ("[3]", "[1]", "[4]", "[1] #2", "[5]", "[9]")
    ordered = ap.players.tokens(decoder(), IDS, positions=[4, 0])
    assert ordered.names == ("[5]", "[3]")
    assert ordered.grid is None


def test_the_embedding_is_named_by_the_model_or_by_the_user() -> None:
    class Silent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = decoder()

        def forward(self, ids: Tensor) -> dict:
            return self.inner(ids)

    model = Silent()
    with pytest.raises(ap.BadRequest, match=r"embedding=, one of \['inner\.embed'\]"):
        ap.players.tokens(model, IDS)
    named = ap.players.tokens(model, IDS, embedding="inner.embed")
    said = ap.players.tokens(decoder(), IDS)
    close(
        asking(model, IDS, players=named).value(some(6)),
        asking(decoder(), IDS, players=said).value(some(6)),
    )


def test_an_absent_token_leaves_its_place() -> None:
    """Position embeddings stay: only the word embedding at that place is replaced."""
    model = decoder()
    game = asking(model, IDS, players=ap.players.tokens(model, IDS))
    for row, value in zip(some(6), game.value(some(6)), strict=True):
        hook = model.embed.register_forward_hook(lambda m, a, out, r=row: out * r[:, None])
        with torch.no_grad():
            close(value, model(IDS)["logits"][0, -1, 0], atol=1e-12)
        hook.remove()


class Side(torch.nn.Module):
    def __init__(self, embed: torch.nn.Module) -> None:
        super().__init__()
        self.embed, self.mix = embed, torch.nn.Linear(4, 4)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed

    def forward(self, ids: Tensor, seen: Tensor | float = 0.0) -> Tensor:
        return torch.tanh(self.mix(self.embed(ids).cumsum(1)) + seen)


class TwoSides(torch.nn.Module):
    """An encoder and a decoder whose tables are one module, or two beside one that never runs."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.shared = torch.nn.Embedding(17, 4)
        tables = [self.shared if shared else torch.nn.Embedding(17, 4) for _ in range(2)]
        self.encoder, self.decoder = (Side(table) for table in tables)
        self.config = SimpleNamespace(is_encoder_decoder=True)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.shared

    def get_encoder(self) -> torch.nn.Module:
        return self.encoder

    def get_decoder(self) -> torch.nn.Module:
        return self.decoder

    def forward(self, ids: Tensor, decoded: Tensor) -> Tensor:
        return self.decoder(decoded, self.encoder(ids)[:, -1:])[:, -1]


@pytest.mark.parametrize("shared", [True, False])
def test_tokens_of_an_encoder_decoder_are_the_encoders(shared) -> None:
    model, decoded = tiny(lambda: TwoSides(shared=shared)), IDS[:, :3] + 1
    ids = ap.players.tokens(model, IDS)
    [site] = ids.owner
    assert (site.path, site.call) == (("shared", 0) if shared else ("encoder.embed", None))
    other = {"embedding": "shared", "call": 1} if shared else {"embedding": "decoder.embed"}
    both = ids | ap.players.tokens(model, decoded, **other).renamed("target")
    gates = some(9, rows=4)
    values = asking(model, (IDS, decoded), players=both).value(gates)
    for row, value in zip(gates, values, strict=True):
        with torch.no_grad():
            seen: Tensor | float = 0.0
            for side, x, keep in (("encoder", IDS, row[:6]), ("decoder", decoded, row[6:])):
                part = model.get_submodule(side)
                seen = torch.tanh(part.mix((part.embed(x) * keep[:, None]).sum(1)) + seen)
        close(value, seen[0, 0], atol=1e-12)


# -- sentences and spans

LETTERS = "".join(chr(c) for c in range(32, 127)) + "\n\u201c\u201d"
SENTENCES = [
    ("It works. Does it? Yes!", ["It works.", "Does it?", "Yes!"]),
    ("Costs 3.50 today. No", ["Costs 3.50 today.", "No"]),
    ("He said \u201cgo.\u201d Then left...", ["He said \u201cgo.\u201d", "Then left..."]),
    ("one\ntwo", ["one", "two"]),
    ("no end", ["no end"]),
    ("?! what", ["?!", "what"]),
]


def letter_by_letter(text: str) -> tuple[Bytes, torch.Tensor]:
    """A token per letter of these texts."""
    return Bytes([c.encode() for c in LETTERS]), torch.tensor([[LETTERS.index(c) for c in text]])


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_sentences_end_at_their_marks_and_hold_every_token(text, expected) -> None:
    tokenizer, ids = letter_by_letter(text)
    players = ap.players.sentences(decoder(), ids, tokenizer)
    assert [name.removesuffix(" #2") for name in players.names] == expected
    owner = next(iter(players.owner.values())).flatten().tolist()
    assert owner == sorted(owner) and set(owner) == set(range(len(expected)))
    assert players.geometry["sentence"].shown == tuple(text)
    for k, sentence in enumerate(expected):
        assert "".join(c for c, o in zip(text, owner, strict=True) if o == k).strip() == sentence


def test_spans_hold_the_tokens_whose_middle_lies_inside() -> None:
    tokenizer, ids, text = SPELLINGS["word pieces"]
    ids = torch.tensor([ids])
    assert text == "the unbelievable cat, it sat."
    players = ap.players.spans(decoder(), ids, tokenizer, ["unbelievable cat", (22, 29)])
    owner = next(iter(players.owner.values())).flatten().tolist()
    assert owner == [-1, 0, 0, 0, 0, -1, 1, 1, 1]
    assert players.names == ("unbelievable cat", "it sat.")
    part = ap.players.spans(decoder(), ids, tokenizer, [(0, 7)], ["start"])
    assert next(iter(part.owner.values())).flatten().tolist()[:4] == [0, 0, -1, -1]
    assert part.names == ("start",)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (["cat", (17, 22)], "spans 0 and 1 overlap in 'cat'"),
        (["t"], "stands 4 times"),
        (["dog"], "stands 0 times"),
        ([""], "stands 0 times"),
        ([(5, 40)], "text of 29 characters"),
        ([(5, 5)], "text of 29 characters"),
        ([(4, 5)], "holds no token"),
        ([], "no players"),
    ],
)
def test_spans_that_are_none_are_refused(spans, message) -> None:
    tokenizer, ids, _ = SPELLINGS["word pieces"]
    with pytest.raises(ap.BadRequest, match=message):
        ap.players.spans(decoder(), torch.tensor([ids]), tokenizer, spans)
    with pytest.raises(ap.BadRequest, match="2 names for 1 spans"):
        ap.players.spans(decoder(), torch.tensor([ids]), tokenizer, ["cat"], ["a", "b"])
