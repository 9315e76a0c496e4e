"""Players made of groups: segments, column groups, modalities, layers; and hierarchies of them."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.players import plain, same
from apportion.report.picture import overlay, shape_of
from tests.contracts.made import ZEROS, Plainly, X, asking, some, tiny
from tests.report import made
from tests.small import IDS, close, cnn, decoder, mlp, normal

INPUT = ap.Site("", "in")
PICTURE = normal(1, 2, 4, 6)
LABELS = torch.tensor([[7, 7, 7, 3, 3, 3]] * 2 + [[-1, -1, 9, 9, 3, 3]] * 2)


def linear(w: Tensor) -> nn.Module:
    return Plainly(lambda x: (x * w).flatten(1).sum(1, keepdim=True))


# -- segments


def test_labels_of_any_strides_are_read_without_a_warning() -> None:
    """torch says it once per process, so it is asked to say it always."""
    volume = torch.zeros(1, 1, 4, 4, 4)
    labels = torch.arange(64).reshape(4, 4, 4) // 16
    was = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            turned = ap.players.segments(volume, labels.permute(2, 0, 1))
    finally:
        torch.set_warn_always(was)
    assert torch.equal(turned.owner[INPUT], labels.permute(2, 0, 1))


def test_segments_of_a_linear_model_earn_the_sum_of_their_products() -> None:
    w = normal(2, 4, 6, seed=1)
    players = ap.players.segments(PICTURE, LABELS, {7: "left", 9: "below"})
    assert players.names == ("segment 3", "left", "below")
    game = asking(linear(w), PICTURE, players=players)
    credit = ap.attribute(game, ap.LeaveOneOut())
    products = (w * PICTURE[0]).sum(0)
    close(credit.scores, torch.stack([products[k == LABELS].sum() for k in (3, 7, 9)]))
    nobody = game.value(torch.zeros(1, 3, dtype=torch.bool))[0]
    close(nobody, products[LABELS == -1].sum())  # which stays, as it is nobody's


def test_masks_and_labels_mean_the_same() -> None:
    masks = [k == LABELS for k in (3, 7, 9)]
    names = ["a", "b", "c"]
    of_masks = ap.players.segments(PICTURE, masks, names)
    assert same(of_masks, ap.players.segments(PICTURE, LABELS, names))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16, np.uint8])
def test_arrays_mean_what_tensors_do(kind) -> None:
    plainly = ap.players.segments(PICTURE, LABELS + 1)
    given = (LABELS + 1).numpy().astype(kind)
    assert same(ap.players.segments(PICTURE, given), plainly)
    assert same(
        ap.players.segments(PICTURE, [given == k for k in (0, 4, 8, 10)], plainly.names), plainly
    )
    mirrored = ap.players.segments(PICTURE, given[:, ::-1]).owner[INPUT]
    assert torch.equal(mirrored, plainly.owner[INPUT].flip(-1))


def test_volumes_and_signals_have_segments_too() -> None:
    volume, w = normal(1, 1, 3, 4, 5), normal(1, 3, 4, 5, seed=1)
    labels = torch.randint(4, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    players = ap.players.segments(volume, labels)
    credit = ap.attribute(asking(linear(w), volume, players=players), ap.Gradient())
    shares = (w * volume[0])[0]
    close(credit.scores, torch.stack([shares[labels == k].sum() for k in range(4)]))
    assert players.geometry["segment"].view == "parts"
    stages = ap.players.segments(normal(1, 2, 6), torch.tensor([0, 0, 1, 1, 1, 0]))
    assert stages.n == 2


def test_shares_of_a_constant_credit_are_shares_of_the_volume() -> None:
    """Agg2Exp: mass_k = sum of credit in segment k / sum of all; a constant gives volumes."""
    ones = torch.ones(1, 1, 4, 6).double()
    whole = torch.where(LABELS < 0, 0, LABELS)
    credit = ap.attribute(
        asking(linear(torch.tensor(0.3)), ones, players=ap.players.segments(ones, whole)),
        ap.PathIntegral(steps=1),
    )
    mass = credit.scores / credit.sum()
    volume = torch.stack([(whole == k).double().mean() for k in (0, 3, 7, 9)])
    close(mass, volume)
    close(mass.sum(), torch.tensor(1.0))


def test_supervoxels_of_scikit_image_are_segments() -> None:
    slic = pytest.importorskip("skimage.segmentation").slic
    volume = normal(1, 1, 6, 6, 6)
    found = slic(volume[0, 0].numpy(), n_segments=8, compactness=1.0, channel_axis=None)
    players = ap.players.segments(volume, torch.as_tensor(found))
    assert players.n == len(set(found.flatten().tolist()))


def test_segments_are_drawn_over_the_picture() -> None:
    credit = made.credit(ap.players.segments(PICTURE, torch.arange(24).reshape(4, 6) // 12))
    view = overlay(credit, shape_of(credit), "segments", size=(60.0, 40.0))
    assert [(r.y, r.height) for r in view.regions] == [(0, 20), (20, 20)]


# -- hierarchies


def test_credit_of_an_additive_game_sums_up_a_hierarchy() -> None:
    """Pixels, then segments, then two halves of them: each level is the sum of the one below."""
    w = normal(2, 4, 6, seed=1)
    whole = torch.where(LABELS < 0, 0, LABELS)
    pixels = ap.players.pixels(PICTURE)
    levels = [pixels, pixels.grouped([f"segment {k}" for k in whole.flatten().tolist()])]
    above = {"segment 0": "low", "segment 9": "low", "segment 7": "high", "segment 3": "high"}
    levels.append(levels[1].grouped([above[name] for name in levels[1].names]))
    scores = [ap.attribute(asking(linear(w), PICTURE, players=p), ap.LeaveOneOut()) for p in levels]
    for fine, coarse in pairwise(scores):
        owner = coarse.players.owner[INPUT].flatten()
        below = fine.players.owner[INPUT].flatten()
        parent = {int(b): int(o) for b, o in zip(below, owner, strict=True)}
        summed = torch.zeros(coarse.players.n).double()
        for child, up in parent.items():
            summed[up] += fine.scores[child]
        close(coarse.scores, summed)
    assert levels[2].names == ("high", "low")


def test_grouping_is_merging_by_label() -> None:
    merged = plain(4).grouped(["b", "a", "b", "c"])
    assert same(merged, plain(4).merge([[0, 2], [1], [3]], ["b", "a", "c"]))
    with pytest.raises(ap.BadRequest, match="2 labels for 4 players"):
        plain(4).grouped(["a", "b"])


# -- columns and modalities


def test_columns_of_a_group_act_as_one_and_the_others_alone() -> None:
    names = ["age", "red", "green", "blue", "weight", "height"]
    groups = {"colour": ["red", "green", "blue"], "size": [4, "height"]}
    players = ap.players.column_groups(X, groups, names)
    assert players.names == ("age", "colour", "size")
    assert str(players) == "3 column groups"
    gates = some(3)
    fine = asking(mlp(), players=ap.players.columns(X))
    close(asking(mlp(), players=players).value(gates), fine.value(gates[:, [0, 1, 1, 1, 2, 2]]))
    credit = made.credit(players)
    from apportion.report.case import where

    shown = {bar.name: bar.shown for bar in where(credit).bars.first}
    assert shown["size"] == ", ".join(f"{v:.4g}" for v in X[0, 4:].tolist())


class Fusion(nn.Module):
    """Two inputs, encoded and fused; what the second one says is multiplied by `use`."""

    def __init__(self, use: float) -> None:
        super().__init__()
        self.see, self.read = nn.Linear(6, 4), nn.Embedding(17, 3)
        self.fuse, self.head = nn.Identity(), nn.Linear(7, 2, bias=False)
        self.use = use

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        said = self.use * self.read(ids).mean(1)
        return self.head(self.fuse(torch.cat([self.see(x).tanh(), said], 1)))


@pytest.mark.parametrize("use", [1.0, 0.0])
def test_a_modality_is_all_its_parts_at_once_and_a_useless_one_earns_nothing(use) -> None:
    model = tiny(lambda: Fusion(use))
    text = ap.players.tokens(model, IDS, embedding="read")
    players = ap.players.modalities({"vision": 0, "language": text})
    assert (players.names, players.kinds) == (("vision", "language"),) * 2
    removal = {"vision": ap.Blend(ap.removals.constant(0.5)), "language": ZEROS}
    game = asking(model, (X, IDS), removal, players=players)
    alone = game.value(torch.eye(2, dtype=torch.bool))
    with torch.no_grad():
        close(alone[1], model(torch.full_like(X, 0.5), IDS)[0, 0], atol=1e-12)
        blind = copy.deepcopy(model)
        blind.use = 0.0
        close(alone[0], blind(X, IDS)[0, 0], atol=1e-12)
    credit = ap.attribute(game, ap.PermutationShapley(orders=2))
    assert (abs(credit["language"].score) < 1e-12) == (use == 0.0)
    close(credit.sum(), game.value(torch.tensor([[False] * 2, [True] * 2])).diff()[0])


def test_shares_of_a_linear_fusion_are_weight_times_activation() -> None:
    """MAEA at the fusion layer: credit of a group of its dimensions is the sum of w h there."""
    model = tiny(lambda: Fusion(1.0))
    units = ap.players.neurons(model, "fuse", input=(X, IDS))
    groups = ap.players.modalities(
        {"fused": units.merge([range(4), range(4, 7)], ["vision", "language"])}
    )
    assert groups.n == 1
    two = units.merge([range(4), range(4, 7)], ["vision", "language"])
    credit = ap.attribute(asking(model, (X, IDS), players=two), ap.Gradient())
    with torch.no_grad():
        h = torch.cat([model.see(X).tanh(), model.read(IDS).mean(1)], 1)[0]
        each = model.head.weight[0] * h
    close(credit.scores, torch.stack([each[:4].sum(), each[4:].sum()]), atol=1e-12)


# -- layers


def test_a_model_without_a_layer_is_the_model_whose_block_is_skipped() -> None:
    model = decoder()
    players = ap.players.layers(model)
    assert players.names == ("layer 0", "layer 1")
    values = asking(model, IDS, players=players).value(torch.tensor([[False, True], [True, False]]))
    for gone, value in enumerate(values):
        handle = model.layers[gone].register_forward_hook(lambda m, given, out: given[0])
        with torch.no_grad():
            close(value, model(IDS)["logits"][0, -1, 0], atol=1e-12)
        handle.remove()


def test_layers_own_what_their_heads_and_mlps_own() -> None:
    """The attention has no bias here, so that its heads together are all it adds."""
    model = decoder()
    both = ap.players.heads(model, count=2) | ap.players.mlps(model)
    gates = some(2)
    close(
        asking(model, IDS, players=ap.players.layers(model)).value(gates),
        asking(model, IDS, players=both).value(gates[:, [0, 0, 1, 1, 0, 1]]),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.players.segments(PICTURE, LABELS.double()), r"labels\.long\(\)"),
        (lambda: ap.players.segments(PICTURE, LABELS > 0), "list of boolean masks"),
        (lambda: ap.players.segments(PICTURE, LABELS[:, 1:]), r"such as \(4, 6\)"),
        (lambda: ap.players.segments(PICTURE, torch.tensor(1)), "one label per place"),
        (lambda: ap.players.segments(PICTURE, 0 * LABELS - 1), "no players"),
        (lambda: ap.players.segments(PICTURE, LABELS, ["a"]), "1 names for 3 labels"),
        (
            lambda: ap.players.segments(PICTURE, [LABELS == 3, LABELS == 9, LABELS > 5]),
            r"masks 1 and 2 overlap at 4 places, the first is \(2, 2\).*masks\[2\] & ~masks\[1\]",
        ),
        (lambda: ap.players.segments(PICTURE, [LABELS == 3, LABELS == 8]), "mask 1 is empty"),
        (lambda: ap.players.segments(PICTURE, []), r"labels=\[\]\): there are no masks"),
        (
            lambda: ap.players.segments(PICTURE, [LABELS, LABELS]),
            r"torch\.int64 at 0.*segments\(x, map\)",
        ),
        (lambda: ap.players.segments(PICTURE, LABELS.double().numpy()), r"labels\.astype\(int\)"),
        (lambda: ap.players.segments(PICTURE, LABELS.numpy().astype(str)), "holds <U"),
        (lambda: ap.players.segments(PICTURE, [LABELS > 3, LABELS[0] < 3]), "same places"),
        (lambda: ap.players.column_groups(X, {"a": [0, 6]}), "the column 6; there are 6"),
        (lambda: ap.players.column_groups(X, {"a": ["b"]}), "the column 'b'"),
        (lambda: ap.players.column_groups(X, {"a": [0], "b": [0]}), "is in 'a' and in 'b'"),
        (lambda: ap.players.column_groups(X, {"a": []}), "has no columns"),
        (lambda: ap.players.column_groups(X, {"column 1": [0]}), "rename the group"),
        (lambda: ap.players.column_groups(X, {}), "at least one"),
        (lambda: ap.players.modalities({}), "at least one"),
        (lambda: ap.players.modalities({"a": 0, "b": 0}), "both sets of players own"),
        (lambda: ap.players.layers(cnn()), "no attention output projection"),
    ],
)
def test_requests_that_make_no_players_are_refused_with_a_remedy(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()
