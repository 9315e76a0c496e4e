"""Values of a whole output: similarity, divergence, maps, boxes, and several values at once."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

import apportion as ap
from apportion.values import Value
from tests.contracts.made import X, asking, some
from tests.contracts.test_values import WHOLE
from tests.small import central_difference, close, cnn, mlp, normal, seeded

LOGITS = 3 * normal(4, 5, seed=2)
TO = normal(5, seed=4)
P = normal(5, seed=5).softmax(-1)
MAPS = normal(4, 3, 6, 5, seed=6)  # (batch, class, height, width)
REGION = normal(6, 5, seed=7) > 0.3
BOXES = torch.tensor([[[0.0, 0, 4, 4], [2, 2, 6, 6], [8, 8, 9, 9]]]).double()
SCORES = torch.tensor([[[0.1, 0.5], [0.2, 0.9], [0.9, 0.99]]], dtype=torch.float64)
BOX = (1.0, 1.0, 5.0, 5.0)

VALUES: dict[str, tuple[Value, object, object]] = {  # value, output, and what it should be
    "divergence": (
        ap.values.Divergence(P),
        LOGITS,
        -(P.numpy() * (np.log(P.numpy()) - log_softmax(LOGITS.numpy(), -1))).sum(-1),
    ),
    "similarity": (
        ap.values.Similarity(TO),
        LOGITS,
        [1 - cosine(row, TO.numpy()) for row in LOGITS.numpy()],
    ),
    "dense-sum": (
        ap.values.DenseSum(1, REGION),
        MAPS,
        [sum(row[1][r, c] for r, c in np.argwhere(REGION.numpy())) for row in MAPS.numpy()],
    ),
    # IoU with the first two is 9 / (16 + 16 - 9)
    "box-score": (ap.values.BoxScore(BOX, 1, (10, 10)), (BOXES, SCORES), [0.9 * 9 / 23]),
    "several": (
        ap.values.Several((ap.values.Logit(1), ap.values.Probability((0, 2)))),
        LOGITS,
        np.column_stack([LOGITS.numpy()[:, 1], softmax(LOGITS.numpy(), -1)[:, [0, 2]]]),
    ),
    "embedding": (
        ap.values.Embedding(positions=(0, 2)),
        MAPS[:, 0],
        (MAPS[:, 0, 0] + MAPS[:, 0, 2]).numpy() / 2,
    ),
}
EACH = pytest.mark.parametrize("name", list(VALUES))


def test_every_row_is_here() -> None:
    assert VALUES.keys() == WHOLE
    assert all(isinstance(VALUES[name][0], ap.values.TABLE[name]) for name in VALUES)


@EACH
def test_equals_its_definition(name) -> None:
    value, output, expected = VALUES[name]
    assert isinstance(value, Value) and value.unit and ap.values.TABLE[name].__name__ in repr(value)
    close(value(output), torch.from_numpy(np.array(expected)), atol=1e-10)


@pytest.mark.parametrize("name", ["divergence", "similarity", "dense-sum", "several"])
def test_is_called_linear_exactly_where_it_is(name) -> None:
    value, out, _ = VALUES[name]
    scales = torch.allclose(value(1.7 * out), 1.7 * value(out), atol=1e-9)
    shift = value(out + 0.3 * out.flip(0))
    adds = torch.allclose(shift, value(out) + 0.3 * value(out.flip(0)), atol=1e-9)
    assert value.linear == (scales and adds)
    dot = ap.values.Similarity(TO, "dot")
    assert dot.linear and not ap.values.Similarity(TO).linear
    close(dot(LOGITS + 2 * LOGITS.flip(0)), dot(LOGITS) + 2 * dot(LOGITS.flip(0)), atol=1e-9)


@EACH
def test_is_computed_in_float32_or_wider_and_compares_by_content(name) -> None:
    value, out, expected = VALUES[name]
    half = tuple(x.bfloat16() for x in out) if isinstance(out, tuple) else out.bfloat16()
    narrow = value(half)
    assert narrow.dtype == torch.float32
    close(narrow, torch.from_numpy(np.array(expected)), atol=0.3)
    if name != "dense-sum":  # a mask is a tensor
        assert value == type(value)(**vars(value)) and len({value, type(value)(**vars(value))}) == 1


# -- relative to the clean run


def vectors(instances: int = 2) -> tuple[nn.Module, Tensor]:
    return mlp(), normal(instances, 6, seed=3)


def test_a_divergence_is_from_the_clean_run_of_each_instance() -> None:
    model, x = vectors()
    game = asking(model, x, value=ap.values.Divergence())
    gates = some(6)
    values = game.value(gates)
    for row, got in zip(gates, values, strict=True):
        with torch.no_grad():
            p, q = model(x).softmax(-1), model(torch.where(row, x, 0.0)).softmax(-1)
        close(got, -(p * (p / q).log()).sum(-1), atol=1e-10)
    everyone = torch.ones(1, 6, dtype=torch.bool)
    close(game.value(everyone), torch.zeros(1, 2), atol=1e-12)
    assert float(values.max()) <= 1e-12  # a divergence has no other sign
    moved = game.at(x.flip(0)).value(gates)
    close(moved, values.flip(1), atol=1e-12)


def test_shapley_values_of_a_divergence_are_those_of_log_probabilities_averaged() -> None:
    """phi^KL = sum_y p(y|x) phi[log p(y|x_.)], and they sum to the divergence of nobody."""
    model, x = vectors(1)
    exact = ap.ExactShapley()
    kl = ap.attribute(asking(model, x, value=ap.values.Divergence()), exact)
    each = ap.attribute(asking(model, x, value=ap.values.LogProbability((0, 1, 2))), exact)
    with torch.no_grad():
        p, none = model(x)[0].softmax(-1), model(torch.zeros_like(x))[0].softmax(-1)
    close(kl.scores, p @ each.scores, atol=1e-10)
    close(kl.sum(), (p * (p / none).log()).sum(), atol=1e-10)


def test_a_divergence_from_a_certain_distribution_is_a_log_probability() -> None:
    certain = ap.values.Divergence((0.0, 0.0, 1.0, 0.0, 0.0))
    close(certain(LOGITS), ap.values.LogProbability(2)(LOGITS), atol=1e-12)


def test_a_similarity_without_a_vector_is_to_the_clean_output() -> None:
    model, x = vectors()
    gates = some(6)
    game = asking(model, x, value=ap.values.Similarity())
    for row, got in zip(gates, game.value(gates), strict=True):
        with torch.no_grad():
            expected = torch.cosine_similarity(model(torch.where(row, x, 0.0)), model(x))
        close(got, expected, atol=1e-10)
    close(game.value(torch.ones(1, 6, dtype=torch.bool)), torch.ones(1, 2), atol=1e-12)
    fixed = asking(model, x[:1], value=ap.values.Similarity(model(x[1:])[0], "dot"))
    with torch.no_grad():
        close(fixed.clean.values, (model(x[:1]) * model(x[1:])).sum(-1), atol=1e-10)


class Encoder(nn.Module):
    """Hidden states (instance, position, width), as encoders of Hugging Face return them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = seeded(lambda: nn.Linear(2, 4))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        states = torch.tanh(self.mix(x.reshape(len(x), 3, 2)))
        return OrderedDict(last_hidden_state=states, pooler_output=states[:, 0])


@pytest.mark.parametrize("positions", [None, (0, 2)])
def test_a_similarity_reads_hidden_states_as_an_embedding_does(positions) -> None:
    """Cosine of means over positions, by hand: with the clean run, and with another input."""
    model, x, other = Encoder(), normal(1, 6), normal(1, 6, seed=9)
    kept = [0, 1, 2] if positions is None else list(positions)

    def mean(x: Tensor) -> np.ndarray:
        return model(x)["last_hidden_state"].detach()[0, kept].mean(0).numpy()

    gates = some(6)
    for value, to in (
        (ap.values.Similarity(positions=positions), x),
        (ap.values.Similarity(mean(other), positions=positions), other),
    ):
        got = asking(model, x, value=value).value(gates)
        expected = [1 - cosine(mean(torch.where(row, x, 0.0)), mean(to)) for row in gates]
        close(got.flatten(), torch.tensor(expected), atol=1e-10)


def test_one_side_of_a_pair_on_a_linear_encoder_is_shared_out_in_closed_form() -> None:
    """dot(W x_S, e) is a sum over columns: each player's credit is x_i (W^T e)_i."""
    encoder, x = seeded(lambda: nn.Linear(6, 4, bias=False)), normal(1, 6)
    other = encoder(normal(1, 6, seed=9)).detach()
    game = asking(encoder, x, value=ap.values.Similarity(other, "dot"))
    credit = ap.attribute(game, ap.ExactShapley())
    close(credit.scores, x[0] * (encoder.weight.T @ other[0]).detach(), atol=1e-10)


# -- maps


def segmenter(dimensions: int = 2) -> nn.Module:
    conv = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return seeded(
        lambda: nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh(), conv(4, 3, 3, padding=1))
    )


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("how", ["sum", "mean"])
def test_the_region_is_where_the_clean_run_predicts_the_class(dimensions, how) -> None:
    model, x = segmenter(dimensions), normal(2, 1, *(4,) * dimensions, seed=3)
    players = ap.players.Players(
        ("left", "right"), ("half",) * 2, {ap.Site("", "in"): (torch.arange(4) // 2)}
    )
    with torch.no_grad():
        clean = model(x)
    target = int(clean[0].argmax(0).mode().values.flatten()[0])
    value = ap.values.DenseSum(target, how=how)
    game = asking(model, x, value=value, players=players)
    gates = some(2)
    for row, got in zip(gates, game.value(gates), strict=True):
        keep = row[torch.arange(4) // 2]
        with torch.no_grad():
            scores = model(torch.where(keep, x, 0.0))[:, target]
        for i in range(2):
            chosen = scores[i][clean[i].argmax(0) == target]
            close(got[i], chosen.sum() if how == "sum" else chosen.mean(), atol=1e-9)


def test_masses_of_all_classes_add_up_where_the_regions_partition() -> None:
    """Over one mask a sum over classes is the sum of the map; over all masks that of the class."""
    every = ap.values.DenseSum((0, 1, 2), REGION)(MAPS)
    close(every.sum(-1), MAPS.sum(1)[:, REGION].sum(-1), atol=1e-9)
    rest = ap.values.DenseSum(1, ~REGION)(MAPS) + ap.values.DenseSum(1, REGION)(MAPS)
    close(rest, MAPS[:, 1].sum((1, 2)), atol=1e-9)
    named = ap.values.DenseSum(1, REGION)(OrderedDict(out=MAPS))
    close(named, ap.values.DenseSum(1, REGION)(MAPS))


def test_gradients_reach_through_every_value() -> None:
    x = normal(1, 2, 8, 8, seed=1)
    players = ap.players.patches(x, 4)
    gates = torch.full((1, 4), 0.6, dtype=torch.float64)
    for value in (
        ap.values.Divergence(),
        ap.values.Similarity(normal(3)),
        ap.values.Several((ap.values.Logit(1), ap.values.Divergence())),
    ):
        game = asking(cnn(), x, value=value, players=players)
        close(game.grad(gates)[1], central_difference(game, gates), atol=1e-6)
    x = normal(1, 1, 4, 4, seed=3)
    dense = ap.values.DenseSum(1, torch.ones(4, 4, dtype=torch.bool))
    game = asking(segmenter(), x, value=dense, players=ap.players.patches(x, 2))
    close(game.grad(gates)[1], central_difference(game, gates), atol=1e-6)


# -- boxes


class Detector(nn.Module):
    """Proposals known in closed form: fixed boxes, whose score is the light inside them."""

    boxes = torch.tensor([[0.0, 0, 4, 4], [4, 4, 8, 8], [0, 0, 8, 4]], dtype=torch.float64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        light = [
            x[:, 0, int(t) : int(b), int(a) : int(c)].mean((1, 2)) for a, t, c, b in self.boxes
        ]
        scores = torch.stack(light, 1)[..., None]
        return self.boxes.expand(len(x), -1, -1), torch.cat([scores, 1 - scores], -1)


def test_a_detector_of_closed_form_is_explained_in_closed_form() -> None:
    """The box is the second proposal: its score is a mean over the patch it covers, so all of the
    credit goes to that patch.
    """
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    value = ap.values.BoxScore((4, 4, 8, 8), 0, (8, 8))
    game = asking(Detector(), x, value=value, players=ap.players.patches(x, 4))
    credit = ap.attribute(game, ap.ExactShapley())
    close(credit.scores[:3], torch.zeros(3), atol=1e-12)
    close(credit.scores[3], x[0, 0, 4:, 4:].mean(), atol=1e-12)
    nobody = torch.zeros(1, 4, dtype=torch.bool)
    close(game.value(nobody), torch.zeros(1), atol=1e-12)


@pytest.mark.parametrize("above", [None, 0.5])
def test_a_box_that_no_proposal_overlaps_is_noted(above) -> None:
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    model, players = Detector(), ap.players.patches(x, 4)
    missed = ap.values.BoxScore((14, 14, 16, 16), 0, (16, 16), above)
    (note,) = asking(model, x, value=missed, players=players).describe().notes
    assert "no proposal of class 0 overlaps" in note
    assert ("IoU above 0.5" in note) == (above is not None)
    found = ap.values.BoxScore((4, 4, 8, 8), 0, (8, 8), above)
    assert not asking(model, x, value=found, players=players).describe().notes


def test_a_threshold_on_overlap_counts_whole_scores() -> None:
    output = (BOXES, SCORES)
    close(
        ap.values.BoxScore(BOX, 1, (10, 10), above=0.3)(output),
        torch.tensor([0.9]).double(),
        atol=1e-6,
    )
    close(
        ap.values.BoxScore(BOX, 1, (10, 10), above=0.5)(output),
        torch.tensor([0.0]).double(),
        atol=1e-6,
    )
    close(
        ap.values.BoxScore((2, 2, 6, 6), 1, (10, 10), above=0.5)(output),
        torch.tensor([0.9]).double(),
        atol=1e-6,
    )
    close(
        ap.values.BoxScore((2, 2, 6, 6), 1, (10, 10))(output), SCORES[:, 1, 1], atol=1e-12
    )  # IoU 1 with itself


def test_the_lists_of_torchvision_are_read_per_image() -> None:
    labelled = [
        {"boxes": BOXES[0], "labels": torch.tensor([1, 1, 1]), "scores": SCORES[0, :, 1]},
        {"boxes": BOXES[0], "labels": torch.tensor([1, 2, 1]), "scores": SCORES[0, :, 1]},
        {"boxes": BOXES[0, :0], "labels": torch.tensor([]).long(), "scores": SCORES[0, :0, 1]},
    ]
    expected = torch.tensor([0.9 * 9 / 23, 0.5 * 9 / 23, 0.0], dtype=torch.float64)
    close(ap.values.BoxScore(BOX, 1, (10, 10))(labelled), expected, atol=1e-12)


# -- several


def test_several_values_are_each_as_alone() -> None:
    model, x = vectors()
    parts = (ap.values.Logit((0, 2)), ap.values.Margin(1), ap.values.Divergence())
    gates = some(6)
    together = asking(model, x, value=ap.values.Several(parts)).value(gates)
    alone = [asking(model, x, value=part).value(gates) for part in parts]
    close(together, torch.cat([a.reshape(len(gates), 2, -1) for a in alone], -1), atol=1e-12)
    value = ap.values.Several((ap.values.Logit(0), ap.values.Continuation((1, 2))))
    assert (value.last, value.linear, value.unit) == (3, False, "logits, nats")
    assert ap.values.Several((ap.values.Logit(0), ap.values.DenseSum(0))).last is None
    assert ap.values.Several((ap.values.Logit(0), ap.values.Contrast(0, 1))).linear
    assert "jethani2023" in asking(model, x, value=ap.values.Several(parts)).describe().cites


# -- what means nothing


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.values.Similarity(TO, "angle"), "'cosine' or 'dot'"),
        (lambda: ap.values.Similarity(normal(2, 3)), "takes one vector"),
        (lambda: ap.values.Similarity("near"), "vector of numbers"),
        (lambda: ap.values.Similarity((1.0, float("nan"))), "NaN"),
        (lambda: ap.values.Similarity(normal(3))(LOGITS), "by the same model"),
        (lambda: ap.values.Similarity()(LOGITS), "about the clean run"),
        (lambda: ap.values.Similarity(TO)(MAPS), "module that returns the embedding"),
        (lambda: ap.values.Similarity(TO, positions=(0,))(LOGITS), "position, width"),
        (lambda: ap.values.Similarity(TO, positions=(1, 1)), "different positions"),
        (lambda: ap.values.Divergence((0.5, 0.6)), "no probabilities"),
        (lambda: ap.values.Divergence((1.5, -0.5)), "no probabilities"),
        (lambda: ap.values.Divergence()(LOGITS), r"value\.against\(model\(x\)\)"),
        (lambda: ap.values.Divergence((0.5, 0.5))(LOGITS), "compares with 2 classes"),
        (lambda: ap.values.DenseSum(1, REGION.long()), "is bool"),
        (lambda: ap.values.DenseSum(1, torch.zeros(3, dtype=torch.bool)), "is empty"),
        (lambda: ap.values.DenseSum(1, REGION, "max"), "'sum' or 'mean'"),
        (lambda: ap.values.DenseSum(1)(MAPS), "about the clean run"),
        (lambda: ap.values.DenseSum(1, REGION.T)(MAPS), "one bool per position"),
        (lambda: ap.values.DenseSum(3, REGION)(MAPS), "no class 3"),
        (lambda: ap.values.DenseSum(1, REGION)(LOGITS), "use Logit"),
        (lambda: ap.values.DenseSum(0).against(MAPS - torch.tensor([9.0, 0, 0])[:, None, None]),
         "no position of instance 0 is predicted as class 0"),
        (lambda: ap.values.BoxScore((5, 1, 1, 5), 1, (10, 10)), "empty or inverted"),
        (lambda: ap.values.BoxScore((1, 1, 1, 5), 1, (10, 10)), "empty or inverted"),
        (lambda: ap.values.BoxScore((-1, 1, 3, 5), 1, (10, 10)), "outside the image"),
        (lambda: ap.values.BoxScore((1, 1, 3, 15), 1, (10, 20)), "outside the image"),
        (lambda: ap.values.BoxScore((1, 1, 3, float("nan")), 1, (9, 9)), "finite"),
        (lambda: ap.values.BoxScore(BOX, 1, (10, 10), above=1.0), "between 0 and 1"),
        (lambda: ap.values.BoxScore(BOX, 5, (10, 10))((BOXES, SCORES)), "no class 5"),
        (lambda: ap.values.BoxScore(BOX, 1, (10, 10))(BOXES), "raw proposals"),
        (lambda: ap.values.BoxScore(BOX, 1, (10, 10))([{"boxes": BOXES[0]}]), "lacks"),
        (lambda: ap.values.Several(()), "takes values"),
        (lambda: ap.values.Several((ap.values.Logit,)), "read off the output"),
        (lambda: ap.values.Several((3,)), "read off the output"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()


def test_a_completed_value_is_for_as_many_instances_as_it_was_shown() -> None:
    shown = ap.values.Divergence().against(LOGITS)
    close(shown(torch.cat([LOGITS, LOGITS])), torch.zeros(8), atol=1e-12)
    with pytest.raises(ap.BadRequest, match="no multiple"):
        shown(LOGITS[:3])
    assert repr(shown) == "Divergence()" and not shown.linear and shown.last == 1
    assert asking(mlp(), X, value=ap.values.Divergence()).describe().value == "Divergence()"
