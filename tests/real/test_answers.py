"""What the library says about real models, against what plain PyTorch says by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.conftest import missing
from tests.small import close

pytestmark = pytest.mark.slow

CAT = 285
PROMPT = "When Mary and John went to the store, John gave a drink to"
FOIL = "When Mary and John went to the store, Mary gave a drink to"
FRANCE = "The capital of France is"


@pytest.fixture(scope="module")
def net() -> ap.Subject:
    return loaded("efficientnet-lite0")


@pytest.fixture(scope="module")
def lm() -> ap.Subject:
    return loaded("smollm2")


def loaded(name: str) -> ap.Subject:
    try:
        return ap.zoo.load(name)
    except ap.BadRequest as refused:
        if "needs the package" not in str(refused):
            raise
        missing(str(refused))
        raise


def photo(net: ap.Subject, name: str = "cat") -> Tensor:
    return net.prepare(ap.zoo.samples.sample(name)).x


def ids_of(lm: ap.Subject, text: str) -> Tensor:
    return lm.tokenizer(text, return_tensors="pt")["input_ids"]


def zeros() -> ap.Blend:
    return ap.Blend(ap.removals.zeros())


@contextmanager
def hooked(module: nn.Module, hook: Callable, *, before: bool = False) -> Iterator[None]:
    add = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = add(hook)
    try:
        yield
    finally:
        handle.remove()


def plain_logits(lm: ap.Subject, ids: Tensor) -> Tensor:
    """Every position's scores, (position, token), of an ordinary pass."""
    with torch.no_grad():
        return lm.model(ids).logits[0].double()


# -- two ways to one quantity


def agree(one: ap.Attribution, two: ap.Attribution) -> None:
    """Two unbiased estimates differ by noise of the stated size: no player by more than 4 standard
    errors, and all together by about as much as they say.
    """
    z = (one.scores - two.scores) / (one.error.square() + two.error.square()).sqrt()
    assert float(z.abs().max()) < 4
    assert 0.2 < float(z.square().mean()) < 3
    for credit in (one, two):
        assert float((credit.scores / credit.error).abs().max()) > 4  # it says something


def test_two_shapley_estimators_agree_on_patches_of_a_photo(net) -> None:
    x = photo(net)
    fine = ap.players.patches(x, 28)
    groups = [
        [8 * r + c for r in (2 * i, 2 * i + 1) for c in (2 * j, 2 * j + 1)]
        for i in range(4)
        for j in range(4)
    ]
    removal = ap.Blend(ap.removals.blur(8))
    game = ap.ModelGame(net.model, x, ap.values.Logit(CAT), fine.merge(groups), removal)
    agree(
        ap.attribute(game, ap.PermutationShapley(orders=12), seed=1),
        ap.attribute(game, ap.KernelShap(samples=180), seed=2),
    )


def test_two_shapley_estimators_agree_on_groups_of_heads(lm) -> None:
    ids, heads = ids_of(lm, FRANCE), ap.players.heads(lm.model)
    groups = [[h for h in range(heads.n) if h * 16 // heads.n == k] for k in range(16)]
    background = ap.Blend(ap.removals.mean(lm.windows(ids.shape[1], 8)))
    value = ap.values.Contrast(lm.index(" Paris"), lm.index(" Rome"))
    game = ap.ModelGame(lm.model, ids, value, heads.merge(groups), background)
    agree(
        ap.attribute(game, ap.PermutationShapley(orders=12), seed=1, chunk=32),
        ap.attribute(game, ap.KernelShap(samples=180), seed=2, chunk=32),
    )


# -- leaving out, by hand


def test_leaving_out_channels_is_zeroing_them_in_a_hook(net) -> None:
    x, layer = photo(net), "_conv_stem"
    players = ap.players.channels(net.model, layer)
    credit = ap.attribute(
        ap.ModelGame(net.model, x, ap.values.Logit(CAT), players, zeros()), ap.LeaveOneOut()
    )
    drops = []
    with torch.no_grad():
        full = net.model(x)[0, CAT]
        for k in range(players.n):

            def silence(module: nn.Module, args: tuple, out: Tensor, k: int = k) -> Tensor:
                out = out.clone()
                out[:, k] = 0
                return out

            with hooked(net.model.get_submodule(layer), silence):
                drops.append(full - net.model(x)[0, CAT])
    close(credit.scores, torch.stack(drops), atol=1e-4)
    assert float(credit.scores.abs().max()) > 0.1


def test_leaving_out_patches_is_painting_over_them(net) -> None:
    x, other = photo(net), photo(net, "coffee")
    removal = ap.Blend(ap.removals.counterfactual(other))
    game = ap.ModelGame(net.model, x, ap.values.Logit(CAT), ap.players.patches(x, 56), removal)
    credit = ap.attribute(game, ap.LeaveOneOut())
    drops = []
    with torch.no_grad():
        full = net.model(x)[0, CAT]
        for row in range(0, 224, 56):
            for column in range(0, 224, 56):
                painted, cell = x.clone(), (..., slice(row, row + 56), slice(column, column + 56))
                painted[cell] = other[cell]
                drops.append(full - net.model(painted)[0, CAT])
    close(credit.scores, torch.stack(drops), atol=1e-4)
    assert float(credit.scores.abs().max()) > 0.1


def test_leaving_out_heads_is_zeroing_what_they_give_to_the_projection(lm) -> None:
    ids, paris = ids_of(lm, FRANCE), lm.index(" Paris")
    players = ap.players.heads(lm.model)
    game = ap.ModelGame(lm.model, ids, ap.values.Logit(paris), players, zeros())
    credit = ap.attribute(game, ap.LeaveOneOut(), chunk=32)
    count = lm.model.config.num_attention_heads
    width = lm.model.config.hidden_size // count
    full = plain_logits(lm, ids)[-1, paris]
    close(credit.full, full, atol=1e-4)
    # the largest and the smallest of all layers, and one head of every fifth layer
    order = credit.scores.abs().argsort(descending=True).tolist()
    for player in {*order[:6], *order[-2:], *range(1, players.n, 5 * count + 1)}:
        layer, head = divmod(player, count)
        assert players.names[player] == f"layer {layer}, head {head}"

        def silence(module: nn.Module, args: tuple, head: int = head) -> tuple:
            given = args[0].clone()
            given[..., head * width : (head + 1) * width] = 0
            return (given, *args[1:])

        projection = lm.model.get_submodule(f"model.layers.{layer}.self_attn.o_proj")
        with hooked(projection, silence, before=True):
            drop = full - plain_logits(lm, ids)[-1, paris]
        close(credit.scores[player], drop, atol=1e-4)


# -- a path between prompts closes its gap, one from nothing does not


def test_a_path_between_two_prompts_adds_up(lm) -> None:
    ids, other = ids_of(lm, PROMPT), ids_of(lm, FOIL)
    value = ap.values.Contrast(lm.index(" Mary"), lm.index(" John"))
    removal = ap.Blend(ap.removals.counterfactual(other))
    players = ap.players.tokens(lm.model, ids, lm.tokenizer)
    game = ap.ModelGame(lm.model, ids, value, players, removal)
    credit = ap.attribute(game, ap.PathIntegral(steps=32))
    change = float(credit.full - credit.none)
    ends = [plain_logits(lm, p)[-1] for p in (ids, other)]
    one, two = (float(end[lm.index(" Mary")] - end[lm.index(" John")]) for end in ends)
    assert abs(change - (one - two)) < 1e-3
    assert abs(change) > 3  # Mary and John change places
    assert abs(float(credit.gap)) < 1e-3 * abs(change)
    assert credit.cost.gradients == 32  # no doubling was needed
    assert not any("does not vanish" in note for note in credit.provenance.notes)
    moved = (ids != other)[0]
    close(credit.scores[~moved], torch.zeros(int((~moved).sum())), atol=1e-6)


def test_a_path_from_zero_embeddings_does_not_add_up_and_says_so(lm) -> None:
    """Normalisation has a cliff at the zero embedding that no number of nodes resolves."""
    ids = ids_of(lm, PROMPT)
    value = ap.values.Logit(lm.index(" Mary"))
    game = ap.ModelGame(lm.model, ids, value, ap.players.tokens(lm.model, ids), zeros())
    credit = ap.attribute(game, ap.PathIntegral(steps=8))
    assert abs(float(credit.gap)) > 0.05 * abs(float(credit.full - credit.none))
    assert credit.cost.gradients == 3 * 8
    said = [note for note in credit.provenance.notes if "does not vanish" in note]
    assert len(said) == 1
    assert "another reference" in said[0]
    assert said[0] in str(credit)


# -- batches


@pytest.mark.parametrize(
    "estimator", [ap.LeaveOneOut(), ap.PathIntegral(steps=5, tolerance=None)], ids=["value", "grad"]
)
def test_batches_do_not_change_what_is_said_about_a_photo(net, estimator) -> None:
    x = photo(net)
    game = ap.ModelGame(net.model, x, ap.values.Logit(CAT), ap.players.patches(x, 56), zeros())
    one, four, many = (ap.attribute(game, estimator, chunk=c).scores for c in (1, 4, 16))
    close(one, four, atol=1e-4)
    close(one, many, atol=1e-4)


@pytest.mark.parametrize(
    "estimator", [ap.LeaveOneOut(), ap.PathIntegral(steps=5, tolerance=None)], ids=["value", "grad"]
)
def test_batches_do_not_change_what_is_said_about_a_prompt(lm, estimator) -> None:
    ids = ids_of(lm, PROMPT)
    removal = ap.Blend(ap.removals.counterfactual(ids_of(lm, FOIL)))
    players = ap.players.tokens(lm.model, ids)
    game = ap.ModelGame(lm.model, ids, ap.values.Logit(lm.index(" Mary")), players, removal)
    one, four, many = (ap.attribute(game, estimator, chunk=c).scores for c in (1, 4, 16))
    close(one, four, atol=1e-4)
    close(one, many, atol=1e-4)


# -- several tokens


def log_probability(lm: ap.Subject, ids: Tensor, length: int) -> Tensor:
    """Sum over the last `length` tokens, each from a pass over only what stands before it."""
    total = torch.zeros((), dtype=torch.float64)
    for end in range(ids.shape[1] - length, ids.shape[1]):
        total += plain_logits(lm, ids[:, :end])[-1].log_softmax(-1)[int(ids[0, end])]
    return total


@pytest.mark.parametrize("answer", [" Mary and then they went home.", " John"])
def test_a_continuation_is_worth_the_sum_of_its_tokens(lm, answer) -> None:
    ids, value, players = ap.continuation(lm.model, PROMPT, answer, lm.tokenizer)
    length = len(value.tokens)
    assert lm.tokenizer.decode(ids[0]) == PROMPT + answer
    assert players.n == ids.shape[1] - length
    game = ap.ModelGame(lm.model, ids, value, players, zeros())
    gates = torch.ones(2, players.n, dtype=torch.bool)
    gates[1, 1:4] = False
    both = game.value(gates)
    close(both[0], log_probability(lm, ids, length), atol=1e-4)

    def silence(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, 1:4] = 0
        return out

    with hooked(lm.model.get_input_embeddings(), silence):
        close(both[1], log_probability(lm, ids, length), atol=1e-4)
    assert abs(float(both[0] - both[1])) > 0.1
