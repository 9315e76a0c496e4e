"""Methods that credit layers, parts, training rows, sets and pairs."""

from __future__ import annotations

from .. import backward
from ..backward import response
from ..estimators import (
    BanzhafInteractions,
    FaithfulShapley,
    Gradient,
    JointShapley,
    LeaveOneOut,
    LinearSurrogate,
    NShapley,
    PathIntegral,
    PermutationShapley,
    ShapleyInteractions,
    ShapleyTaylor,
)
from .base import CELLS, Composition

SIDES = (
    "sides = [\n"
    "    ap.ModelGame(\n"
    "        model, one, ap.values.Embedding(), ap.players.columns(one),\n"
    "        ap.Blend(ap.removals.zeros()),\n"
    "    )\n"
    "    for one in (x, other)\n"
    "]\n"
)

FAMILIES: dict[str, dict[str, Composition]] = {
    "class activation maps": {
        "hirescam": Composition(
            "activation × gradient at a position of a layer", Gradient(),
            players=CELLS, given=("layer",), cites=("draelos2020",),
        ),
        "grad-cam": Composition(
            "activation × mean gradient of its channel, at a position of a layer", Gradient(),
            players=CELLS, rules=backward.GRAD_CAM, given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
        "grad-cam++": Composition(
            "activation × weighted positive gradients of its channel", Gradient(),
            players=CELLS, rules=backward.GRAD_CAM_PLUS_PLUS,
            given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
        "layercam": Composition(
            "activation × positive gradient at a position of a layer", Gradient(),
            players=CELLS, rules=backward.LAYER_CAM, given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
    },
    "class activation maps without gradients": {
        "ablation-cam": Composition(
            "activation × what its channel is worth, at a position of a layer", LeaveOneOut(),
            players="channels(model, layer, input=x)", given=("layer",), cites=("desai2020",),
            then=f"credit = ap.maps.activation_map(credit, game, ap.players.{CELLS})",
            kept="nothing", differs="not divided by v(all); signed",
        ),
        "score-cam": Composition(
            "activation × value seen through its channel, at a position of a layer",
            LeaveOneOut(), given=("layer",), cites=("wang2020",), kept="nothing",
            lines="zeros = ap.Blend(ap.removals.zeros())\n"
            "channels = ap.players.channels(model, layer, input=x)\n"
            "inside = ap.ModelGame(model, x, value, channels, zeros)\n"
            "game = ap.ModelGame(model, x, value, ap.players.pixels(x), zeros)\n"
            "shown = ap.attribute(game, ap.maps.seen_through(inside))\n"
            f"credit = ap.maps.activation_map(shown, inside, ap.players.{CELLS})",
            differs="no softmax over channels; signed; one soft evaluation for each channel",
        ),
    },
    "parts of the model": {
        "activation-patching": Composition(
            "fall of the value when a head does what it does on another prompt", LeaveOneOut(),
            players="heads(model)", removal="Blend(removals.counterfactual(other))",
            given=("other",),
        ),
        "attribution-patching": Composition(
            "the same to first order, for all heads at once", Gradient(),
            players="heads(model)", removal="Blend(removals.counterfactual(other))",
            given=("other",),
        ),
        "head-ablation": Composition(
            "fall of the value without a head", LeaveOneOut(), players="heads(model)"
        ),
        "layer-integrated-gradients": Composition(
            "share of the value collected while a layer's activation rises from 0",
            PathIntegral(), players="channels(model, layer, input=x)", given=("layer",),
        ),
    },
    "training examples": {
        "influence-functions": Composition(
            "first-order change of a query's value when a training row gains weight", Gradient(),
            game="ap.ImplicitGame(ap.RefitGame(run, queries), ap.backward.response.Influence())",
            given=("run", "queries"), cites=response.Influence().cites,
        ),
        "trak": Composition(
            "the same through projected gradients", Gradient(),
            game="ap.ImplicitGame(ap.RefitGame(run, queries), ap.backward.response.TRAK())",
            given=("run", "queries"), cites=response.TRAK().cites,
        ),
        "tracin": Composition(
            "agreement of gradients along the training", Gradient(),
            game="ap.ImplicitGame(ap.RefitGame(run, queries), ap.backward.response.TracIn())",
            given=("run", "queries"), cites=response.TracIn().cites,
        ),
        "datamodels": Composition(
            "slope of a query's value in the rows trained on, over random halves",
            LinearSurrogate(samples=512), game="ap.RefitGame(run, queries)",
            given=("run", "queries"), cites=("ilyas2022",),
        ),
        "data-shapley": Composition(
            "Shapley value of a training row for a query", PermutationShapley(orders=32),
            game="ap.RefitGame(run, queries)", given=("run", "queries"),
        ),
    },
    "interactions": {
        "shapley-interaction-index": Composition(
            "what two players add together beyond each alone, averaged over who else is there",
            ShapleyInteractions(), players="columns(x)",
        ),
        "banzhaf-interaction-index": Composition(
            "what two players add together beyond each alone, over all coalitions alike",
            BanzhafInteractions(), players="columns(x)",
        ),
        "n-shapley-values": Composition(
            "Shapley values split into terms of single players and pairs", NShapley(),
            players="columns(x)",
        ),
        "shapley-taylor": Composition(
            "terms of players and pairs that add up", ShapleyTaylor(), players="columns(x)"
        ),
        "faithful-shapley": Composition(
            "terms of players and pairs that fit the value best", FaithfulShapley(),
            players="columns(x)",
        ),
        "joint-shapley": Composition(
            "what a set of players adds when it arrives together", JointShapley(),
            players="columns(x)",
        ),
    },
    "pairs across two inputs": {
        "integrated-jacobians": Composition(
            "share of the similarity of x and another input, of a player of each",
            PathIntegral(), given=("other",), cites=("moeller2023", "moeller2024"),
            lines=SIDES
            + "credit = ap.pairs(*(ap.attribute(side, ap.PathIntegral()) for side in sides))",
            kept="to sum to the change of the similarity",
        ),
        "bilrp": Composition(
            "relevance of a pair of players for the similarity of two inputs", Gradient(),
            given=("other",), cites=("eberle2020",),
            lines=SIDES + "bent = [side.under(ap.backward.epsilon(1e-6)) for side in sides]\n"
            "credit = ap.pairs(*(ap.attribute(side, ap.Gradient()) for side in bent))",
            kept="to sum to the similarity, where there are no biases",
        ),
    },
}  # fmt: skip
