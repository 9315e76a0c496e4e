"""One operation, one derivative: however a network is spelled, a table bends it the same way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward import ATTN_LRP, CP_LRP, GUIDED, Rules
from apportion.backward.aliases import (
    _SPELLINGS,
    CANONICAL,
    PRODUCTS,
    REVERSED,
    WEIGHTED,
    WHOLE,
    name_of,
    out_of_place,
)  # fmt: skip
from tests.contracts.ruled import TABLES, columns_game, function, slopes, token_game
from tests.small import close, decoder, normal, seeded

EVERY_TABLE = [
    pytest.param(rules, id=name)
    for name, rules in TABLES.items()
    if rules.functions  # one that bends at the players' site only leaves spellings to torch
]
TRANSFORMERS = [pytest.param(rules, id=rules.name) for rules in (CP_LRP, ATTN_LRP)]

# spellings of one activation h -> act(h); writing ones get a tensor they may write into
ACTIVATIONS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "relu": [
        F.relu, torch.relu, Tensor.relu, nn.ReLU(), F.relu_, torch.relu_, Tensor.relu_,
        nn.ReLU(inplace=True), lambda h: F.relu(input=h), lambda h: F.relu(h, True),
        lambda h: h.clamp(min=0), lambda h: torch.clip(h, 0), lambda h: h.clamp_(0),
        lambda h: h.clamp_min(0), lambda h: torch.clamp_min_(h, 0),
        lambda h: torch.clamp(h, min=0, out=torch.empty_like(h)),
    ],
    "silu": [F.silu, nn.SiLU(), nn.SiLU(inplace=True), lambda h: F.silu(input=h, inplace=True)],
    "gelu": [F.gelu, nn.GELU(), lambda h: F.gelu(input=h, approximate="none")],
    "elu": [F.elu, nn.ELU(), nn.ELU(inplace=True), F.elu_, lambda h: F.elu(h, alpha=1.0)],
    "hardtanh": [
        F.hardtanh, nn.Hardtanh(), nn.Hardtanh(inplace=True), F.hardtanh_,
        lambda h: h.clamp(-1, 1), lambda h: torch.clip(h, min=-1, max=1),
    ],
    "relu6": [F.relu6, nn.ReLU6(inplace=True), lambda h: F.hardtanh(h, 0, 6)],
    "leaky relu": [F.leaky_relu, nn.LeakyReLU(), nn.LeakyReLU(inplace=True), F.leaky_relu_],
    "tanh": [
        torch.tanh, Tensor.tanh, nn.Tanh(), Tensor.tanh_, torch.tanh_,
        lambda h: torch.tanh(h, out=torch.empty_like(h)),
    ],
    "selu": [F.selu, nn.SELU(), torch.selu, torch.selu_, nn.SELU(inplace=True)],
    "celu": [F.celu, nn.CELU(), torch.celu, torch.celu_, nn.CELU(inplace=True)],
    "hardswish": [F.hardswish, nn.Hardswish(), nn.Hardswish(inplace=True)],
    "mish": [F.mish, nn.Mish(), nn.Mish(inplace=True)],
}  # fmt: skip


def written(body: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Twice, the second time between two layers of the same network."""
    return lambda h: body(body(3 * h - 0.5) - 0.2)


@pytest.mark.parametrize("rules", EVERY_TABLE)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_functions_modules_methods_and_in_place(rules, name) -> None:
    """A module that is used twice is the spelling of the reused ones."""
    first, *others = ACTIVATIONS[name]
    expected = slopes(columns_game(function(written(first))), rules)
    assert float(expected.abs().max()) > 1e-6
    for other in others:
        close(slopes(columns_game(function(written(other))), rules), expected, atol=1e-12)


class Twice(nn.Module):
    def __init__(self, *, reused: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.acts = nn.ModuleList([nn.SiLU()] * 2 if reused else [nn.SiLU(), nn.SiLU()])

    def forward(self, x: Tensor) -> Tensor:
        for layer, act in zip(self.layers, self.acts, strict=False):
            x = act(layer(x))
        return self.layers[-1](x)


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_one_module_used_twice_is_two_modules(rules) -> None:
    games = [columns_game(seeded(lambda r=r: Twice(reused=r))) for r in (True, False)]
    close(slopes(games[0], rules), slopes(games[1], rules), atol=0)


def into(operation: Callable, a: Tensor, b: Tensor) -> Tensor:
    return operation(a, b, out=torch.empty_like(operation(a.detach(), b.detach())))


def imul(a: Tensor, b: Tensor) -> Tensor:
    a = a + 0
    a *= b
    return a


def statement(a: Tensor, b: Tensor) -> Tensor:
    a = a + 0
    a.mul_(b)  # the result is dropped
    return a


def onto_itself(a: Tensor, b: Tensor) -> Tensor:
    a = a + 0
    return torch.mul(a, b, out=a)


ELEMENTWISE = [
    lambda a, b: a * b, lambda a, b: b * a, torch.mul, torch.multiply, Tensor.mul, Tensor.multiply,
    imul, statement, lambda a, b: (a + 0).mul_(b), lambda a, b: (a + 0).multiply_(b),
    lambda a, b: into(torch.mul, a, b), onto_itself, lambda a, b: torch.mul(input=a, other=b),
    lambda a, b: torch.einsum("ri,ri->ri", a, b), lambda a, b: a.__rmul__(b),
    lambda a, b: torch.addcmul(torch.zeros_like(a), a, b),
]  # fmt: skip
ZERO = torch.zeros(2, 2, dtype=torch.float64)
# (row, 2, 3) by (row, 3, 2)
MATRICES = [
    lambda a, b: a @ b, torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.linalg.matmul,
    lambda a, b: b.__rmatmul__(a), lambda a, b: into(torch.matmul, a, b),
    lambda a, b: into(torch.bmm, a, b), lambda a, b: torch.einsum("rij,rjk->rik", a, b),
    lambda a, b: torch.baddbmm(torch.zeros(1, 2, 2).to(a), a, b),
    lambda a, b: torch.stack([torch.mm(x, y) for x, y in zip(a, b, strict=True)]),
    lambda a, b: torch.stack([torch.addmm(ZERO, x, y) for x, y in zip(a, b, strict=True)]),
    lambda a, b: torch.stack([torch.tensordot(x, y, 1) for x, y in zip(a, b, strict=True)]),
    lambda a, b: torch.stack([F.linear(x, y.T) for x, y in zip(a, b, strict=True)]),
    lambda a, b: torch.stack([torch.inner(x, y.T) for x, y in zip(a, b, strict=True)]),
]  # fmt: skip


def matrices(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Between two layers: a product of two halves of the features, padded to six again."""

    def body(h: Tensor) -> Tensor:
        a, b = h.unflatten(-1, (2, 3)), torch.tanh(h).unflatten(-1, (3, 2))
        return torch.cat([product(a, b).flatten(1), h[:, :2]], 1)

    return body


@pytest.mark.parametrize("rules", TRANSFORMERS)
def test_elementwise_products(rules) -> None:
    expected = None
    for product in ELEMENTWISE:
        body = lambda h, p=product: p(h, torch.tanh(h) + h.flip(1))
        found = slopes(columns_game(function(body)), rules)
        expected = found if expected is None else expected
        close(found, expected, atol=1e-12)
    true = slopes(columns_game(function(lambda h: h * (torch.tanh(h) + h.flip(1)))))
    assert float((true - expected).abs().max()) > 1e-3


@pytest.mark.parametrize("rules", TRANSFORMERS)
def test_matrix_products(rules) -> None:
    first, *others = MATRICES
    expected = slopes(columns_game(function(matrices(first))), rules)
    for other in others:
        close(slopes(columns_game(function(matrices(other))), rules), expected, atol=1e-12)
    true = slopes(columns_game(function(matrices(first))))
    assert float((true - expected).abs().max()) > 1e-3


@pytest.mark.parametrize("rules", TRANSFORMERS)
def test_what_is_added_to_a_product_keeps_its_relevance(rules) -> None:
    """addmm, baddbmm, addcmul and a layer's bias: a + b c, where all three vary."""

    def spelled(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        def body(h: Tensor) -> Tensor:
            a, b, c = h[:, :4], h.unflatten(-1, (2, 3)), torch.tanh(h).unflatten(-1, (3, 2))
            return torch.cat([product(a.unflatten(1, (2, 2)), b, c).flatten(1), h[:, :2]], 1)

        return slopes(columns_game(function(body)), rules)

    def each(one: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        return spelled(lambda *abc: torch.stack([one(*row) for row in zip(*abc, strict=True)]))

    expected = spelled(lambda a, b, c: a + b @ c)
    for found in (
        spelled(torch.baddbmm), spelled(lambda a, b, c: (a + 0).baddbmm_(b, c)),
        spelled(lambda a, b, c: torch.baddbmm(a, batch1=b, batch2=c)), each(torch.addmm),
        each(lambda a, b, c: torch.addmm(input=a, mat1=b, mat2=c)),
        each(lambda a, b, c: torch.stack([torch.addmv(a[i], c.T, b[i]) for i in (0, 1)])),
        each(lambda a, b, c: torch.stack([F.linear(b[i], c.T, bias=a[i]) for i in (0, 1)])),
        each(lambda a, b, c: torch.addbmm(a, b[None], c[None])),
    ):  # fmt: skip
        close(found, expected, atol=1e-12)


def test_three_factors_get_a_third_each() -> None:
    """On f = w (a b c), bias-free: all relevance arrives, however many factors there are."""
    for body in (
        lambda h: torch.einsum("ri,ri,ri->ri", h, h.flip(1), h.roll(1, 1)),
        lambda h: torch.einsum("ri,ri->ri", h, h.flip(1)),
        lambda h: h * h.flip(1) * h.roll(1, 1),
    ):
        game = columns_game(function(body, bias=False))
        credit = ap.attribute(game.under(CP_LRP), ap.Gradient())
        close(credit.scores.sum(), credit.full, atol=1e-12)


LINEAR = [
    F.linear, lambda h, w, b: F.linear(input=h, weight=w, bias=b),
    lambda h, w, b: torch.addmm(b, h, w.T), lambda h, w, b: torch.einsum("ri,oi->ro", h, w) + b,
    lambda h, w, b: h @ w.T + b, lambda h, w, b: torch.matmul(w, h[..., None])[..., 0] + b,
    lambda h, w, b: F.conv1d(h[..., None], w[..., None], b)[..., 0],
    lambda h, w, b: F.conv2d(h[..., None, None], w[..., None, None], b).flatten(1),
    lambda h, w, b: torch.stack([torch.addmv(b, w, row) for row in h]),
]  # fmt: skip


@pytest.mark.parametrize("rules", [*TRANSFORMERS, pytest.param(GUIDED, id="GUIDED")])
def test_linear_layers(rules) -> None:
    w, b = normal(6, 6, seed=5), normal(6, seed=6)
    each = [
        slopes(columns_game(function(lambda h, f=f: torch.tanh(f(h, w, b)))), rules) for f in LINEAR
    ]
    for other in each[1:]:
        close(other, each[0], atol=1e-12)


def test_stabilised_linear_layers() -> None:
    """The epsilon rule knows a layer by its own function, not by the product inside it."""
    w, b = normal(6, 6, seed=5), normal(6, seed=6)
    known = [f for k, f in enumerate(LINEAR) if k not in (3, 4, 5)]
    games = [columns_game(function(lambda h, f=f: torch.tanh(f(h, w, b)))) for f in known]
    each = [slopes(game, TABLES["epsilon, large"]) for game in games]
    for other in each[1:]:
        close(other, each[0], atol=1e-12)


NORMS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "layer": [
        lambda h: F.layer_norm(h, (6,)), lambda h: torch.layer_norm(h, (6,)), nn.LayerNorm(6),
        lambda h: F.layer_norm(input=h, normalized_shape=(6,), eps=1e-5),
        lambda h: F.group_norm(h, 1), lambda h: torch.group_norm(h, 1), nn.GroupNorm(1, 6),
        lambda h: (h - h.mean(1, True)) * torch.rsqrt(h.var(1, correction=0, keepdim=True) + 1e-5),
        lambda h: (h - h.mean(1, True)) * (h.var(1, correction=0, keepdim=True) + 1e-5).rsqrt_(),
        lambda h: (h - h.mean(1, True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt(),
    ],
    "length": [
        lambda h: F.normalize(h, dim=-1), F.normalize, lambda h: F.normalize(h, 2.0, 1),
        lambda h: h / h.norm(dim=-1, keepdim=True), lambda h: h.div(h.square().sum(1, True).sqrt()),
    ],
    "rms": [
        lambda h: F.rms_norm(h, (6,), eps=1e-6), lambda h: torch.rms_norm(h, (6,), eps=1e-6),
        nn.RMSNorm(6, eps=1e-6), lambda h: h * torch.rsqrt(h.pow(2).mean(-1, True) + 1e-6),
        lambda h: (h + 0).mul_((h.square().mean(-1, True) + 1e-6).rsqrt()),
    ],
    "softmax": [
        lambda h: F.softmax(h, -1) * h, lambda h: torch.softmax(h, -1) * h,
        lambda h: h.softmax(-1) * h, lambda h: nn.Softmax(-1)(h) * h,
        lambda h: torch.special.softmax(h, -1) * h, lambda h: F.softmax(input=h, dim=-1) * h,
    ],
}  # fmt: skip


@pytest.mark.parametrize("rules", TRANSFORMERS)
@pytest.mark.parametrize("name", NORMS)
def test_norms_and_softmax(rules, name) -> None:
    first, *others = NORMS[name]
    expected = slopes(columns_game(function(first)), rules)
    for other in others:
        close(slopes(columns_game(function(other)), rules), expected, atol=1e-11)
    assert float((slopes(columns_game(function(first))) - expected).abs().max()) > 1e-4


@pytest.mark.parametrize("rules", [*TRANSFORMERS, pytest.param(GUIDED, id="GUIDED")])
def test_attention_written_out_and_fused(rules) -> None:
    fused, eager = (slopes(token_game(decoder(eager=e)), rules) for e in (False, True))
    close(fused, eager, atol=1e-12)


# -- the table of spellings itself

A, B, V = normal(3, 3, seed=1), normal(3, 3, seed=2), normal(3, seed=3)
X3, Y3 = normal(2, 3, 3, seed=4), normal(2, 3, 3, seed=5)
OPERANDS: dict[Callable, tuple] = {
    F.linear: (A, B), torch.addmm: (A, B, X3[0]), torch.addmv: (V, A, B[0]),
    torch.baddbmm: (X3, X3, Y3), torch.addbmm: (A, X3, Y3), torch.addcmul: (A, B, X3[0]),
    torch.cosine_similarity: (A, B), torch.matmul: (A, B), torch.outer: (V, A[0]),
    torch.inner: (A, B), torch.pow: (A.abs() + 1, B), torch.clamp: (A, -0.5, 0.5),
    F.prelu: (A, V[:1]), F.softmax: (A, -1), F.log_softmax: (A, -1), F.layer_norm: (A, (3,)),
    F.rms_norm: (A, (3,)), F.group_norm: (A, 1), torch.mul: (A, B), torch.div: (A, B),
    torch.rsqrt: (A.abs() + 1,), torch.sqrt: (A.abs() + 1,), F.instance_norm: (X3,),
    F.embedding: (torch.tensor([0, 2]), A), F.bilinear: (A, B, X3),
    F.batch_norm: (A, V, V.abs() + 1), torch.conv1d: (X3, Y3[:, :, :1]),
    torch.conv2d: (X3[None], X3.unflatten(0, (1, 2))),
    torch.conv3d: (X3[None], X3.unflatten(0, (1, 2))[:, :1, None]),
    torch.conv_transpose1d: (X3, Y3[:1].transpose(0, 1)),
    torch.conv_transpose2d: (X3[None], X3[:, None]),
    torch.conv_transpose3d: (X3[None, None], Y3[None, None]),
    torch.prod: (A,), torch.log: (A.abs() + 1,), torch.log1p: (A.abs(),),
    F.threshold: (A, 0.1, 0.0), F.max_pool1d: (X3, 2), F.max_pool2d: (X3, 2),
    F.max_pool3d: (X3[None], 2),
}  # fmt: skip
MATRIX_VECTOR, VECTORS = (A, V), (V, A[0])
# spellings that take other arguments than the canonical one
OTHERWISE: dict[Callable, tuple] = {
    **dict.fromkeys((torch.bmm, Tensor.bmm), (X3, Y3)),
    **dict.fromkeys((torch.mv, Tensor.mv), MATRIX_VECTOR),
    **dict.fromkeys((torch.dot, Tensor.dot), VECTORS),
    torch.clamp_min: (A, 0.2), Tensor.clamp_min: (A, 0.2),
    torch.clamp_min_: (A, 0.2), Tensor.clamp_min_: (A, 0.2),
    torch.layer_norm: (A, (3,)), torch.embedding: (A, torch.tensor([0, 2])),
    torch.bilinear: (A, B, X3, None),
    torch.instance_norm: (X3, None, None, None, None, True, 0.1, 1e-5, False),
    torch.batch_norm: (A, None, None, V, V.abs() + 1, False, 0.1, 1e-5, False),
}  # fmt: skip
PAIRS = [
    pytest.param(operation, spelling, id=f"{name_of(operation)}-{k}-{name_of(spelling)}")
    for operation, others in _SPELLINGS.items()
    for k, spelling in enumerate(others)
    if spelling is not F.hardsigmoid
]


@pytest.mark.parametrize(("operation", "spelling"), PAIRS)
def test_every_spelling_gives_the_value_of_its_operation(operation, spelling) -> None:
    assert CANONICAL[spelling] is operation
    given = OTHERWISE.get(spelling, OPERANDS.get(operation, (A,)))
    if spelling in REVERSED:
        given = given[::-1]  # a method of the right operand

    def copies() -> tuple:
        return tuple(x.clone() if isinstance(x, Tensor) else x for x in given)

    expected = spelling(*copies())
    if spelling not in OTHERWISE:
        close(expected, operation(*OPERANDS.get(operation, (A,))), atol=1e-14)
    args = copies()
    apart, new, kwargs, receiver = out_of_place(spelling, args, {})
    assert torch.equal(apart(*new, **kwargs), expected)
    assert all(torch.equal(x, y) for x, y in zip(args, given, strict=True) if isinstance(x, Tensor))
    writes = spelling.__name__.strip("_") != spelling.__name__ and spelling(*args) is args[0]
    assert receiver is (args[0] if writes else None)


@pytest.mark.parametrize("operation", [F.relu, F.silu, F.elu, F.hardtanh, F.mish, F.leaky_relu])
@pytest.mark.parametrize("by_name", [True, False])
def test_inplace_arguments_are_written_out(operation, by_name) -> None:
    mine = A.clone()
    args, kwargs = ((), {"input": mine}) if by_name else ((mine,), {})
    apart, new, rest, receiver = out_of_place(operation, args, {**kwargs, "inplace": True})
    assert torch.equal(apart(*new, **rest), operation(A)) and receiver is mine
    assert torch.equal(mine, A)
    assert out_of_place(operation, args, {**kwargs, "inplace": False})[3] is None


def test_out_arguments_are_written_out_even_onto_an_operand() -> None:
    mine = A.clone()
    apart, new, rest, receiver = out_of_place(torch.mul, (mine, B), {"out": mine})
    assert torch.equal(apart(*new, **rest), A * B) and receiver is mine
    assert torch.equal(mine, A)


def test_no_spelling_has_two_operations() -> None:
    for operation, others in _SPELLINGS.items():
        assert {CANONICAL[spelling] for spelling in (operation, *others)} == {operation}
    assert set(_SPELLINGS) >= PRODUCTS | WEIGHTED | WHOLE
    assert set(CANONICAL) >= REVERSED


@pytest.mark.parametrize("rules", EVERY_TABLE)
def test_tables_may_be_written_in_any_spelling(rules) -> None:
    others = {(_SPELLINGS.get(op) or (op,))[-1]: rule for op, rule in rules.functions.items()}
    assert Rules("spelled otherwise", others).functions == rules.functions
