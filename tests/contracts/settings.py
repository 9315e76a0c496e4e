"""Settings at which every row of the table of estimators can be run on games of up to ten
players.
"""

from __future__ import annotations

import dataclasses

import apportion as ap
from apportion.estimators import Estimator, SetEstimator

SMALL: dict[str, Estimator] = {
    "leave-one-out": ap.LeaveOneOut(),
    "add-one-in": ap.AddOneIn(),
    "occlusion": ap.Occlusion(window=2),
    "exact-shapley": ap.ExactShapley(),
    "permutation-shapley": ap.PermutationShapley(orders=6),
    "kernel-shap": ap.KernelShap(samples=40),
    "control-variate-shapley": ap.ControlVariateShapley(samples=40),
    "owen": ap.Owen(orders=6),
    "banzhaf": ap.Banzhaf(samples=40),
    "gaussian-process-shapley": ap.GaussianProcessShapley(samples=40),
    "linear-surrogate": ap.LinearSurrogate(samples=60),
    "lime": ap.Lime(samples=60),
    "c-lime": ap.CLime(samples=40),
    "sobol": ap.Sobol(samples=8, designs=3),
    "hsic": ap.Hsic(samples=30),
    "rise": ap.Rise(samples=50),
    "gradient": ap.Gradient(),
    "averaged-gradient": ap.AveragedGradient(samples=30, start=0.0),
    "gradient-moment": ap.GradientMoment(samples=30, start=0.0),
    "path-integral": ap.PathIntegral(steps=8),
    "greedy-path": ap.GreedyPath(),
}
# of sets of players, sampling on games of seven
SMALL_SETS: dict[str, SetEstimator] = {
    "second-difference": ap.SecondDifference(),
    "shapley-interactions": ap.ShapleyInteractions(samples=100),
    "banzhaf-interactions": ap.BanzhafInteractions(samples=100),
    "n-shapley": ap.NShapley(samples=100),
    "shapley-taylor": ap.ShapleyTaylor(samples=100),
    "faithful-shapley": ap.FaithfulShapley(samples=100),
    "faithful-banzhaf": ap.FaithfulBanzhaf(samples=100),
    "joint-shapley": ap.JointShapley(samples=100),
}
# their answer does not depend on the seed
DETERMINISTIC = (
    ap.LeaveOneOut, ap.AddOneIn, ap.Occlusion, ap.ExactShapley, ap.Gradient, ap.PathIntegral,
    ap.GreedyPath,
)  # fmt: skip
# they read the grid that the players fill
ON_A_GRID = (ap.Occlusion,)
# they walk a path of their own for every output, so they are asked for one at a time
ONE_OUTPUT = (ap.GreedyPath,)


def fixed_cost(estimator: Estimator) -> Estimator:
    """The same estimator without options that stop early, so that `cost` is what it spends."""
    if isinstance(estimator, ap.PathIntegral):
        return dataclasses.replace(estimator, tolerance=None)
    if isinstance(estimator, ap.Occlusion):  # how many windows there are depends on the grid
        return dataclasses.replace(estimator, window=1)
    return estimator
