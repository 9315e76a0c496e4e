"""Tiny models and games that many tests share. Everything is seeded without the global
generator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

import apportion as ap


def seeded(
    build: Callable[[], nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(dtype).eval()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def mlp(
    inputs: int = 6, hidden: int = 8, outputs: int = 3, *, bias: bool = True, act: type = nn.Tanh
) -> nn.Module:
    widths = [inputs, hidden, hidden, outputs]
    layers = []
    for a, b in pairwise(widths):
        layers += [lambda a=a, b=b: nn.Linear(a, b, bias=bias), act]
    return seeded(lambda: nn.Sequential(*(make() for make in layers[:-1])))


def cnn(dtype: torch.dtype = torch.float64) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 3),
        ),
        dtype=dtype,
    )  # fmt: skip


class Attention(nn.Module):
    """One head-split self-attention block, as most decoders spell it."""

    def __init__(self, width: int, heads: int, *, eager: bool, causal: bool = True) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.heads, self.eager, self.causal = heads, eager, causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.eager:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if self.causal:
                mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                scores = scores.masked_fill(mask, float("-inf"))
            out = torch.softmax(scores, -1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Gated(nn.Module):
    """A SwiGLU block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (
            nn.Linear(width, 2 * width, bias=False),
            nn.Linear(width, 2 * width, bias=False),
        )
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, *, eager: bool) -> None:
        super().__init__()
        self.norm1, self.self_attn = RMSNorm(width), Attention(width, heads, eager=eager)
        self.norm2, self.mlp = RMSNorm(width), Gated(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """A bias-free two-layer decoder with a tied table of embeddings, in the style of Llama."""

    def __init__(
        self, vocabulary: int = 17, width: int = 8, heads: int = 2, *, eager: bool = False
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList([Block(width, heads, eager=eager) for _ in range(2)])
        self.norm, self.head = RMSNorm(width), nn.Linear(width, vocabulary, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.head(self.norm(x))}


def decoder(*, eager: bool = False) -> nn.Module:
    return seeded(lambda: Decoder(eager=eager))


IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


def table_game(
    value: object = None,
    removal: object = None,
    *,
    instances: int = 1,
    model: nn.Module | None = None,
) -> ap.ModelGame:
    """Six columns of a smooth float64 network."""
    x = normal(instances, 6, seed=1)
    removal = removal if removal is not None else ap.Blend(ap.removals.zeros())
    return ap.ModelGame(
        model if model is not None else mlp(),
        x,
        value if value is not None else ap.values.Logit(1),
        ap.players.columns(x),
        removal,
    )


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Parameters, buffers, gradients, hooks, modes and requires_grad are the same afterwards, bit
    for bit.
    """

    def state() -> tuple:
        tensors = {k: v.detach().clone() for k, v in model.state_dict().items()}
        flags = [(n, p.requires_grad, p.grad is None) for n, p in model.named_parameters()]
        hooks = [
            (
                n,
                m.training,
                len(m._forward_hooks),
                len(m._forward_pre_hooks),
                len(m._backward_hooks),
            )
            for n, m in model.named_modules()
        ]
        return tensors, flags, hooks, {n: type(m) for n, m in model.named_modules()}

    before = state()
    forward = copy.copy(model.__dict__)
    try:
        yield
    finally:
        after = state()
        assert before[0].keys() == after[0].keys()
        assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
        assert before[1:] == after[1:]
        assert forward.keys() == model.__dict__.keys()


def central_difference(game: ap.ModelGame, gates: Tensor, step: float = 1e-5) -> Tensor:
    """d v / d gate by differences of values alone, (row, *out, player)."""
    slopes = []
    for i in range(gates.shape[1]):
        up, down = gates.clone(), gates.clone()
        up[:, i] += step
        down[:, i] -= step
        slopes.append((game.value(up) - game.value(down)) / (2 * step))
    return torch.stack(slopes, -1)


def close(a: Tensor, b: Tensor, *, atol: float = 1e-9, rtol: float = 0.0) -> None:
    torch.testing.assert_close(a.double(), torch.as_tensor(b).double(), atol=atol, rtol=rtol)
