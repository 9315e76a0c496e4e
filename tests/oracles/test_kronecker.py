"""K-FAC and EK-FAC against the whole curvature and against gradients of single rows, in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.backward.response import Dense, EKFac, Influence, KFac, Source
from apportion.backward.response import eigenbasis as fitting
from apportion.backward.response.eigenbasis import Eigenbasis, rooted
from apportion.backward.response.kronecker import Problem, inverse, nearest
from apportion.training import (
    Measure,
    Queries,
    Recipe,
    Rows,
    TrainingRun,
    cross_entropy,
    squared_error,
    train,
)
from apportion.training.curvature import Curvature
from apportion.training.factors import factors, survey
from apportion.training.measures import reading
from apportion.training.persample import each
from apportion.values import Logit
from tests.oracles.trained import asked, ended, trained
from tests.small import close, normal


class Reader(nn.Module):
    """Tokens, a linear layer at every position, a norm, and one linear layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=0)
        self.place = nn.Parameter(torch.linspace(-1, 1, 20).reshape(5, 4))
        self.norm = nn.LayerNorm(4)
        self.twice = nn.Linear(4, 4)
        self.out = nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.table(x) + self.place)
        h = self.twice(self.twice(h).relu_())  # the second call reads what was overwritten
        return self.out(h.tanh().mean(1))


class Looks(nn.Module):
    """Weights read outside of their module's call, tied, or in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.look = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mix = nn.Conv1d(4, 4, 3, padding=1, groups=2)
        self.last = nn.Linear(4, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        h = h + self.look(h, h, h)[0]
        h = self.mix(h.transpose(1, 2)).mean(-1)
        return self.out(self.last(h).tanh())


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, (1, 3), padding="same", bias=False), nn.GroupNorm(1, 2),
        nn.Tanh(), nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 3, 4, stride=2, padding=1, dilation=2), nn.Tanh(),
        nn.Conv1d(3, 4, 2, padding="valid"), nn.Flatten(), nn.Linear(12, 2),
    )  # fmt: skip


def tokens(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 7, (n, 5), generator=Generator().manual_seed(seed))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)), normal(9, 4), 3),
    "images": (images, normal(6, 2, 5, 4), 3),
    "signals": (signals, normal(6, 2, 12), 2),
    "reader": (Reader, tokens(8), 3),
    "looks": (Looks, tokens(8), 7),
}


def run_of(name: str, loss: Measure = cross_entropy) -> TrainingRun:
    build, x, classes = MODELS[name]
    label = torch.arange(len(x)) % classes
    y = normal(len(x), classes, seed=9) if loss == squared_error else label
    recipe = Recipe(build=lambda: build().double(), rows=Rows(x, y), loss=loss)
    return ended(recipe, recipe.begin(0))


def spectrum(solver: KFac | EKFac, run: TrainingRun, steps: tuple[int, ...] = ()) -> Eigenbasis:
    return solver.spectrum(Curvature.of(run, steps or (run.steps,)), Generator().manual_seed(0))


def as_whole(basis: Eigenbasis) -> Tensor:
    """The matrix it stands for."""
    return basis.apply(torch.eye(basis.net.size, dtype=torch.float64), lambda s: s)


@pytest.mark.parametrize("name", ["mlp", "images", "signals", "reader"])
def test_factors_give_back_the_gradients_of_single_rows(name: str) -> None:
    run = run_of(name)
    net, (x, y) = run.net, run.recipe.rows.take(slice(None))
    told = survey(net, run.final, run.recipe.rows)
    slope = torch.func.grad(lambda z: cross_entropy(z, y).sum())(net(run.final, x))
    truth = net.named(each(net, run.final, cross_entropy, x, y))
    pairs = factors(net, run.final, told.layers, x, slope[None])
    assert [pair.layer for pair in pairs] == list(told.layers)
    for pair in pairs:
        g = pair.gradients()[0]
        weight = truth[pair.layer.weight]
        if pair.tokens is not None:
            every = torch.zeros(len(x), g.shape[1], weight.shape[1], dtype=g.dtype)
            close(every.index_add(2, pair.tokens, g).mT, weight, atol=1e-12)
            continue
        if pair.layer.bias is not None:
            close(g[..., -1], truth[pair.layer.bias], atol=1e-12)
            g = g[..., :-1]
        close(g.reshape(weight.shape), weight, atol=1e-12)


def test_layers_are_named_and_the_rest_is_reported() -> None:
    reader = run_of("reader")
    told = survey(reader.net, reader.final, reader.recipe.rows)
    assert [layer.module for layer in told.layers] == ["table", "twice", "out"]
    assert told.rest == ("place", "norm.weight", "norm.bias")
    assert told.share == (20 + 8) / reader.net.size
    assert "place" in str(told) and f"{told.share:.1%}" in str(told)
    looks = run_of("looks")
    told = survey(looks.net, looks.final, looks.recipe.rows)
    assert [layer.module for layer in told.layers] == ["last"]
    assert {"table.weight", "look.in_proj_weight", "mix.weight"} < set(told.rest)
    assert EKFac().notes(looks) == (str(told),)


def test_the_model_is_left_as_it_was() -> None:
    run = run_of("reader")
    before = {k: v.clone() for k, v in run.net.module.state_dict().items()}
    spectrum(EKFac(), run)
    assert all(not part._forward_hooks for part in run.net.module.modules())
    assert all(p.grad is None for p in run.net.module.parameters())
    for name, x in run.net.module.state_dict().items():
        close(x, before[name], atol=0.0)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_eigenvalues_are_the_diagonal_of_the_curvature_in_the_basis(
    name: str, loss: Measure
) -> None:
    """Lambda = diag(Q' C Q), so their sum is the trace of C; a module without factors is exact."""
    run = run_of(name, loss)
    whole = Curvature.of(run, (run.steps,)).dense()
    for kind in ("gradients", "factors"):
        basis = spectrum(EKFac(basis=kind), run)
        close(basis.values.sum(), whole.trace(), atol=1e-9)
        mine = as_whole(basis)
        close(mine, mine.T, atol=1e-10)
        close((mine * mine).sum(), (mine * whole).sum(), atol=1e-8)  # sum Lambda diag(Q' C Q)
    for names in (part.layer for part in basis.parts if isinstance(part.layer, tuple)):
        at = torch.cat([torch.full((run.final[k].numel(),), k in names) for k in run.net.names])
        close(mine[at][:, at], whole[at][:, at], atol=1e-10)


def test_true_labels_are_the_second_moment_of_the_gradients() -> None:
    run = run_of("images")
    g = each(run.net, run.final, cross_entropy, *run.recipe.rows.take(slice(None)))
    basis = spectrum(EKFac(labels="true"), run)
    close(basis.values.sum(), g.square().sum(-1).mean(), atol=1e-10)


def test_a_cross_product_of_inputs_and_flows_is_one_kronecker_product() -> None:
    """Rows (a_i, delta_j) for all i and j: E[g g'] = S x A, which all of them find."""
    a, delta, theta = normal(6, 4, seed=1), normal(5, 3, seed=2), normal(3, 4, seed=3)
    x, flow = a.repeat_interleave(5, 0), delta.repeat(6, 1)
    recipe = Recipe(
        build=lambda: nn.Linear(4, 3, bias=False).double(),
        rows=Rows(x, x @ theta.T - flow), loss=squared_error,
    )  # fmt: skip
    run = ended(recipe, {"weight": theta})
    s, inside = delta.T @ delta / 5, a.T @ a / 6
    truth = torch.linalg.inv(torch.kron(s, inside) + 0.01 * torch.eye(12, dtype=s.dtype))
    for solver in (KFac, EKFac):
        for kind in ("gradients", "factors"):
            basis = spectrum(solver(labels="true", basis=kind), run)
            close(inverse(basis, torch.eye(12, dtype=s.dtype), 0.01), truth, atol=1e-9)


def headed(outputs: int = 3) -> tuple[TrainingRun, Queries]:
    """One trained layer below a fixed one, squared error: C = W'W x E[a a'], exactly."""

    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, outputs, bias=False)).double()
        model[1].requires_grad_(False)
        return model

    rows = Rows(normal(30, 4, seed=1), normal(30, outputs, seed=2))
    recipe = Recipe(build=build, rows=rows, loss=squared_error, epochs=3, batch=7)
    return train(recipe, seed=1), Queries(normal(5, 4, seed=3), None, reading(Logit(0)))


@pytest.mark.parametrize("share", [None, 1.0])
@pytest.mark.parametrize("at", ["final", "averaged"])
def test_a_layer_below_a_fixed_one_is_solved_as_densely(share: float | None, at: str) -> None:
    run, queries = headed()
    for damping in (0.2, 1e-3):
        truth = Influence(damping=damping)([run], queries)
        for solver in (KFac(share=share), EKFac(share=share), EKFac(share=share, basis="factors")):
            close(Influence(solver=solver, damping=damping)([run], queries), truth, atol=1e-9)
            many = Influence(solver=solver, damping=damping, at=at)([run], queries)
            exact = Influence(damping=damping, at=at)([run], queries)
            # checkpoints look at different rows, of different A: only close then
            close(many, exact, atol=1e-9 if at == "final" else 0.2 * float(exact.abs().max()))


def test_segments_of_source_take_the_eigenbasis() -> None:
    run, queries = headed()
    # one checkpoint in each: the factorisation is exact in every segment
    for solver in (KFac(), EKFac()):
        rough = Source(spectral=solver, segments=6)([run], queries)
        close(rough, Source(segments=6)([run], queries), atol=1e-9)


def test_one_row_with_one_output_is_exact_in_every_layer() -> None:
    recipe = Recipe(
        build=lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double(),
        rows=Rows(normal(1, 4), normal(1, 1)), loss=squared_error,
    )  # fmt: skip
    run = ended(recipe, recipe.begin(0))
    curvature, v = Curvature.of(run, (0,)), normal(5, run.net.size, seed=4)
    truth = Dense(blocks=True)(curvature, v, 0.1, Generator())
    for kind in ("gradients", "factors"):
        close(EKFac(share=1.0, basis=kind)(curvature, v, 0.1, Generator()), truth, atol=1e-9)


def test_several_checkpoints_share_a_basis_and_average_its_eigenvalues() -> None:
    run = trained()
    steps = run.spaced
    whole = Curvature.of(run, steps).dense().double()
    close(spectrum(EKFac(), run, steps).values.sum(), whole.trace(), atol=1e-5)


UNNAMED = Measure("cross-entropy by another name", "nats", cross_entropy.f)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error, UNNAMED])
def test_drawn_labels_have_the_curvature_in_the_mean(loss: Measure) -> None:
    run = run_of("mlp", loss)
    exact = spectrum(KFac(), run)
    drawn = spectrum(KFac(labels="sampled", samples=4000), run)
    close(as_whole(drawn), as_whole(exact), atol=0.05 * float(as_whole(exact).abs().max()))


def test_any_convex_loss_is_rooted() -> None:
    """Columns l of the root have sum l l' = the second derivative by the outputs."""
    z, y = normal(4, 3, seed=1), torch.tensor([0, 1, 2, 0])
    root = rooted(cross_entropy, z, y)
    p = z.softmax(-1)
    close(
        torch.einsum("kbc,kbd->bcd", root, root),
        torch.diag_embed(p) - p[:, :, None] * p[:, None], atol=1e-12,
    )  # fmt: skip


def test_refining_ends_at_the_exact_solution() -> None:
    """Conjugate gradients: the energy of the error falls with each step, to 0 after p of them."""
    run, v = run_of("mlp"), normal(3, run_of("mlp").net.size, seed=2)
    curvature = Curvature.of(run, (run.steps,))
    matrix = curvature.dense() + 0.05 * torch.eye(run.net.size, dtype=torch.float64)
    truth = Dense()(curvature, v, 0.05, Generator())
    for solver in (KFac, EKFac):
        errors = []
        for steps in (1, 2, 4, 8):
            e = solver(refine=steps)(curvature, v, 0.05, Generator().manual_seed(1)) - truth
            errors.append(((e @ matrix) * e).sum(-1))
        assert all(bool((b < a).all()) for a, b in pairwise(errors))
        ended_at = solver(refine=run.net.size)(curvature, v, 0.05, Generator().manual_seed(1))
        close(ended_at, truth, atol=1e-7)


def test_the_damping_inside_is_chosen_by_energy() -> None:
    """The share found lies as near to the solution as the best of a fine grid, and not above 1."""
    run = run_of("images")
    curvature, v = Curvature.of(run, (run.steps,)), normal(6, run.net.size, seed=3)
    problem = Problem(curvature, v, 1e-3)
    matrix = curvature.dense() + 1e-3 * torch.eye(run.net.size, dtype=torch.float64)
    basis = spectrum(EKFac(), run)

    def captured(share: float) -> float:
        u = inverse(basis, v, share * 1e-3)
        return float(((v * u).sum(-1).square() / ((u @ matrix) * u).sum(-1)).mean())

    share = nearest(problem, basis, Generator().manual_seed(0))
    grid = [captured(10 ** (-k / 10)) for k in range(31)]
    assert share <= 1
    assert captured(share) >= 0.98 * max(grid)
    assert nearest(Problem(curvature, v, 0.0), basis, Generator()) == 1


def test_functions_of_the_curvature_multiply() -> None:
    basis = spectrum(EKFac(), run_of("reader"))
    v = normal(4, basis.net.size, seed=1)
    close(basis.apply(v, torch.ones_like), v, atol=1e-12)
    once = basis.apply(v, lambda s: torch.exp(-s))
    close(basis.apply(once, lambda s: torch.exp(-2 * s)), basis.apply(v, lambda s: (-3 * s).exp()))
    close(inverse(basis, basis.apply(v, lambda s: s + 0.1), 0.1), v, atol=1e-10)


def test_large_modules_without_factors_keep_a_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SMALL", 4)
    run = run_of("reader")
    whole = Curvature.of(run, (run.steps,)).dense()
    mine, at = as_whole(spectrum(KFac(), run)), slice(0, 20)  # `place` comes first
    close(mine[at, at], whole[at, at].diagonal().diag(), atol=1e-10)


def test_float32_models_are_solved_too() -> None:
    credit = Influence(solver=EKFac(refine=2), at="averaged")([trained()], asked())
    assert bool(torch.isfinite(credit).all())


@pytest.mark.parametrize("options", [
    {"samples": 0}, {"share": 0.0}, {"share": -1.0}, {"share": float("nan")}, {"refine": -1},
])  # fmt: skip
@pytest.mark.parametrize("solver", [KFac, EKFac])
def test_options_that_mean_nothing_are_refused(solver: type, options: dict) -> None:
    with pytest.raises(ap.BadRequest, match=next(iter(options))):
        solver(**options)


def test_what_cannot_be_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained()
    with pytest.raises(ap.BadRequest, match="curvature='ggn'"):
        Influence(solver=EKFac(), curvature="hessian")([run], asked())
    with pytest.raises(ap.BadRequest, match="Raise damping"):
        Influence(solver=EKFac(), damping=0.0)([run], asked())
    downwards = Measure("cubes", "units", lambda out, y: out.flatten(1).pow(3).sum(-1))
    for labels in ("expected", "sampled"):
        with pytest.raises(ap.BadRequest, match="labels='true'"):
            spectrum(EKFac(labels=labels), run_of("mlp", downwards))
    assert spectrum(EKFac(labels="true"), run_of("mlp", downwards)).values.min() >= 0
    monkeypatch.setattr(fitting, "OUTPUTS", 2)
    with pytest.raises(ap.BadRequest, match="'sampled' or 'true'"):
        spectrum(KFac(), run)
    assert spectrum(KFac(labels="sampled"), run).values.min() >= 0


def test_labels_are_drawn_from_the_generator_given() -> None:
    run = run_of("mlp")
    one, two = (spectrum(EKFac(labels="sampled"), run) for _ in range(2))
    close(one.values, two.values, atol=0.0)
