"""Where the attention and MLP blocks of a model are, told by its structure and the usual names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ..types import BadRequest

OUTPUT_NAMES = ("o_proj", "out_proj", "c_proj", "dense", "proj", "wo", "o", "out_lin", "to_out")
MLP_NAMES = ("mlp", "ffn", "feed_forward", "block_sparse_moe", "DenseReluDense")
COUNTS = ("num_attention_heads", "num_heads", "n_heads", "n_head")


@runtime_checkable
class Configured(Protocol):
    """A module that carries a configuration, as Hugging Face's do."""

    config: Any


@dataclass(frozen=True)
class Attention:
    """One attention block, by the projection behind its heads."""

    path: str
    width: int  # features that the projection reads
    heads: int | None  # None: neither a module nor a configuration says


def attentions(model: nn.Module) -> list[Attention]:
    """Output projections that run: nn.MultiheadAttention reads the weights of its own directly."""
    fused = [path for path, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    found = [
        Attention(path, _width(module), _count(model, path))
        for path, module in model.named_modules()
        if _is_head_output(path, module) and path.rpartition(".")[0] not in fused
    ]
    if not found and fused:
        raise BadRequest(
            f"{type(model).__name__}: the attention of {fused[0]!r} is an nn.MultiheadAttention, "
            "which reads the weights of its out_proj without running it, so its heads cannot be "
            "gated one by one. Gate the block's output: "
            f"Players(names, kinds, {{Site({fused[0]!r}, 'out', 0): owner}})."
        )
    if not found:
        raise BadRequest(
            f"{type(model).__name__}: no attention output projection found (looked for a linear "
            f"layer called {', '.join(OUTPUT_NAMES)} inside an attention block). Gate the block "
            "itself, or its input with Players directly."
        )
    return found


def mlp_outputs(model: nn.Module) -> list[str]:
    """Modules whose output is what an MLP block adds, in order."""
    modules = dict(model.named_modules())
    found = [p for p in modules if p.rpartition(".")[2] in MLP_NAMES]
    found = [p for p in found if not any(p.startswith(f"{q}.") for q in found)]
    # ALBERT calls its first layer ffn and the second ffn_output
    found = [_second(p, modules) for p in found]
    if not found:  # BERT: intermediate.dense, output.dense
        outer = {p.rpartition(".")[0] for p in modules if p.endswith(".intermediate")}
        found = [p for p in modules if p.endswith(".output.dense") and _above(p, 2) in outer]
    if not found:  # BART and OPT: fc1 and fc2 lie in the layer itself
        found = [p for p in modules if p.endswith(".fc2") and f"{_above(p)}.fc1" in modules]
    if not found:
        raise BadRequest(
            f"{type(model).__name__}: no MLP blocks found (looked for modules called "
            f"{', '.join(MLP_NAMES)}, for intermediate.dense with output.dense, and for fc1 with "
            "fc2). Gate the blocks with Players directly."
        )
    return found


def calls_of(model: nn.Module) -> int:
    """How often each block runs in one forward pass: more than once where layers share weights and
    the configuration says so, as ALBERT's.
    """
    layers, groups = (_configured(model, [n]) for n in ("num_hidden_layers", "num_hidden_groups"))
    return 1 if layers is None or groups is None else max(layers // groups, 1)


def encodes_and_decodes(model: nn.Module) -> bool:
    """Whether a model reads one text and writes another."""
    return isinstance(model, Configured) and vars(model.config).get("is_encoder_decoder") is True


def _second(path: str, modules: Mapping[str, nn.Module]) -> str:
    beside = f"{path}_output"
    return beside if isinstance(modules[path], nn.Linear) and beside in modules else path


def _above(path: str, steps: int = 1) -> str:
    return ".".join(path.split(".")[:-steps])


def _count(model: nn.Module, path: str) -> int | None:
    """Heads of one block: what the nearest module around the projection says, or a part of it, or
    its configuration.
    """
    for module in _around(model, path):
        if module is not model:
            near = [module, *module.children()]
            said = [n for part in near if (n := _number(vars(part), COUNTS)) is not None]
            if said:
                return said[0]
        configured = _configured(module, COUNTS)
        if configured is not None:
            return configured
    return None


def _around(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """The modules a path lies in, the nearest first and the model last."""
    for steps in range(1, path.count(".") + 1):
        yield model.get_submodule(_above(path, steps))
    yield model


def _configured(module: nn.Module, names: Sequence[str]) -> int | None:
    return _number(vars(module.config), names) if isinstance(module, Configured) else None


def _number(settings: Mapping[str, Any], names: Sequence[str]) -> int | None:
    found = [settings[name] for name in names if name in settings]
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def _is_head_output(path: str, module: nn.Module) -> bool:
    *above, last = path.split(".")
    inside = any("attn" in part.lower() or "attention" in part.lower() for part in above)
    return inside and last.lower() in OUTPUT_NAMES and _is_linear(module)


def _is_linear(module: nn.Module) -> bool:
    # GPT-2 spells its linear layers Conv1D: a module of transformers with a transposed weight
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _width(module: nn.Module) -> int:
    """How many features a linear layer reads."""
    weight = module.get_parameter("weight")
    return int(weight.shape[1] if isinstance(module, nn.Linear) else weight.shape[0])
