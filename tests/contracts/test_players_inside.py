"""Players inside the model, on our small networks and on unmodified ones of transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.conftest import missing
from tests.contracts.made import asking, some, tiny
from tests.small import IDS, central_difference, close, cnn, decoder, mlp, normal, untouched

try:
    import transformers as hf
except ImportError:
    hf = None


class Family(NamedTuple):
    """A tiny model, and where its heads and MLP blocks are by the book."""

    model: nn.Module
    projections: list[str]
    blocks: list[str]
    heads: int


WIDTH, VOCABULARY = 8, 17
# weights large enough for slopes that stand out from the float32 norms inside Llama
SIZES = {"vocab_size": VOCABULARY, "initializer_range": 0.3}
COMMON = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12,
    "max_position_embeddings": 16,
}  # fmt: skip


def ours() -> Family:
    paths = [f"layers.{i}" for i in range(2)]
    return Family(
        decoder(), [f"{p}.self_attn.o_proj" for p in paths], [f"{p}.mlp" for p in paths], 2
    )


def gpt2() -> Family:
    config = hf.GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=4, n_positions=16, bos_token_id=0, eos_token_id=0, **SIZES
    )
    paths = [f"transformer.h.{i}" for i in range(2)]
    model = tiny(lambda: hf.GPT2LMHeadModel(config))
    return Family(model, [f"{p}.attn.c_proj" for p in paths], [f"{p}.mlp" for p in paths], 4)


def llama() -> Family:
    config = hf.LlamaConfig(**COMMON, num_key_value_heads=2, **SIZES)
    paths = [f"model.layers.{i}" for i in range(2)]
    model = tiny(lambda: hf.LlamaForCausalLM(config))
    return Family(model, [f"{p}.self_attn.o_proj" for p in paths], [f"{p}.mlp" for p in paths], 4)


def bert() -> Family:
    config = hf.BertConfig(**COMMON, num_labels=3, **SIZES)
    paths = [f"bert.encoder.layer.{i}" for i in range(2)]
    model = tiny(lambda: hf.BertForSequenceClassification(config))
    return Family(
        model,
        [f"{p}.attention.output.dense" for p in paths],
        [f"{p}.output.dense" for p in paths],
        4,
    )


@cache
def family(name: str) -> Family:
    if name != "ours" and hf is None:
        missing("transformers is not installed")
    return {"ours": ours, "gpt2": gpt2, "llama": llama, "bert": bert}[name]()


FAMILIES = pytest.mark.parametrize("name", ["ours", "gpt2", "llama", "bert"])


def logit(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits = model(IDS)["logits"]
    return logits[0, 0] if logits.ndim == 2 else logits[0, -1, 0]


def scaled(model: nn.Module, path: str, keep: Tensor, *, inputs: bool) -> Callable[[], None]:
    """Multiplies a layer's input or output with a plain hook; returns how to undo it."""
    layer = model.get_submodule(path)
    if inputs:
        return layer.register_forward_pre_hook(lambda m, args: (args[0] * keep, *args[1:])).remove
    return layer.register_forward_hook(lambda m, args, out: out * keep).remove


@FAMILIES
def test_an_absent_head_is_a_slice_of_the_projections_input_set_to_zero(name) -> None:
    model, projections, _, count = family(name)
    players = ap.players.heads(model, count=2 if name == "ours" else None)
    assert [site.path for site in players.owner] == projections
    assert players.n == 2 * count
    assert players.names[count + 1] == "layer 1, head 1"
    gates = some(players.n, rows=4)
    with untouched(model):
        values = asking(model, IDS, players=players).value(gates)
    for row, value in zip(gates, values, strict=True):
        undo = [
            scaled(
                model, path, row[k * count :][:count].repeat_interleave(WIDTH // count), inputs=True
            )
            for k, path in enumerate(projections)
        ]
        close(value, logit(model), atol=1e-12)
        for remove in undo:
            remove()


@FAMILIES
def test_an_absent_head_at_a_position_is_absent_nowhere_else(name) -> None:
    model, projections, _, count = family(name)
    positions = [1, 4]
    players = ap.players.heads(model, count=count, positions=positions, length=6)
    assert players.n == 2 * count * 2
    assert players.names[count] == "layer 0, head 0, position 4"
    gates = some(players.n, rows=4)
    values = asking(model, IDS, players=players).value(gates)
    for row, value in zip(gates, values, strict=True):
        undo = []
        for k, path in enumerate(projections):
            keep = torch.ones(6, WIDTH, dtype=torch.bool)
            own = row[2 * count * k :][: 2 * count].unflatten(0, (2, count))
            keep[positions] = own.repeat_interleave(WIDTH // count, 1)
            undo.append(scaled(model, path, keep, inputs=True))
        close(value, logit(model), atol=1e-12)
        for remove in undo:
            remove()


@FAMILIES
def test_an_absent_mlp_is_its_output_set_to_zero(name) -> None:
    model, _, blocks, _ = family(name)
    players = ap.players.mlps(model)
    assert [site.path for site in players.owner] == blocks
    assert players.names == ("layer 0, MLP", "layer 1, MLP")
    gates = some(2, rows=4)
    values = asking(model, IDS, players=players).value(gates)
    for row, value in zip(gates, values, strict=True):
        undo = [scaled(model, p, row[k], inputs=False) for k, p in enumerate(blocks)]
        close(value, logit(model), atol=1e-12)
        for remove in undo:
            remove()


@FAMILIES
def test_tokens_heads_and_mlps_mix_and_slopes_are_those_of_the_values(name) -> None:
    model, _, _, count = family(name)
    players = (
        ap.players.tokens(model, IDS)
        | ap.players.heads(model, count=count)
        | ap.players.mlps(model)
    )
    game = asking(model, IDS, players=players)
    gates = torch.full((1, players.n), 0.7, dtype=torch.float64)
    with untouched(model):
        slopes = game.grad(gates)[1]
    close(slopes, central_difference(game, gates, step=1e-3), atol=5e-4)
    assert float(slopes.abs().max()) > 0.05
    inner = model.get_input_embeddings()
    assert model.get_submodule(next(iter(ap.players.tokens(model, IDS).owner)).path) is inner


def test_an_absent_neuron_or_channel_is_its_output_set_to_zero() -> None:
    model, x = mlp(), normal(1, 6)
    gates = some(8, rows=3)
    values = asking(model, x, players=ap.players.neurons(model, "2")).value(gates)
    for row, value in zip(gates, values, strict=True):
        remove = scaled(model, "2", row, inputs=False)
        close(value, model(x)[0, 0].detach(), atol=1e-12)
        remove()
    picture, net = normal(1, 2, 8, 8), cnn()
    for layer, width in (("0", 4), ("1", 4), ("2", 4), ("3", 4), ("4", 5)):
        players = ap.players.channels(net, layer, input=picture)
        assert players.n == width
        gates = some(width, rows=3)
        values = asking(net, picture, players=players).value(gates)
        for row, value in zip(gates, values, strict=True):
            remove = scaled(net, layer, row[:, None, None], inputs=False)
            close(value, net(picture)[0, 0].detach(), atol=1e-12)
            remove()


def test_neurons_of_a_sequence_are_units_at_all_positions() -> None:
    model = decoder()
    players = ap.players.neurons(model, "layers.0.mlp", input=IDS)
    gates = some(WIDTH, rows=3)
    values = asking(model, IDS, players=players).value(gates)
    for row, value in zip(gates, values, strict=True):
        remove = scaled(model, "layers.0.mlp", row, inputs=False)
        close(value, logit(model), atol=1e-12)
        remove()


@pytest.mark.parametrize("build", [ap.players.channels, ap.players.neurons])
def test_looking_up_a_width_leaves_a_model_in_training_untouched(build) -> None:
    """One forward pass may tell the width; it may move neither running statistics nor the global
    random state.
    """
    norm, drop = cnn().train(), nn.Sequential(nn.Dropout(), nn.MaxPool2d(2)).train()
    for model, layer, planes in ((norm, "3", 2), (drop, "1", 4)):
        with untouched(model):
            assert build(model, layer, input=normal(1, planes, 8, 8)).n == 4


def test_layers_whose_numbers_repeat_are_told_apart_by_their_paths() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = decoder(), decoder()

    names = ap.players.mlps(Both()).names
    assert len(set(names)) == 4 and "left.layers.0.mlp" in names[0]
    assert len(set(ap.players.heads(Both(), count=2).names)) == 8


def test_an_mlp_inside_an_mlp_is_part_of_it() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.ModuleDict({"mlp": nn.Linear(2, 2)})

    assert [site.path for site in ap.players.mlps(tiny(Nested)).owner] == ["mlp"]
