"""Methods that credit players of the input."""

from __future__ import annotations

from .. import backward
from ..estimators import (
    AddOneIn,
    AveragedGradient,
    Banzhaf,
    CLime,
    ControlVariateShapley,
    ExactShapley,
    GaussianProcessShapley,
    Gradient,
    GradientMoment,
    GreedyPath,
    Hsic,
    KernelShap,
    LeaveOneOut,
    Lime,
    LinearSurrogate,
    Moment,
    Occlusion,
    Owen,
    PathIntegral,
    PermutationShapley,
    Proposal,
    Rise,
    Sizes,
    Sobol,
)
from .base import GRID, ROWS, UNIT, Composition

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
        "greedy-path": Composition(
            "share of v(x) - v(reference), on a way that moves the largest gains first",
            GreedyPath(), players=GRID,
            differs="the greedy rule is this library's; see its page",
        ),
        "cross-domain-integrated-gradients": Composition(
            "share of v(x) - v(silence) that comes through a frequency",
            PathIntegral(), players="frequencies(x)", cites=("kechris2025",),
        ),
    },
    "derivatives, further": {
        "vargrad": Composition(
            "variance of the derivative over noisy copies of the input", GradientMoment(),
            removal=f"Jitter({UNIT}, sigma)", given=("sigma",), cites=("adebayo2018b",),
        ),
        "smoothgrad-squared": Composition(
            "mean squared derivative over noisy copies of the input",
            GradientMoment(moment=Moment.SQUARE), removal=f"Jitter({UNIT}, sigma)",
            given=("sigma",), cites=("hooker2019",),
        ),
        "blur-integrated-gradients": Composition(
            "share of v(x) - v(blurred x) collected while the picture grows sharp",
            PathIntegral(), removal="removals.Pyramid(8.0)", cites=("xu2020",),
            differs="between a few levels of blur the way is straight",
        ),
        "deeplift": Composition(
            "share of v(x) - v(reference), by slopes between the two runs (rescale rule)",
            Gradient(), rules=backward.DEEPLIFT, kept="to sum to v(all) - v(none)",
        ),
        "deep-shap": Composition(
            "the same, averaged over background rows", Gradient(), players="columns(x)",
            removal=ROWS, rules=backward.DEEPLIFT, given=("background",),
            kept="to sum to v(all) - E v(none)",
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
        "lrp-epsilon-plus": Composition(
            "relevance: z+ in convolutions, epsilon in linear layers", Gradient(),
            rules=backward.epsilon_plus(),
        ),
        "lrp-epsilon-plus-flat": Composition(
            "the same, spread evenly by the first layer", Gradient(),
            rules=backward.epsilon_plus_flat(),
        ),
        "lrp-epsilon-alpha2-beta1": Composition(
            "relevance: alpha-beta in convolutions, epsilon in linear layers", Gradient(),
            rules=backward.epsilon_alpha2_beta1(),
        ),
        "lrp-epsilon-gamma-box": Composition(
            "relevance: gamma in convolutions, epsilon in linear layers, a box in the first",
            Gradient(), rules=backward.epsilon_gamma_box(),
            differs="the box is that of inputs of about unit variance, from -3 to 3",
        ),
        "dynamic-lrp": Composition(
            "relevance, with local rules for operations that have none", Gradient(),
            rules=backward.DYNAMIC_LRP, differs="signed sums, as everywhere in this library",
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
        "gaussian-process-shapley": Composition(
            "Shapley value of a fitted surrogate of the value", GaussianProcessShapley(),
            players=GRID,
        ),
        "leverage-shap": Composition(
            "Shapley value, by regression on coalitions of all sizes alike",
            KernelShap(sizes=Sizes.LEVERAGE), players=GRID, cites=("musco2025",),
        ),
        "complementary-contributions": Composition(
            "Shapley value, by what coalitions have over their complements",
            ControlVariateShapley(proposal=Proposal.NONE), players=GRID, cites=("zhang2023",),
            differs="every size is asked as often; sizes are not weighed by their spread",
        ),
        "linear-msr": Composition(
            "Shapley value of a linear fit, corrected without bias",
            ControlVariateShapley(proposal=Proposal.LINEAR), players=GRID, cites=("witter2025",),
            differs="in strata without replacement, and in five folds",
        ),
        "exact-shapley": Composition(
            "Shapley value, from all coalitions", ExactShapley(), players="columns(x)"
        ),
        "interventional-shap": Composition(
            "Shapley value, absent columns from background rows", KernelShap(),
            players="columns(x)", removal=ROWS, given=("background",),
        ),
        "conditional-shap": Composition(
            "Shapley value, absent columns as the present ones foretell them", KernelShap(),
            players="columns(x)", removal="removals.conditional_mean(background)",
            given=("background",), cites=("chen2020", "lundberg2017"),
            differs="Gaussian; the conditional mean is put in, not averaged over",
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
}  # fmt: skip
