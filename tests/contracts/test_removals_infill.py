"""Absent tokens are what a language model puts there, before the explained model runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.removals import Removal
from tests.contracts.made import Plainly, asking, hard, soft, some
from tests.small import IDS, Decoder, close, decoder, seeded, untouched

VOCABULARY, MASK = 17, 16
LENGTH = IDS.shape[1]


class Stub(nn.Module):
    """A language model known in closed form. The logit of token t at a place is `sharp` where t is
    the sum of the tokens it sees (all for a masked model, those up to here for a causal one) modulo
    16, else 0.
    """

    def __init__(self, sharp: float = 50.0, *, causal: bool = False) -> None:
        super().__init__()
        self.sharp, self.causal, self.seen = sharp, causal, []
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        self.seen.append(ids.clone())
        shown = torch.where(ids == MASK, 0, ids)
        total = shown.cumsum(1) if self.causal else shown.sum(1, keepdim=True).expand_as(ids)
        target = total % 16
        return self.sharp * nn.functional.one_hot(target, VOCABULARY).float()


class Look(nn.Module):
    """Gives the embeddings that reach it; those of a token are its number, one-hot."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(torch.eye(VOCABULARY, dtype=torch.float64))

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, ids: Tensor) -> Tensor:
        return self.embed(ids).flatten(1)


def look(removal: Removal, ids: Tensor = IDS, players: object = None) -> ap.ModelGame:
    model = Look()
    players = ap.players.tokens(model, ids) if players is None else players
    everything = ap.values.Logit(tuple(range(LENGTH * VOCABULARY)))
    return asking(model, ids, removal, value=everything, players=players)


def seen(game: ap.ModelGame, gates: Tensor, draw: int | Tensor = 0) -> Tensor:
    """The tokens that reached the model."""
    draws = draw if isinstance(draw, Tensor) else torch.full((len(gates),), draw)
    values = game.value(gates, None if game.draws == 1 else draws)
    return values.unflatten(-1, (LENGTH, VOCABULARY)).argmax(-1)


def causal_by_hand(ids: list[int], keep: list[bool], start: int) -> list[int]:
    text = [start]
    for token, present in zip(ids, keep, strict=True):
        text.append(token if present else sum(text) % 16)
    return text[1:]


GATES = hard("111111", "011111", "110100", "000000", "101010", "110100")


def test_a_masked_model_sees_the_present_tokens_and_masks() -> None:
    lm = Stub()
    game = look(ap.removals.masked_infill(lm, MASK, temperature=0))
    got = seen(game, GATES)
    for row, text in zip(GATES, got, strict=True):
        guess = int(IDS[0][row].sum()) % 16
        assert torch.equal(text, torch.where(row, IDS[0], guess))
    rows = torch.cat(lm.seen)
    assert torch.equal(rows, torch.where(GATES[1:], IDS, MASK))  # the full coalition is not asked
    assert len(lm.seen) == 1  # coalitions together


def test_a_causal_model_writes_from_left_to_right() -> None:
    lm = Stub(causal=True)
    game = look(ap.removals.causal_infill(lm, start=7, temperature=0))
    for row, text in zip(GATES, seen(game, GATES), strict=True):
        assert text.tolist() == causal_by_hand(IDS[0].tolist(), row.tolist(), 7)
    assert all(bool((ids[:, 0] == 7).all()) for ids in lm.seen)
    assert len(lm.seen) <= LENGTH  # one pass per place, coalitions together


def test_without_a_start_the_first_token_belongs_to_nobody() -> None:
    removal = ap.removals.causal_infill(Stub(causal=True), temperature=0)
    with pytest.raises(ap.BadRequest, match=r"start=.*positions=range\(1"):
        look(removal).value(GATES)
    players = ap.players.tokens(Look(), IDS, positions=range(1, LENGTH))
    got = seen(look(removal, players=players), hard("01111", "00000"))
    assert got[0].tolist() == [3, 3, 4, 1, 5, 9]
    assert got[1].tolist() == causal_by_hand([3, 0, 0, 0, 0, 0], [True] + [False] * 5, 0)


@pytest.mark.parametrize("causal", [False, True])
def test_tokens_are_drawn_with_the_probabilities_of_the_model(causal) -> None:
    draws, sharp = 4000, 1.5
    lm = Stub(sharp, causal=causal)
    removal = (
        ap.removals.causal_infill(lm, start=0) if causal else ap.removals.masked_infill(lm, MASK)
    )
    game = look(removal)
    assert game.draws is None
    gates = hard("110111").expand(draws, -1)  # place 2 is absent
    tokens = seen(game, gates, torch.arange(draws))[:, 2]
    target = (3 + 1) % 16 if causal else (3 + 1 + 1 + 5 + 9) % 16
    scores = torch.zeros(VOCABULARY, dtype=torch.float64)
    scores[target] = sharp
    chance = scores.softmax(-1)
    count = torch.bincount(tokens, minlength=VOCABULARY)
    error = (draws * chance * (1 - chance)).sqrt()
    assert bool(((count - draws * chance).abs() < 4.5 * error).all())


def test_temperature_and_forbidden_tokens_shape_the_distribution() -> None:
    lm, gates = Stub(2.0), hard("111110").expand(600, -1)
    cold = look(ap.removals.masked_infill(lm, MASK, temperature=0.05))
    target = int(IDS[0, :5].sum()) % 16
    assert bool((seen(cold, gates, torch.arange(600))[:, 5] == target).all())
    rest = tuple(t for t in range(VOCABULARY) if t not in (2, 5))
    only = look(ap.removals.masked_infill(lm, MASK, never=rest))
    assert set(seen(only, gates, torch.arange(600))[:, 5].tolist()) == {2, 5}


def test_a_draw_is_the_same_numbers_for_every_coalition() -> None:
    game = look(ap.removals.masked_infill(Stub(0.0), MASK))  # all tokens alike: no context
    got = seen(game, hard("000000", "101010", "000000"), torch.tensor([4, 4, 5]))
    absent = ~hard("101010")[0]
    assert torch.equal(got[0][absent], got[1][absent])
    assert not torch.equal(got[0], got[2])


def test_values_are_those_of_the_model_on_the_texts_that_were_made_up() -> None:
    """In a real decoder that is its own language model; the model is left as it was."""
    model = decoder()
    removal = ap.removals.causal_infill(model, start=2, temperature=0)
    game = asking(model, IDS, removal, players=ap.players.tokens(model, IDS))
    gates = some(LENGTH)
    with untouched(model):
        values = game.value(gates)
    for row, got in zip(gates, values, strict=True):
        text = torch.tensor([[2]])
        for place in range(LENGTH):
            with torch.no_grad():
                guess = model(text)["logits"][:, -1].argmax(-1)
            token = IDS[:, place] if row[place] else guess
            text = torch.cat([text, token[:, None]], 1)
        with torch.no_grad():
            close(got, model(text[:, 1:])["logits"][0, -1, 0], atol=1e-10)
    assert torch.equal(game.value(torch.ones(1, LENGTH, dtype=torch.bool))[0],
                       game.clean.values[0])  # fmt: skip


def test_several_instances_are_filled_each_from_its_own_text() -> None:
    both = torch.cat([IDS, IDS.flip(1)])
    removal = ap.removals.masked_infill(Stub(), MASK, temperature=0)
    values = look(removal, both).value(GATES)
    alone = look(removal, both[1:]).value(GATES)
    close(values[:, 1], alone)


def test_words_are_filled_together_and_other_players_stay_as_they_are() -> None:
    model = decoder()
    tokens = ap.players.tokens(model, IDS)
    pairs = tokens.merge([[0, 1], [2, 3], [4, 5]])
    removal = ap.removals.causal_infill(model, start=2, temperature=0)
    fine = asking(model, IDS, removal, players=tokens)
    coarse = asking(model, IDS, removal, players=pairs)
    gates = some(3)
    close(coarse.value(gates), fine.value(gates.repeat_interleave(2, 1)))
    heads = ap.players.neurons(model, "layers.0.mlp", input=IDS)
    how = {"token": removal, heads.kinds[0]: ap.Blend(ap.removals.zeros())}
    mixed = asking(model, IDS, how, players=tokens | heads)
    everyone = torch.ones(1, heads.n, dtype=torch.bool)
    rows = some(LENGTH, rows=3)
    close(mixed.value(torch.cat([rows, everyone.expand(3, -1)], 1)), fine.value(rows))


def test_it_is_hard_only_and_counts_its_passes() -> None:
    removal = ap.removals.masked_infill(Stub(), MASK, temperature=0)
    game = look(removal)
    assert isinstance(removal, Removal)
    assert (game.domain, game.draws, game.grad_price) == ("binary", 1, None)
    assert game.price.forwards == 2
    causal = look(ap.removals.causal_infill(Stub(causal=True), start=0))
    assert causal.price.forwards == 1 + LENGTH
    assert causal.describe().cites == ("zhao2024",) and game.describe().cites == ("kim2020",)
    assert "masked_infill(Stub, temperature=0)" in game.describe().removal
    with pytest.raises(ap.NotSoft):
        game.value(soft(LENGTH))


def test_noise_comes_on_top() -> None:
    removal = ap.removals.masked_infill(Stub(), MASK, temperature=0)
    noisy, calm = look(ap.Jitter(removal, 0.1)), look(removal)
    off = noisy.value(GATES, torch.zeros(6, dtype=torch.long)) - calm.value(GATES)
    close(off[0], off[3], atol=1e-6)
    assert 0.05 < float(off.std()) < 0.2


def training() -> nn.Module:
    return Stub().train()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.removals.masked_infill(Stub(), None), r"mask=tokenizer\.mask_token_id"),
        (lambda: ap.removals.masked_infill(Stub(), -1), "no token number"),
        (lambda: ap.removals.masked_infill(Stub(), True), "no token number"),
        (lambda: ap.removals.masked_infill(training(), MASK), r"lm\.eval\(\)"),
        (lambda: ap.removals.masked_infill("bert", MASK), "torch.nn.Module"),
        (lambda: ap.removals.causal_infill(Stub(), temperature=-1.0), "temperature=-1"),
        (lambda: ap.removals.causal_infill(Stub(), start=-3), "no token number"),
        (lambda: ap.removals.causal_infill(Stub(), never=(-3,)), "no token number"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_models_and_inputs_that_do_not_fit_are_refused() -> None:
    masked = ap.removals.masked_infill
    gates = some(LENGTH)
    with pytest.raises(ap.BadRequest, match="never= names tokens"):
        look(masked(Stub(), MASK, temperature=0, never=(99,))).value(gates)
    with pytest.raises(ap.BadRequest, match="there is none to put in"):
        look(masked(Stub(), MASK, temperature=0, never=tuple(range(VOCABULARY)))).value(gates)
    with pytest.raises(ap.BadRequest, match="gives logits"):
        look(masked(Plainly(lambda ids: ids.float()).eval(), MASK, temperature=0)).value(gates)
    wide = seeded(lambda: Decoder(vocabulary=40))
    rest = tuple(range(17))
    with pytest.raises(ap.BadRequest, match="same vocabulary"):
        look(masked(wide, MASK, temperature=0, never=rest)).value(gates)
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ap.BadRequest, match=r"ap\.players\.tokens"):
        asking(Plainly(lambda x: x), x, masked(Stub(), MASK, temperature=0)).value(gates)


@pytest.mark.parametrize("causal", [False, True])
def test_where_nobody_is_absent_the_model_is_not_asked(causal) -> None:
    lm = Stub(causal=causal)
    removal = ap.removals.masked_infill(lm, MASK, temperature=0)
    if causal:
        removal = ap.removals.causal_infill(lm, temperature=0)
    everybody = torch.ones(3, LENGTH, dtype=torch.bool)
    assert torch.equal(seen(look(removal), everybody), IDS.expand(3, -1))
    assert not lm.seen


def test_tokens_that_the_model_does_not_know_are_refused() -> None:
    lm = seeded(lambda: Decoder(vocabulary=VOCABULARY))
    for removal, message in (
        (ap.removals.causal_infill(lm, start=400), r"start=400.*tokenizer\.bos_token_id"),
        (ap.removals.masked_infill(lm, 400), r"mask=400.*tokenizer\.mask_token_id"),
    ):
        with pytest.raises(ap.BadRequest, match=message):
            removal.fill(IDS, some(LENGTH), torch.zeros(len(some(LENGTH)), dtype=torch.long))


# -- the language models of transformers, tiny and untrained


def llama() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return seeded(lambda: transformers.LlamaForCausalLM(config))


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return seeded(lambda: transformers.BertForMaskedLM(config))


def quantile(logits: Tensor, chance: float) -> int:
    """The token at which the distribution function passes a number."""
    total = 0.0
    for token, p in enumerate(logits.softmax(-1).tolist()):
        total += p
        if total > chance:
            return token
    return len(logits) - 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_llama_is_explained_with_its_own_words(temperature) -> None:
    model, gates = llama(), some(LENGTH, rows=6)
    removal = ap.removals.causal_infill(model, start=1, temperature=temperature)
    game = asking(model, IDS, removal, players=ap.players.tokens(model, IDS))
    draw = None if temperature == 0 else torch.tensor([0, 1, 1, 2, 2, 5])
    with untouched(model):
        values = game.value(gates, draw)
    for i, (row, got) in enumerate(zip(gates, values, strict=True)):
        seed = 0 if draw is None else int(draw[i]) * 1_000_003
        chance = torch.rand(LENGTH, generator=torch.Generator().manual_seed(seed),
                            dtype=torch.float64)  # fmt: skip
        text = [1]
        for place in range(LENGTH):
            with torch.no_grad():
                logits = model(torch.tensor([text])).logits[0, -1]
            made = int(logits.argmax()) if draw is None else quantile(logits, float(chance[place]))
            text.append(int(IDS[0, place]) if row[place] else made)
        with torch.no_grad():
            close(got, model(torch.tensor([text[1:]])).logits[0, -1, 0], atol=1e-10)


def test_a_bert_fills_what_a_llama_reads() -> None:
    model, lm, gates = llama(), bert(), some(LENGTH, rows=6)
    removal = ap.removals.masked_infill(lm, MASK, temperature=0, never=(MASK,))
    game = asking(model, IDS, removal, players=ap.players.tokens(model, IDS))
    with untouched(model), untouched(lm):
        values = game.value(gates)
    for row, got in zip(gates, values, strict=True):
        shown = torch.where(row, IDS, MASK)
        with torch.no_grad():
            guess = lm(shown).logits[..., :MASK].argmax(-1)
            close(got, model(torch.where(row, IDS, guess)).logits[0, -1, 0], atol=1e-10)


def test_padded_inputs_are_refused() -> None:
    model = llama()
    given = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    removal = ap.removals.masked_infill(bert(), MASK, temperature=0)
    players = ap.players.tokens(model, IDS)
    whole = asking(model, given, removal, players=players)
    close(whole.value(some(LENGTH)),
          asking(model, IDS, removal, players=players).value(some(LENGTH)), atol=1e-10)  # fmt: skip
    given["attention_mask"][0, :2] = 0
    with pytest.raises(ap.BadRequest, match="without padding"):
        asking(model, given, removal, players=players).value(some(LENGTH))
