"""Methods by the names their users know, as compositions: players × value × removal × estimator.

Every row is code that runs as it stands once `model`, an input `x`, a `value` and what else it
names are given; `apportion methods NAME` prints it.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, dataclass, fields
from typing import Any

from . import backward
from .backward import Rules, response
from .estimators import (
    AddOneIn,
    AveragedGradient,
    Banzhaf,
    CLime,
    ExactShapley,
    Gradient,
    Hsic,
    KernelShap,
    LeaveOneOut,
    Lime,
    LinearSurrogate,
    Method,
    NShapley,
    Occlusion,
    Owen,
    PathIntegral,
    PermutationShapley,
    Rise,
    ShapleyInteractions,
    ShapleyTaylor,
    Sobol,
)
from .types import BadRequest


@dataclass(frozen=True)
class Composition:
    """One method of the literature as choices of this library."""

    means: str  # what its number says of a player
    estimator: Method[Any]
    players: str = "pixels(x)"
    removal: str = "Blend(removals.zeros())"
    rules: Rules | None = None
    game: str = ""  # how the game is built, where it is not a ModelGame of these players
    given: tuple[str, ...] = ()  # what the code needs besides model, x and value
    cites: tuple[str, ...] = ()  # besides those of the rules; none = those of the estimator
    differs: str = ""  # from what other libraries call so

    @property
    def works(self) -> tuple[str, ...]:
        """Keys of the works to cite: those of the composition, else those of its estimator."""
        rules = () if self.rules is None else self.rules.cites
        return tuple(dict.fromkeys((*self.cites, *rules))) or self.estimator.cites

    @property
    def promises(self) -> str:
        """What holds of the numbers; a bent derivative keeps no promise of its estimator."""
        if self.rules is None:
            return ", ".join(sorted(axiom.value for axiom in self.estimator.axioms)) or "nothing"
        if self.rules.conserves:
            return "to sum to a value linear in the logits, where there are no biases"
        return "nothing, as derivatives are bent"

    @property
    def code(self) -> str:
        """Two lines of Python."""
        removal = self.removal
        for name in ("removals.", "Blend(", "Jitter("):
            removal = removal.replace(name, f"ap.{name}")
        under = "" if self.rules is None else f".under(ap.backward.{self.rules})"
        built = self.game or (
            f"ap.ModelGame(model, x, value, ap.players.{self.players}, {removal})"
        )
        return f"game = {built}\ncredit = ap.attribute(game{under}, {written(self.estimator)})"


def written(estimator: Method[Any]) -> str:
    """An estimator as one writes it: options at their defaults are left out."""
    kind: Any = type(estimator)
    given = [(f.name, vars(estimator)[f.name], f.default) for f in fields(kind)]
    changed = [f"{name}={v!r}" for name, v, default in given if default is MISSING or v != default]
    return f"ap.{kind.__name__}({', '.join(changed)})"


UNIT = "Blend(removals.step(1.0))"
ROWS = "Blend(removals.rows(background))"
GRID = "patches(x, 32)"

FAMILIES: dict[str, dict[str, Composition]] = {
    "derivatives by the input": {
        "saliency": Composition(
            "derivative of the value by a pixel", Gradient(), removal=UNIT,
            cites=("simonyan2014",),
            differs="signed, and summed over channels; elsewhere often absolute",
        ),
        "input-x-gradient": Composition(
            "what the linear part of the model at x makes of a pixel", Gradient(),
            cites=("shrikumar2017",),
        ),
        "integrated-gradients": Composition(
            "share of v(x) - v(reference) collected on the straight way between them",
            PathIntegral(),
        ),
        "smoothgrad": Composition(
            "mean derivative over noisy copies of the input", AveragedGradient(),
            removal=f"Jitter({UNIT}, sigma)", given=("sigma",),
            cites=("smilkov2017",),
        ),
        "expected-gradients": Composition(
            "share of v(x) - E v(background), over background rows and the way from them",
            AveragedGradient(start=0.0), removal=ROWS, given=("background",),
            cites=("erion2021",), differs="GradientSHAP of captum and shap, without added noise",
        ),
        "cross-domain-integrated-gradients": Composition(
            "share of v(x) - v(silence) that comes through a frequency",
            PathIntegral(), players="frequencies(x)", cites=("kechris2025",),
        ),
    },
    "bent derivatives": {
        "guided-backpropagation": Composition(
            "derivative where negative gradients stop at every ReLU", Gradient(), removal=UNIT,
            rules=backward.GUIDED,
        ),
        "deconvolution": Composition(
            "derivative where only negative gradients stop, at every ReLU", Gradient(),
            removal=UNIT, rules=backward.DECONVNET,
        ),
        "lrp-epsilon": Composition(
            "relevance that reaches a pixel", Gradient(), rules=backward.epsilon(1e-6)
        ),
        "lrp-gamma": Composition(
            "relevance, positive contributions favoured", Gradient(), rules=backward.gamma(0.25)
        ),
        "lrp-z-plus": Composition(
            "relevance along positive contributions alone", Gradient(), rules=backward.z_plus()
        ),
        "lrp-alpha-beta": Composition(
            "relevance, positive and negative contributions apart", Gradient(),
            rules=backward.alpha_beta(2.0, 1.0),
        ),
        "cp-lrp": Composition(
            "relevance of a token; sums to the logit where there are no biases", Gradient(),
            players="tokens(model, x)", rules=backward.CP_LRP,
        ),
        "attn-lrp": Composition(
            "relevance of a token, through queries and keys as well", Gradient(),
            players="tokens(model, x)", rules=backward.ATTN_LRP,
        ),
        "gim": Composition(
            "gradient × change of a token, without softmax saturation", Gradient(),
            players="tokens(model, x)", rules=backward.GIM,
        ),
    },
    "class activation maps": {
        "hirescam": Composition(
            "activation × gradient at a position of a layer", Gradient(),
            players="cells(model, layer, input=x)", given=("layer",), cites=("draelos2020",),
        ),
        "grad-cam": Composition(
            "activation × mean gradient of its channel, at a position of a layer", Gradient(),
            players="cells(model, layer, input=x)", rules=backward.GRAD_CAM, given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
        "grad-cam++": Composition(
            "activation × weighted positive gradients of its channel", Gradient(),
            players="cells(model, layer, input=x)", rules=backward.GRAD_CAM_PLUS_PLUS,
            given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
        "layercam": Composition(
            "activation × positive gradient at a position of a layer", Gradient(),
            players="cells(model, layer, input=x)", rules=backward.LAYER_CAM, given=("layer",),
            differs="signed: the final ReLU is for display",
        ),
    },
    "leaving out": {
        "feature-ablation": Composition(
            "fall of the value without the player", LeaveOneOut(), players=GRID
        ),
        "occlusion": Composition(
            "mean fall of the value over the windows that hide the player",
            Occlusion(window=2, stride=1), players=GRID,
        ),
        "add-one-in": Composition(
            "rise of the value from the player alone", AddOneIn(), players=GRID
        ),
        "permutation-importance": Composition(
            "fall of the value when a column comes from other rows", LeaveOneOut(),
            players="columns(x)", removal=ROWS, given=("background",),
            differs="of one prediction; elsewhere of a score over a data set",
        ),
    },
    "Shapley values": {
        "shapley-value-sampling": Composition(
            "Shapley value, by orders of arrival", PermutationShapley(), players=GRID
        ),
        "kernel-shap": Composition(
            "Shapley value, by weighted regression", KernelShap(), players=GRID
        ),
        "exact-shapley": Composition(
            "Shapley value, from all coalitions", ExactShapley(), players="columns(x)"
        ),
        "interventional-shap": Composition(
            "Shapley value, absent columns from background rows", KernelShap(),
            players="columns(x)", removal=ROWS, given=("background",),
        ),
        "banzhaf-value": Composition("mean gain over all coalitions", Banzhaf(), players=GRID),
        "owen-value": Composition(
            "Shapley value of players in groups", Owen(groups=((0, 1), (2, 3), (4, 5))),
            players="columns(x)",
        ),
    },
    "fits and masks": {
        "lime": Composition(
            "slope of a linear fit near the whole input", Lime(), players="superpixels(x, 40)"
        ),
        "c-lime": Composition(
            "slope of a linear fit to Gaussian changes of the input", CLime(),
            players="columns(x)", removal="removals.Around(8.0)",
        ),
        "linear-datamodel": Composition(
            "slope of a linear fit over random halves", LinearSurrogate(), players=GRID
        ),
        "rise": Composition("mean value where the player is visible", Rise(), players=GRID),
        "sobol-attribution": Composition(
            "share of the value's variance that a player takes part in", Sobol(), players=GRID
        ),
        "hsic-attribution": Composition(
            "dependence of the value on a player's presence", Hsic(), players=GRID
        ),
        "wcam": Composition(
            "share of the value's variance that a wavelet cell takes part in", Sobol(),
            players="wavelets(x)", cites=("kasmi2023",),
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
        "n-shapley-values": Composition(
            "Shapley values split into terms of single players and pairs", NShapley(),
            players="columns(x)",
        ),
        "shapley-taylor": Composition(
            "terms of players and pairs that add up", ShapleyTaylor(), players="columns(x)"
        ),
    },
}  # fmt: skip

BY_NAME: dict[str, Composition] = {
    name: row for rows in FAMILIES.values() for name, row in rows.items()
}


def composition(name: str) -> Composition:
    """The composition known by a name; unknown ones are refused with the nearest."""
    if name not in BY_NAME:
        near = difflib.get_close_matches(name.lower(), BY_NAME, n=4, cutoff=0.3)
        raise BadRequest(
            f"no method is called {name!r}; the nearest are {', '.join(near or list(BY_NAME)[:4])}."
            " List all with: apportion methods"
        )
    return BY_NAME[name]
