"""Layer-wise relevance propagation written out: relevance itself is carried from layer to layer,
and no gradient is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.small import Attention, Block, Decoder, Gated


def linear(x: Tensor, w: Tensor, b: Tensor | float, r: Tensor, eps: float = 0.0) -> Tensor:
    """R_i = x_i sum_j w_ji R_j / (z_j + eps sign z_j), one sum at a time. [bach2015]"""
    z = [sum(w[j, i] * x[i] for i in range(len(x))) + torch.as_tensor(b).expand(len(w))[j]
         for j in range(len(w))]  # fmt: skip
    back = [r[j] / (z[j] + eps * (-1 if z[j] < 0 else 1)) for j in range(len(w))]
    return torch.stack(
        [x[i] * sum(w[j, i] * back[j] for j in range(len(w))) for i in range(len(x))]
    )


def layer(x: Tensor, w: Tensor, r: Tensor) -> Tensor:
    """The same at every position, without bias and stabiliser: R_i = x_i sum_j w_ji R_j / z_j."""
    return x * ((r / (x @ w.T)) @ w)


def conv_matrix(conv: nn.Conv2d, height: int, width: int) -> Tensor:
    """A 3 x 3 convolution with padding 1 as a matrix over (channel, row, column), by entries."""
    kernel, size = conv.weight.detach(), height * width
    m = torch.zeros(conv.out_channels * size, conv.in_channels * size, dtype=kernel.dtype)
    for o, c, y, x in product(
        range(conv.out_channels), range(conv.in_channels), range(height), range(width)
    ):
        for dy, dx in product((-1, 0, 1), repeat=2):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                source = (c * height + y + dy) * width + x + dx
                m[(o * height + y) * width + x, source] += kernel[o, c, dy + 1, dx + 1]
    return m


def pooled(x: Tensor, r: Tensor) -> Tensor:
    """Max pooling by 2: all relevance goes to the winner."""
    out = torch.zeros_like(x)
    for c, i, j in product(*(range(n) for n in r.shape)):
        window = x[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        k = int(window.argmax())
        out[c, 2 * i + k // 2, 2 * j + k % 2] += r[c, i, j]
    return out


Share = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x, w, b, r) -> relevance of x


def epsilon(model: nn.Sequential, x: Tensor, target: int, eps: float) -> Tensor:
    """Relevance of the input of a stack of layers, (*input); activations pass it on unchanged."""
    return stack(model, x, target, lambda *given: linear(*given, eps))


def stack(
    model: nn.Sequential,
    x: Tensor,
    target: int,
    dense: Share,
    conv: Share | None = None,
    first: Share | None = None,
) -> Tensor:
    """As `epsilon`, with a rule for linear layers, one for convolutions (the same without one) and
    one for the first layer.
    """
    rules = {nn.Linear: dense, nn.Conv2d: dense if conv is None else conv}
    with torch.no_grad():
        inputs = [x]
        for module in model:
            inputs.append(module(inputs[-1][None])[0])
        r = torch.zeros_like(inputs[-1])
        r[target] = inputs[-1][target]
        start = next(k for k, module in enumerate(model) if type(module) in rules)
        for k in reversed(range(len(model))):
            rule = rules.get(type(model[k]))
            rule = first if first is not None and k == start else rule
            r = _through(model[k], inputs[k], r, rule)
    return r


def _through(module: nn.Module, a: Tensor, r: Tensor, rule: Share | None) -> Tensor:
    if isinstance(module, nn.Linear):
        bias = torch.zeros(len(r)) if module.bias is None else module.bias
        return rule(a, module.weight, bias.to(r), r)
    if isinstance(module, nn.Conv2d):
        bias = torch.zeros(len(r)) if module.bias is None else module.bias
        bias = bias.to(r).repeat_interleave(r[0].numel())
        m = conv_matrix(module, *a.shape[1:])
        return rule(a.flatten(), m, bias, r.flatten()).reshape(a.shape)
    if isinstance(module, nn.BatchNorm2d):  # no rule of its own: its linear part, unstabilised
        slope = module.weight / (module.running_var + module.eps).sqrt()
        slope = slope[:, None, None]
        return a * slope * r / module(a[None])[0]
    if isinstance(module, nn.MaxPool2d):
        return pooled(a, r)
    return r.reshape(a.shape)


def gamma(x: Tensor, w: Tensor, b: Tensor, r: Tensor, g: float) -> Tensor:
    """Each contribution that has the sign of its unit's sum counts 1 + g times, the bias too."""
    out = torch.zeros_like(x)
    for j in range(len(w)):
        parts = [*(w[j] * x).tolist(), float(b[j])]
        side = 1 if sum(parts) > 0 else -1
        counted = x.new_tensor([c * (1 + g if c * side > 0 else 1) for c in parts])
        out += counted[:-1] / counted.sum() * r[j]
    return out


def alpha_beta(
    x: Tensor, w: Tensor, b: Tensor, r: Tensor, alpha: float, beta: float, eps: float = 1e-6
) -> Tensor:
    """Alpha of a unit's relevance over its positive contributions, -beta over the negative."""
    out = torch.zeros_like(x)
    for j in range(len(w)):
        parts = torch.cat([w[j] * x, b[j : j + 1]])
        for share, side in ((alpha, 1), (-beta, -1)):
            some = torch.where(parts * side > 0, parts, 0)
            out += share * some[:-1] / (some.sum() + eps * side) * r[j]
    return out


def box(x: Tensor, w: Tensor, r: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """z^B: R_i = sum_j (x_i w - l_i w^+ - h_i w^-) R_j / the sum of that over i."""
    each = w * x - w.clamp(min=0) * low - w.clamp(max=0) * high  # (j, i)
    return (each / each.sum(1, keepdim=True) * r[:, None]).sum(0)


# -- a decoder in the style of Llama


@dataclass
class Relevance:
    """Relevance at every cut that was passed on the way down."""

    tokens: Tensor = field(default_factory=lambda: torch.zeros(0))  # (position,)
    heads: list[Tensor] = field(default_factory=list)  # per layer (position, head)
    streams: list[Tensor] = field(default_factory=list)  # per layer, what enters it (position,)


Mix = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def decoder(model: Decoder, ids: Tensor, target: int, mix: Mix) -> Relevance:
    """Relevance of a logit at the last position. `mix` says how attention passes it on."""
    found = Relevance()
    with torch.no_grad():
        xs = [model.embed(ids)[0]]
        for block in model.layers:
            xs.append(block(xs[-1][None])[0])
        last = model.norm(xs[-1])[-1]
        r = torch.zeros_like(xs[-1])
        r[-1] = last * model.head.weight[target]  # of the logit, which is their sum
        # norms pass it on: each output is a constant times its input
        for block, x in zip(reversed(model.layers), reversed(xs[:-1]), strict=True):
            r = _block(block, x, r, mix, found)
            found.streams.insert(0, r.sum(-1))
    found.tokens = r.sum(-1)
    return found


def _block(block: Block, x: Tensor, r: Tensor, mix: Mix, found: Relevance) -> Tensor:
    """Relevance of a sum is shared in proportion to the summands."""
    attended = block.self_attn(block.norm1(x)[None])[0]
    middle = x + attended
    gated = block.mlp(block.norm2(middle))
    share = r / (middle + gated)
    r = middle * share + _gated(block.mlp, block.norm2(middle), gated * share)
    share = r / (x + attended)
    below, heads = _attention(block.self_attn, block.norm1(x), attended * share, mix)
    found.heads.insert(0, heads)
    return x * share + below


def _gated(mlp: Gated, x: Tensor, r: Tensor) -> Tensor:
    """Down projection, then half of it to each factor; SiLU passes it on."""
    gate, up = mlp.gate_proj.weight, mlp.up_proj.weight
    hidden = F.silu(x @ gate.T) * (x @ up.T)
    half = layer(hidden, mlp.down_proj.weight, r) / 2
    return layer(x, gate, half) + layer(x, up, half)


def _attention(block: Attention, x: Tensor, r: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Relevance of the input of an attention block, and of each head's output."""
    weights = [p.weight for p in (block.q_proj, block.k_proj, block.v_proj)]
    q, k, v = (
        torch.stack((x @ w.T).chunk(block.heads, -1)) for w in weights
    )  # (head, position, feature)
    scores = torch.stack([a @ b.T for a, b in zip(q, k, strict=True)]) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    p = scores.masked_fill(later, float("-inf")).softmax(-1)
    out = torch.cat([p[h] @ v[h] for h in range(block.heads)], -1)
    r = layer(out, block.o_proj.weight, r)
    own = torch.stack(r.chunk(block.heads, -1))
    parts = [mix(*given) for given in zip(scores, v, p, own, strict=True)]
    below = torch.zeros_like(x)
    values = torch.cat([value for _, _, value in parts], -1)
    below += layer(x, weights[2], values)
    for h, (r_scores, _, _) in enumerate(parts):
        r_q, r_k = product_share(q[h], k[h], r_scores, scores[h])
        width = q.shape[-1]
        rows = slice(h * width, (h + 1) * width)
        below += layer(x, weights[0][rows], r_q) + layer(x, weights[1][rows], r_k)
    return below, own.sum(-1).T


def product_share(q: Tensor, k: Tensor, r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Scores s_tu = sum_d q_td k_ud / c: half to each factor, in proportion to the summands."""
    scale = math.sqrt(q.shape[-1])
    each = torch.einsum("td,ud,tu->tud", q, k, r / (2 * scale * s))
    return each.sum(1), each.sum(0)


def values_only(scores: Tensor, v: Tensor, p: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """CP-LRP: o_t = sum_u p_tu v_u with constant p. [ali2022]"""
    back = torch.einsum("tu,ud,td->tud", p, v, r / (p @ v))
    return torch.zeros_like(scores), p, back.sum(0)


def both_factors(scores: Tensor, v: Tensor, p: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """AttnLRP: half to the values and half to the weights, whose softmax gives
    R_u = s_u (R_u - p_u sum R). [achtibat2024]
    """
    back = torch.einsum("tu,ud,td->tud", p, v, r / (2 * (p @ v)))
    weights = back.sum(-1)
    return scores * (weights - p * weights.sum(-1, keepdim=True)), p, back.sum(0)
