"""Settings at which every row of the table of estimators can be run on games of up to ten
players.
"""

from __future__ import annotations

import dataclasses

import apportion as ap
from apportion.estimators import Estimator

SMALL: dict[str, Estimator] = {
    "leave-one-out": ap.LeaveOneOut(),
    "permutation-shapley": ap.PermutationShapley(orders=6),
    "kernel-shap": ap.KernelShap(samples=40),
    "linear-surrogate": ap.LinearSurrogate(samples=60),
    "rise": ap.Rise(samples=50),
    "gradient": ap.Gradient(),
    "averaged-gradient": ap.AveragedGradient(samples=30, start=0.0),
    "path-integral": ap.PathIntegral(steps=8),
}
# their answer does not depend on the seed
DETERMINISTIC = (ap.LeaveOneOut, ap.Gradient, ap.PathIntegral)


def fixed_cost(estimator: Estimator) -> Estimator:
    """The same estimator without options that stop early, so that `cost` is what it spends."""
    if isinstance(estimator, ap.PathIntegral):
        return dataclasses.replace(estimator, tolerance=None)
    return estimator
