"""Traps that were really hit: what looked like an answer and was none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import apportion as ap
from apportion.backward.response import (
    CG,
    TRAK,
    EKFac,
    GradDot,
    Influence,
    LiSSA,
    Unrolled,
    by_training,
)
from apportion.training import (
    AdamW,
    Queries,
    Recipe,
    Rows,
    cross_entropy,
    margin,
    prediction,
    record,
    squared_error,
    train,
)
from apportion.training.fingerprint import of_code, of_module
from apportion.training.refit import BlackBox, Refits
from tests.oracles.trained import INPUTS, asked, classes, trained
from tests.small import close, normal, seeded


def scaled(by: float) -> object:
    return lambda output, label: by * cross_entropy(output, label)


class Bent(nn.Module):
    """The same text as another module, another forward."""

    def __init__(self, how: object) -> None:
        super().__init__()
        self.inner, self.how = nn.Linear(INPUTS, 3).double(), how

    def __repr__(self) -> str:
        return "Bent()"

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.inner(x))


def test_losses_that_differ_in_what_they_hold_are_told_apart() -> None:
    assert of_code(scaled(1.0)) == of_code(scaled(1.0)) != of_code(scaled(9.0))
    smooth = partial(F.cross_entropy, reduction="none", label_smoothing=0.5)
    assert of_code(smooth) != of_code(partial(F.cross_entropy, reduction="none"))
    plain, other = (nn.CrossEntropyLoss(reduction="none", label_smoothing=s) for s in (0.0, 0.5))
    assert of_code(plain) != of_code(other)


def test_models_that_differ_in_what_is_fixed_are_told_apart() -> None:
    def backbone(seed: int) -> nn.Module:
        model = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), seed)
        model[0].requires_grad_(False)
        return model

    assert of_module(backbone(0)) == of_module(backbone(0)) != of_module(backbone(1))


def test_fits_of_another_backbone_are_not_reused(tmp_path) -> None:
    def recipe(seed: int) -> Recipe:
        def build() -> nn.Module:
            model = nn.Sequential(nn.Linear(INPUTS, 4), nn.Linear(4, 3)).double()
            model[0].requires_grad_(False)
            with torch.no_grad():
                model[0].weight.fill_(seed + 1.0)
                model[0].bias.fill_(0.0)
            return model

        return replace(classes(), build=build)

    ones, zero = torch.ones(1, 24), torch.tensor([0])
    Refits(recipe(0), folder=tmp_path).params(ones, zero)
    with pytest.raises(ap.BadRequest, match="another recipe"):
        Refits(recipe(1), folder=tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path) -> None:
    ap.training.save(trained(), tmp_path)
    with pytest.raises(ap.BadRequest, match="is left alone"):
        Refits(classes(), folder=tmp_path)


def test_a_black_box_may_train_by_plain_autograd_and_keeps_buffers() -> None:
    x, y = classes().rows.take(slice(None))

    def fit(weights: Tensor, seed: int) -> nn.Module:
        model = seeded(lambda: nn.Sequential(nn.BatchNorm1d(INPUTS), nn.Linear(INPUTS, 3)), seed)
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        kept = weights > 0
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(model(x[kept]), y[kept]).backward()
            optimiser.step()
        return model.eval()

    gates = torch.ones(2, 24, dtype=torch.bool)
    gates[1, :16] = False
    game = ap.RefitGame(BlackBox(fit, 24, "norm"), asked(), seeds=(3,))
    queries = asked()
    for gate, value in zip(gates, game.value(gates), strict=True):
        model = fit(gate.double(), 3)
        close(value, queries.measure(model(queries.input), queries.labels).detach(), atol=1e-6)


def test_another_training_of_a_recorded_loop_is_another_one() -> None:
    model = seeded(lambda: nn.Linear(INPUTS, 3))
    rows = classes().rows
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    tape = record(model, rows, loss=cross_entropy, optimiser=optimiser)
    for index in torch.arange(24).split(6):
        cross_entropy(model(rows.input[index]), rows.label[index]).mean().backward()
        optimiser.step()
        tape.step(index)
        optimiser.zero_grad()
    run = tape.run()
    assert run.recipe.one
    other = replace(run.recipe, order=None)
    ends = [train(other, seed=s).final["weight"] for s in (1, 2)]
    assert not torch.equal(*ends)
    game = ap.RefitGame(run, asked(), semantics="reweighted")
    assert game.draws == 1
    full = game.value(torch.ones(1, 24, dtype=torch.bool))[0]
    close(full, asked().measure(run.net(run.final, asked().input), asked().labels), atol=1e-6)


def test_the_rows_that_fill_up_a_batch_are_its_own() -> None:
    """A row that is left out is never read, not even with weight 0: it may hold NaN."""
    x, y = classes().rows.take(slice(None))
    broken = x.clone()
    broken[0] = torch.nan
    gates = torch.ones(1, 24, dtype=torch.bool)
    gates[0, 0] = False
    run = trained()
    whole = ap.RefitGame(run, asked(), seeds=(0,)).value(gates)
    recipe = replace(run.recipe, rows=Rows(broken, y))
    holed = ap.RefitGame(replace(run, recipe=recipe), asked(), seeds=(0,)).value(gates)
    close(whole, holed)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: F.cross_entropy(out, y).expand(len(y)),
        lambda out, y: F.cross_entropy(out, y, reduction="none") / len(y),
        F.cross_entropy,
    ],
)
def test_a_mean_in_any_dress_is_refused(loss) -> None:
    with pytest.raises(ap.BadRequest, match="reduction='none'"):
        replace(classes(), loss=loss)


def test_a_loss_that_cannot_be_computed_says_so() -> None:
    with pytest.raises(ap.BadRequest, match="cannot be computed"):
        replace(classes(), loss=lambda out, y: out @ y)


def test_dropout_inside_an_attention_is_found() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.MultiheadAttention(4, 1, dropout=0.5, batch_first=True)
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x[:, None, :4].expand(-1, 6, -1)
            return self.out(self.a(h, h, h, need_weights=False)[0][:, 0])

    with pytest.raises(ap.BadRequest, match="drawn at random"):
        replace(classes(), build=lambda: Attends().double())


def test_labels_that_are_read_must_be_given() -> None:
    with pytest.raises(ap.BadRequest, match="reads labels"):
        Queries(asked().input)
    with pytest.raises(ap.BadRequest, match="3 queries but 2 labels"):
        Queries(asked().input, torch.zeros(2, dtype=torch.long))


def test_shapes_are_not_broadcast_into_an_answer() -> None:
    with pytest.raises(ap.BadRequest, match="as many numbers"):
        squared_error(torch.zeros(2, 3), torch.ones(2))
    with pytest.raises(ap.BadRequest, match="one output"):
        prediction(torch.zeros(2, 3), torch.zeros(2))
    close(margin(normal(2, 3), torch.tensor([[0], [1]], dtype=torch.int32)),
          margin(normal(2, 3), torch.tensor([0, 1])))  # fmt: skip


def test_queries_of_credit_and_game_must_be_the_same() -> None:
    run = trained()
    credit = ap.attribute(ap.ImplicitGame(ap.RefitGame(run, asked(3)), GradDot()), ap.Gradient())
    with pytest.raises(ap.BadRequest, match="3 queries, the game of 1"):
        ap.evaluate.linear_datamodeling_score(credit, ap.RefitGame(run, asked(1)), samples=4)


def test_wrong_rows_may_be_marked_by_numbers() -> None:
    suspicion, wrong = normal(20, seed=1), torch.arange(20) % 4 == 0
    a, b = (ap.evaluate.mislabel_detection(suspicion, w).value for w in (wrong, wrong.long()))
    assert a == b
    with pytest.raises(ap.BadRequest, match="NaN"):
        ap.evaluate.mislabel_detection(torch.full((20,), torch.nan), wrong)


@pytest.mark.parametrize("solver", [CG(), EKFac(share=1.0), LiSSA()], ids=repr)
def test_no_damping_on_a_singular_curvature_is_refused(solver) -> None:
    run = trained(rows=Rows(normal(2, INPUTS, seed=11), torch.tensor([0, 1])), epochs=2)
    with pytest.raises(ap.BadRequest, match="damping"):
        Influence(solver=solver, damping=0.0)([run], asked())


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_fewer_rows_than_checkpoints_all_look_at_all(rows) -> None:
    x, y = classes().rows.take(slice(rows))
    run = trained(rows=Rows(x, y), keep=4)
    assert run.steps
    assert torch.isfinite(Influence(at="averaged")([run], asked())).all()


def test_self_influence_looks_where_it_is_told() -> None:
    run = trained()
    final, averaged = (Influence(at=at).self_influence(run) for at in ("final", "averaged"))
    assert not torch.allclose(final, averaged)


def test_decay_past_the_preconditioner_is_measured_in_units_of_the_loss() -> None:
    """AdamW shrinks by rate x decay whatever the gradients; a loss term would be divided by their
    size. The rule turns the one into the other.
    """
    run = trained(optimiser=AdamW(weight_decay=0.5))
    rates, reach = float(run.rates.sum()), run.reached()
    assert by_training(run) == pytest.approx(0.5 * rates / reach + 1 / reach)


class Tokens(nn.Module):
    """Per-token scores of a text, with fused attention or a recurrent layer."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 3)
        self.mix = nn.LSTM(4, 4, batch_first=True) if recurrent else nn.Linear(4, 12)
        self.recurrent = recurrent

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        if self.recurrent:
            return self.out(self.mix(h)[0][:, -1])
        q, k, v = self.mix(h)[:, None].chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0, -1])


@pytest.mark.parametrize("recurrent", [False, True])
def test_attention_and_recurrent_layers_are_credited(recurrent) -> None:
    ids = torch.randint(7, (12, 5), generator=torch.Generator().manual_seed(0))
    recipe = replace(
        classes(), build=lambda: Tokens(recurrent).double(), rows=Rows(ids, ids[:, 0] % 3),
        epochs=2, batch=4,
    )  # fmt: skip
    run, queries = train(recipe), Queries(ids[:2], ids[:2, 0] % 3)
    told = GradDot()([run], queries)
    model = run.model()

    def gradient(number: Tensor) -> Tensor:
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(number, list(model.parameters()))]
        )

    q = gradient(margin(model(ids[:1]), ids[:1, 0] % 3)[0])
    g = gradient(cross_entropy(model(ids[3:4]), ids[3:4, 0] % 3)[0])
    assert float(told[0, 3]) == pytest.approx(-float(q @ g) / 12, rel=1e-6)
    assert torch.isfinite(TRAK(k=None)([run], queries)).all()
    game = ap.RefitGame(run, queries, seeds=(0,))
    assert torch.isfinite(game.value(torch.ones(1, 12, dtype=torch.bool))).all()
    if recurrent:
        with pytest.raises(ap.BadRequest, match=r"Use CG\(\)"):
            Influence(solver=EKFac())([run], queries)
    else:
        assert torch.isfinite(Influence()([run], queries)).all()
        assert torch.isfinite(Unrolled()([run], queries)).all()


def test_outputs_of_any_shape_have_a_curvature() -> None:
    """Per-token losses, and one number per row without an axis of outputs."""

    class Each(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(INPUTS, 6).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x).unflatten(-1, (2, 3))

    def loss(output: Tensor, label: Tensor) -> Tensor:
        both = label[:, None].expand(-1, 2).flatten()
        return F.cross_entropy(output.flatten(0, 1), both, reduction="none").unflatten(
            0, (len(label), 2)
        ).sum(-1)  # fmt: skip

    run = trained(build=Each, loss=loss)
    first = ap.training.Measure("first", "logits", lambda out, y: out[:, 0, 0], labelled=False)
    dense, cg = (
        Influence(solver=s)([run], Queries(asked().input, None, first))
        for s in (ap.backward.response.Dense(), CG(tolerance=1e-10))
    )
    close(dense, cg, atol=1e-8)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(INPUTS, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x)[:, 0]

    rows = Rows(normal(24, INPUTS), normal(24))
    flat = trained(build=Flat, loss=squared_error, rows=rows)
    assert torch.isfinite(Influence()([flat], Queries(asked().input, None, prediction))).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LiSSA(batch=0),
        lambda: ap.backward.response.Arnoldi(iterations=0),
        lambda: CG(iterations=0),
        lambda: ap.backward.response.Source(segments=0),
    ],
)
def test_options_that_count_nothing_are_refused(make) -> None:
    with pytest.raises(ap.BadRequest, match="at least 1"):
        make()


def test_arrays_are_rows_as_well() -> None:
    x, y = normal(6, 3), torch.arange(6)
    rows = Rows.of((x.numpy(), y.numpy()))
    close(rows.input, x)
    assert torch.equal(rows.label, y)
