"""Tiny models of transformers, built from their configurations with random weights: architectures
of other people, unmodified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.players import Players
from tests.conftest import missing
from tests.small import untouched

try:
    import transformers as hf
except ImportError:
    hf = None

WIDTH, HEADS, LAYERS, WORDS, CLASSES = 16, 4, 2, 96, 5
IDS, DECODED = torch.tensor([[3, 41, 7, 90, 15, 28]]), torch.tensor([[2, 11, 64, 30]])
ZEROS = ap.Blend(ap.removals.zeros())
BOTH, EAGER = ("eager", "sdpa"), ("eager",)


@dataclass(frozen=True)
class Architecture:
    """How to build a model, and what is in it by the book."""

    model: str  # its class in transformers; the configuration's is named after it
    options: dict[str, Any]
    config: str = ""
    attentions: tuple[str, ...] = BOTH
    sees: str = "text"  # "text", "picture", "both": the tokens of an encoder and of a decoder
    heads: int = LAYERS * HEADS  # in the whole model
    mlps: int = LAYERS
    # parameters that enter as constants, besides biases: they are part of what the model reads,
    # but of no token and of no pixel
    constants: tuple[str, ...] = ()
    stream: str = ""  # whose output holds all that is read, constants included
    part: int | None = None  # which tensor of an MLP's output it adds
    layer: str = ""  # one inside a model that has no heads


# GPT-2 and its relatives name their sizes otherwise
NAMED = {
    "vocab_size": WORDS, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 32,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIZES = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "intermediate_size": 24, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIDES = {
    "vocab_size": WORDS, "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 32, "pad_token_id": 0, "eos_token_id": 2,
    "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
PICTURE = {"image_size": 12, "patch_size": 4, "num_channels": 3, "num_labels": CLASSES}
GROUPED = {"num_key_value_heads": 2}


def decoder(name: str, *, attentions: tuple[str, ...] = BOTH, **options: Any) -> Architecture:
    """A language model without position embeddings, its sizes named as Llama's."""
    options = {**SIZES, **options}
    return Architecture(f"{name}ForCausalLM", options, f"{name}Config", attentions)


def encoder(name: str, *, attentions: tuple[str, ...] = BOTH, **options: Any) -> Architecture:
    """A classifier of texts in the style of BERT."""
    stream = f"{name.lower().removesuffix('v2')}.embeddings"
    return Architecture(
        f"{name}ForSequenceClassification", {**SIZES, "num_labels": CLASSES, **options},
        f"{name}Config", attentions, stream=stream,
        constants=("embeddings.position_embeddings", "embeddings.token_type_embeddings"),
    )  # fmt: skip


def picture(name: str, *constants: str, **options: Any) -> Architecture:
    """A classifier of pictures in the style of ViT."""
    given = {**SIZES, **PICTURE, **options}
    return Architecture(
        f"{name}ForImageClassification", given, f"{name}Config", sees="picture",
        constants=constants, stream=f"{name.lower()}.embeddings",
    )  # fmt: skip


DECODERS = {
    "llama": decoder("Llama", **GROUPED),
    "mistral": decoder("Mistral", sliding_window=3, **GROUPED),
    "qwen2": decoder("Qwen2", **GROUPED),
    "qwen3": decoder("Qwen3", head_dim=6, **GROUPED),
    "gemma2": decoder(
        "Gemma2", head_dim=4, attn_logit_softcapping=5.0, final_logit_softcapping=3.0,
        sliding_window=3, attentions=EAGER, **GROUPED
    ),
    "gemma3": Architecture(
        "Gemma3ForCausalLM", {**SIZES, **GROUPED, "head_dim": 4, "sliding_window": 3},
        "Gemma3TextConfig",
    ),
    "phi": decoder("Phi", partial_rotary_factor=0.5),
    "phi3": decoder("Phi3", **GROUPED),
    "gpt2": Architecture(
        "GPT2LMHeadModel", NAMED, "GPT2Config", constants=("wpe",), stream="transformer.drop"
    ),
    "gpt-bigcode": Architecture(
        "GPTBigCodeForCausalLM", NAMED, "GPTBigCodeConfig", constants=("wpe",),
        stream="transformer.drop",
    ),
    "gpt-j": Architecture("GPTJForCausalLM", {**NAMED, "rotary_dim": 2}, "GPTJConfig"),
    "gpt-neo": Architecture(
        "GPTNeoForCausalLM",
        {
            "vocab_size": WORDS, "hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": HEADS,
            "attention_types": [[["global", "local"], 1]], "window_size": 3,
            "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2,
        },
        "GPTNeoConfig", EAGER, constants=("wpe",), stream="transformer.drop",
    ),
    "gpt-neox": decoder("GPTNeoX"),
    "falcon": decoder("Falcon"),
    "falcon-alibi": decoder(
        "Falcon", alibi=True, new_decoder_architecture=True, num_kv_heads=2
    ),
    "bloom": Architecture(
        "BloomForCausalLM", {**SIZES, "n_layer": LAYERS, "n_head": HEADS}, "BloomConfig", EAGER
    ),
    "mpt": Architecture(
        "MptForCausalLM",
        {"vocab_size": WORDS, "d_model": WIDTH, "n_layers": LAYERS, "n_heads": HEADS,
         "max_seq_len": 32},
        "MptConfig", EAGER,
    ),
    "opt": Architecture(
        "OPTForCausalLM", {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": WIDTH}, "OPTConfig",
        constants=("embed_positions",),
    ),
    "olmo2": decoder("Olmo2", **GROUPED),
    "cohere": decoder("Cohere", use_qk_norm=True, **GROUPED),
    "granite": decoder("Granite", residual_multiplier=0.5, **GROUPED),
    "stablelm": decoder("StableLm", **GROUPED),
    "starcoder2": decoder("Starcoder2", **GROUPED),
    "nemotron": decoder("Nemotron", head_dim=4, **GROUPED),
    "mixtral": decoder(
        "Mixtral", num_local_experts=3, num_experts_per_tok=2, experts_implementation="eager",
        **GROUPED,
    ),
    "gpt-oss": Architecture(
        "GptOssForCausalLM",
        {**SIZES, **GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 4,
         "experts_implementation": "eager"},
        "GptOssConfig", EAGER, part=0,
    ),
    "mamba": Architecture(
        "MambaForCausalLM", {**SIZES, "state_size": 4}, "MambaConfig", EAGER, heads=0, mlps=0,
        layer="backbone.layers.1.mixer",
    ),
}  # fmt: skip
ENCODERS = {
    "bert": encoder("Bert"),
    "roberta": encoder("Roberta"),
    "distilbert": Architecture(
        "DistilBertForSequenceClassification",
        {"vocab_size": WORDS, "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 24,
         "max_position_embeddings": 32, "num_labels": CLASSES},
        "DistilBertConfig", constants=("position_embeddings",), stream="distilbert.embeddings",
    ),
    "electra": encoder("Electra", embedding_size=8),
    "albert": encoder("Albert", embedding_size=8),
    "mpnet": encoder("MPNet", attentions=EAGER),
    "modernbert": Architecture(
        "ModernBertForSequenceClassification",
        {**SIZES, "num_labels": CLASSES, "local_attention": 4, "global_attn_every_n_layers": 2,
         "cls_token_id": 1, "sep_token_id": 2},
        "ModernBertConfig",
    ),
    "deberta": encoder(
        "Deberta", relative_attention=True, pos_att_type=["p2c", "c2p"], attentions=EAGER
    ),
    "deberta-v2": encoder(
        "DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=4,
        norm_rel_ebd="layer_norm", share_att_key=True, attentions=EAGER,
    ),
}  # fmt: skip
SIDED = {
    "t5": Architecture(
        "T5ForConditionalGeneration",
        {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 4, "d_ff": 24, "num_layers": LAYERS,
         "num_decoder_layers": LAYERS, "num_heads": HEADS, "feed_forward_proj": "gated-gelu",
         "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
        "T5Config", sees="both", heads=3 * LAYERS * HEADS, mlps=2 * LAYERS,
    ),
    "bart": Architecture(
        "BartForConditionalGeneration", {**SIDES, "bos_token_id": 1}, "BartConfig", sees="both",
        heads=LAYERS * (HEADS + 2 + 2), mlps=2 * LAYERS, constants=("embed_positions",),
    ),
    "marian": Architecture(
        "MarianMTModel", SIDES, "MarianConfig", sees="both", heads=LAYERS * (HEADS + 2 + 2),
        mlps=2 * LAYERS, constants=("embed_positions",),
    ),
}  # fmt: skip
VISION = {
    "vit": picture("ViT", "cls_token", "position_embeddings"),
    "deit": picture("DeiT", "cls_token", "distillation_token", "position_embeddings"),
    "dinov2": picture("Dinov2", "cls_token", "position_embeddings"),
    "beit": picture("Beit", "cls_token", use_relative_position_bias=True),
    "swin": Architecture(
        "SwinForImageClassification",
        {"image_size": 16, "patch_size": 2, "num_channels": 3, "embed_dim": 8, "depths": [2, 1],
         "num_heads": [2, 4], "window_size": 4, "num_labels": CLASSES},
        "SwinConfig", sees="picture", heads=2 + 2 + 4, mlps=3,
    ),
    "siglip": Architecture(
        "SiglipForImageClassification",
        {"vision_config": {**SIZES, **PICTURE}, "num_labels": CLASSES},
        "SiglipConfig", sees="picture", constants=("position_embedding",), mlps=LAYERS + 1,
        stream="vision_model.embeddings",
    ),
    "clip": Architecture(
        "CLIPForImageClassification",
        {"vision_config": {**SIZES, **PICTURE}, "text_config": SIZES, "num_labels": CLASSES},
        "CLIPConfig", sees="picture", constants=("class_embedding", "position_embedding"),
        stream="vision_model.embeddings",
    ),
    "convnext": Architecture(
        "ConvNextForImageClassification",
        {"num_channels": 3, "hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2,
         "patch_size": 2, "num_labels": CLASSES},
        "ConvNextConfig", EAGER, "picture", heads=0, mlps=0,
        layer="convnext.encoder.stages.0",
    ),
    "resnet": Architecture(
        "ResNetForImageClassification",
        {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1],
         "layer_type": "basic", "num_labels": CLASSES},
        "ResNetConfig", EAGER, "picture", heads=0, mlps=0,
        layer="resnet.encoder.stages.0",
    ),
}  # fmt: skip
ARCHITECTURES = {**DECODERS, **ENCODERS, **SIDED, **VISION}
CASES = [(name, attention) for name, a in ARCHITECTURES.items() for attention in a.attentions]


@cache
def built(name: str, attention: str) -> nn.Module:
    """The model in float64. Every parameter is moved away from its first value, as biases of zero
    and weights of one would hide what they do.
    """
    if hf is None:
        missing("transformers is not installed")
    about = ARCHITECTURES[name]
    config = getattr(hf, about.config)(**about.options)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hf, about.model)(config).to(torch.float64).eval()
    rng = Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=rng, dtype=torch.float64))
    return model


def given(name: str) -> dict[str, Tensor]:
    """What the model is asked about."""
    about = ARCHITECTURES[name]
    if about.sees == "picture":
        side, rng = about.options.get("image_size", 12), Generator().manual_seed(1)
        pixels = torch.rand(1, 3, side, side, generator=rng, dtype=torch.float64)
        return {"pixel_values": 4 * pixels - 2}
    return {"input_ids": IDS} | ({"decoder_input_ids": DECODED} if about.sees == "both" else {})


def read_by(name: str, model: nn.Module) -> Players:
    """Everything the model reads: patches, or the tokens of every side."""
    about = ARCHITECTURES[name]
    if about.sees == "picture":
        x = given(name)["pixel_values"]
        return ap.players.patches(x, x.shape[-1] // 3 if x.shape[-1] == 12 else 8)
    tokens = ap.players.tokens(model, IDS)
    if about.sees == "text":
        return tokens
    table = model.get_decoder().get_input_embeddings()
    path = next(path for path, module in model.named_modules() if module is table)
    return tokens | ap.players.tokens(model, DECODED, embedding=path).renamed("target")


def within(name: str, model: nn.Module) -> Players:
    """Players inside: heads, or units of a layer where there are none."""
    about = ARCHITECTURES[name]
    if about.heads:
        return ap.players.heads(model)
    build = ap.players.channels if about.sees == "picture" else ap.players.neurons
    return build(model, about.layer, input=given(name))


def few(players: Players, most: int = 4) -> Players:
    """The same, in at most this many groups of each kind."""
    kinds = torch.tensor([players.kinds.index(kind) for kind in players.kinds])
    groups = [
        group.tolist()
        for first in kinds.unique().tolist()
        for group in (kinds == first).nonzero().flatten().tensor_split(most)
    ]
    return players.merge([group for group in groups if group])


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """As `untouched`; also buffers that are not saved, and every module's configuration."""

    def state() -> tuple[dict[str, Tensor], list[str]]:
        configs = {id(c): c for m in model.modules() if (c := vars(m).get("config")) is not None}
        return {n: b.clone() for n, b in model.named_buffers()}, [
            repr(vars(c)) for c in configs.values()
        ]

    buffers, configs = state()
    with untouched(model):
        yield
    after, same = state()
    assert same == configs and after.keys() == buffers.keys()
    assert all(torch.equal(after[n], b) for n, b in buffers.items())
