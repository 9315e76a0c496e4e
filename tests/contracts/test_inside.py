"""References inside the model are the activations of another input: activation patching by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.games import record
from tests.contracts.made import HIDDEN, ZEROS, Counting, X, asking, hard, mixed, some, tiny
from tests.small import IDS, close, cnn, decoder, mlp, normal

OTHER = torch.tensor([[3, 2, 7, 1, 5, 9]])
POOL = torch.tensor([[3, 2, 7, 1, 5, 9], [0, 1, 4, 8, 5, 2], [6, 6, 6, 1, 0, 9]])


def recorded(model: nn.Module, given: Any, pick: Callable[[nn.Module], nn.Module]) -> Tensor:
    """What a layer gives on an input, by a plain hook."""
    kept: list[Tensor] = []
    hook = pick(model).register_forward_hook(lambda m, a, out: kept.append(out.detach()))
    with torch.no_grad():
        model(given)
    hook.remove()
    return kept[0]


def patched(
    model: nn.Module, given: Any, pick: Callable[[nn.Module], nn.Module], new: Tensor, keep: Tensor
) -> Any:
    """The output when a layer's is overwritten where `keep` is False, by a plain hook."""
    hook = pick(model).register_forward_hook(lambda m, a, out: torch.where(keep, out, new))
    with torch.no_grad():
        output = model(given)
    hook.remove()
    return output


def first_mlp(model: nn.Module) -> nn.Module:
    return model.layers[0].mlp


def test_activation_patching_of_mlps_equals_the_hand_made_one() -> None:
    model = decoder()
    removal = ap.Blend(ap.removals.counterfactual(OTHER))
    game = asking(model, IDS, removal, players=ap.players.mlps(model))
    new = recorded(model, OTHER, first_mlp)
    expected = patched(model, IDS, first_mlp, new, torch.tensor(False))["logits"][:, -1, 0]
    close(game.value(hard("01")), expected, atol=1e-12)


@pytest.mark.parametrize("positions", [None, [1, 2, 4]])
def test_activation_patching_of_heads_equals_the_hand_made_one(positions) -> None:
    """Each head's slice of the output projection's input, at all positions or at some."""
    model = decoder()
    removal = ap.Blend(ap.removals.counterfactual(OTHER))
    players = ap.players.heads(model, count=2, positions=positions, length=6)
    game = asking(model, IDS, removal, players=players)
    kept: list[Tensor] = []
    o_proj = model.layers[1].self_attn.o_proj
    hook = o_proj.register_forward_pre_hook(lambda m, a: kept.append(a[0]))
    with torch.no_grad():
        model(OTHER)
    hook.remove()
    head, place = 1, slice(None) if positions is None else 2
    name = "layer 1, head 1" + ("" if positions is None else ", position 2")

    def patch(m: nn.Module, args: tuple) -> tuple:
        x = args[0].clone()
        x[:, place, 4 * head : 4 * head + 4] = kept[0][:, place, 4 * head : 4 * head + 4]
        return (x,)

    hook = o_proj.register_forward_pre_hook(patch)
    with torch.no_grad():
        expected = model(IDS)["logits"][:, -1, 0]
    hook.remove()
    gates = torch.ones(1, players.n, dtype=torch.bool)
    gates[0, players.names.index(name)] = False
    close(game.value(gates), expected, atol=1e-12)


def test_tokens_replaced_by_those_of_another_prompt_give_its_output() -> None:
    model = decoder()
    removal = ap.Blend(ap.removals.counterfactual(OTHER))
    game = asking(model, IDS, removal, players=ap.players.tokens(model, IDS))
    half = torch.where(hard("110100"), IDS, OTHER)
    with torch.no_grad():
        close(game.value(hard("000000")), model(OTHER)["logits"][:, -1, 0], atol=1e-12)
        close(game.value(hard("110100")), model(half)["logits"][:, -1, 0], atol=1e-12)


def test_the_mean_inside_the_model_is_the_mean_of_activations_not_of_inputs() -> None:
    model = decoder()
    game = asking(model, IDS, ap.Blend(ap.removals.mean(POOL)), players=ap.players.mlps(model))
    new = recorded(model, POOL, first_mlp).mean(0, keepdim=True)
    expected = patched(model, IDS, first_mlp, new, torch.tensor(False))["logits"][:, -1, 0]
    close(game.value(hard("01")), expected, atol=1e-12)
    assert game.draws == 1
    assert game.setup == ap.Work(forwards=1 + len(POOL))


def test_rows_inside_the_model_are_one_of_the_pool_per_draw() -> None:
    model = decoder()
    game = asking(model, IDS, ap.Blend(ap.removals.rows(POOL)), players=ap.players.mlps(model))
    every = recorded(model, POOL, first_mlp)
    expected = [
        patched(model, IDS, first_mlp, new[None], torch.tensor(False))["logits"][:, -1, 0]
        for new in every
    ]
    order = torch.tensor([2, 0, 1, 2])
    values = game.value(hard("01", "01", "01", "01"), order)
    close(values, torch.cat(expected)[order], atol=1e-12)
    assert game.setup == ap.Work(forwards=1 + len(POOL))
    game.value(hard("10", "00"), torch.tensor([1, 2]))
    assert game.setup == ap.Work(forwards=1 + len(POOL))  # recorded once


def test_a_blurred_picture_inside_the_model_is_the_activations_it_causes() -> None:
    model, x = cnn(), normal(1, 2, 8, 8)
    removal = ap.Blend(ap.removals.blur(1.5))
    game = asking(model, x, removal, players=ap.players.channels(model, "4"))
    blurred = ap.removals.references.gaussian_blur(x, 1.5)
    new = recorded(model, blurred, lambda m: m[4])
    keep = hard("10010")[0][:, None, None]
    expected = patched(model, x, lambda m: m[4], new, keep)[:, 0]
    close(game.value(hard("10010")), expected, atol=1e-12)


def test_every_forward_pass_of_the_set_up_is_counted() -> None:
    """The clean run, and one per reference input that has to be seen inside; none for constants
    and at the input.
    """
    cases = {
        ap.removals.zeros(): 1,
        ap.removals.counterfactual(2 * X): 2,
        ap.removals.mean(normal(5, 6)): 6,
        ap.removals.rows(normal(5, 6)): 6,
    }
    for reference, runs in cases.items():
        model = tiny(Counting)
        inside = ap.players.neurons(model, "inner.0")
        game = asking(model, X, ap.Blend(reference), players=inside)
        states = torch.arange(5) if game.draws == 5 else None
        game.value(some(8), states)
        assert game.setup == ap.Work(forwards=runs)
        assert len(model.rows) == runs + 1
        at_input = asking(model, X, ap.Blend(reference))
        at_input.value(some(6), states)
        assert at_input.setup == ap.Work(forwards=1)


def test_the_set_up_is_part_of_what_an_answer_says_it_cost() -> None:
    game = asking(
        model := mlp(),
        X,
        ap.Blend(ap.removals.mean(normal(5, 6))),
        players=ap.players.neurons(model, HIDDEN),
    )
    credit = ap.attribute(game, ap.LeaveOneOut())
    assert credit.provenance.setup_forwards == game.setup.forwards == 6


def test_activations_beyond_the_limit_are_recorded_again_and_equal(monkeypatch) -> None:
    def values() -> tuple[Tensor, float]:
        model = mlp()
        removal = ap.Blend(ap.removals.rows(normal(5, 6)))
        game = asking(model, X, removal, players=ap.players.neurons(model, HIDDEN))
        answers = [game.value(some(8), torch.tensor([0, 4, 2, 1, d])) for d in range(5)]
        return torch.cat(answers), game.setup.forwards

    plenty, runs = values()
    monkeypatch.setattr(record, "LIMIT", 2 * 8 * 8)  # two rows of eight float64 numbers
    scarce, more = values()
    close(plenty, scarce)
    assert more > runs


def test_references_are_the_same_model_asked_clean_even_when_features_are_gone() -> None:
    """A mixed game: columns are absent by zeros, hidden units by those of another input."""
    model, other = mlp(), normal(1, 6, seed=8)
    each = {"column": ZEROS, "neuron": ap.Blend(ap.removals.counterfactual(other))}
    game = mixed(model, each)
    gates = some(14, rows=6)
    new = recorded(model, other, lambda m: m[0])
    for row, value in zip(gates, game.value(gates), strict=True):
        expected = patched(model, X * row[:6], lambda m: m[0], new, row[6:])
        close(value, expected[0, 0], atol=1e-12)


def test_one_removal_for_both_kinds_reads_both_sites_in_one_pass() -> None:
    model, other = tiny(Counting), normal(1, 6, seed=8)
    layers = [ap.players.neurons(model, f"inner.{k}") for k in (0, 2)]
    removal = ap.Blend(ap.removals.counterfactual(other))
    game = asking(model, X, removal, players=layers[0] | layers[1])
    game.value(some(16))
    assert game.setup == ap.Work(forwards=2)


@pytest.mark.parametrize(
    "reference",
    [
        ap.removals.counterfactual(torch.tensor([[3, 2, 7]])),
        ap.removals.mean(torch.tensor([[3, 2, 7]])),
        ap.removals.rows(torch.tensor([[3, 2, 7]])),
    ],
    ids=repr,
)
def test_prompts_of_another_length_are_refused_with_how_to_align_them(reference) -> None:
    model = decoder()
    for players in (ap.players.tokens(model, IDS), ap.players.mlps(model)):
        with pytest.raises(ap.BadRequest, match=r"\(3,\).*\(6,\).*same number of tokens"):
            asking(model, IDS, ap.Blend(reference), players=players)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_references_that_are_no_numbers_are_refused(bad) -> None:
    spoilt = X.clone()
    spoilt[0, 1] = bad
    with pytest.raises(ap.BadRequest, match="NaN"):
        asking(mlp(), X, ap.Blend(ap.removals.counterfactual(spoilt)))
    for build in (ap.removals.mean, ap.removals.rows, ap.removals.resample):
        with pytest.raises(ap.BadRequest, match="clean it first"):
            build(spoilt)

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.sqrt())

    model = Root()
    players = ap.players.neurons(model, "inner", input=X.abs())
    with pytest.raises(ap.BadRequest, match="NaN or infinite numbers at the output of inner"):
        asking(model, X.abs(), ap.Blend(ap.removals.counterfactual(-X.abs())), players=players)


def test_references_of_another_kind_or_number_are_refused() -> None:
    with pytest.raises(ap.BadRequest, match=r"torch\.int64.*torch\.float64"):
        asking(mlp(), X, ap.Blend(ap.removals.counterfactual(X.long())))
    with pytest.raises(ap.BadRequest, match="2 references for 3 instances"):
        asking(mlp(), normal(3, 6), ap.Blend(ap.removals.counterfactual(normal(2, 6))))


def test_one_reference_serves_all_instances_or_each_has_its_own() -> None:
    x, one, each = normal(3, 6), normal(1, 6, seed=1), normal(3, 6, seed=2)
    for other in (one, each):
        game = asking(mlp(), x, ap.Blend(ap.removals.counterfactual(other)))
        with torch.no_grad():
            expected = mlp()(other.expand(3, 6))[:, 0]
        close(game.value(hard("000000"))[0], expected, atol=1e-12)


def test_a_counterfactual_of_a_mapping_or_tuple_replaces_what_it_names() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return x * scale

    scale, players = normal(1, 6, seed=2), ap.players.columns(X)
    named = ap.players.columns(X, part="x")
    for given, other, who in (
        ((X, scale), (2 * X, scale), players),
        ({"x": X, "scale": scale}, {"x": 2 * X}, named),
    ):
        game = asking(Two(), given, ap.Blend(ap.removals.counterfactual(other)), players=who)
        close(game.value(hard("000000")), (2 * X * scale)[:, 0])
    with pytest.raises(ap.BadRequest, match="give the same ones"):
        unknown = ap.Blend(ap.removals.counterfactual({"z": X}))
        asking(Two(), {"x": X, "scale": scale}, unknown, players=named)
