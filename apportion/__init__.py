"""Who gets the credit for what a model did, and can the answer be trusted?

credit = attribute(game, estimator)          game = players + value + removal (+ backward rules), on
a model
"""

from . import backward, evaluate, games, players, removals, report, training, values, zoo
from .attribute import attribute, versions
from .attribution import Attribution, Credit
from .estimators import (
    AddOneIn,
    AveragedGradient,
    Bandwidth,
    Banzhaf,
    CLime,
    Distance,
    ExactShapley,
    GaussianProcessShapley,
    Gradient,
    Hsic,
    KernelShap,
    LeaveOneOut,
    Lime,
    LinearSurrogate,
    Occlusion,
    Owen,
    PathIntegral,
    PermutationShapley,
    Points,
    Quadrature,
    Rise,
    RiseScore,
    Sensitivity,
    Sobol,
    StandardError,
    TopK,
    from_function,
)
from .explanation import Explanation, load
from .games import (
    FunctionGame,
    ImplicitGame,
    ModelGame,
    RefitGame,
    averaged,
    cached,
    chunked,
    continuation,
    picked,
    toy,
)
from .removals import Around, Blend, Jitter
from .subject import Subject
from .taps import Site
from .trust import Check, Plan, Trust, examine
from .types import Axiom, BadRequest, Cost, NotSoft, OverBudget, Work
from .why import why

__version__ = versions()["apportion"]

__all__ = [
    "AddOneIn",
    "Around",
    "Attribution",
    "AveragedGradient",
    "Axiom",
    "BadRequest",
    "Bandwidth",
    "Banzhaf",
    "Blend",
    "CLime",
    "Check",
    "Cost",
    "Credit",
    "Distance",
    "ExactShapley",
    "Explanation",
    "FunctionGame",
    "GaussianProcessShapley",
    "Gradient",
    "Hsic",
    "ImplicitGame",
    "Jitter",
    "KernelShap",
    "LeaveOneOut",
    "Lime",
    "LinearSurrogate",
    "ModelGame",
    "NotSoft",
    "Occlusion",
    "OverBudget",
    "Owen",
    "PathIntegral",
    "PermutationShapley",
    "Plan",
    "Points",
    "Quadrature",
    "RefitGame",
    "Rise",
    "RiseScore",
    "Sensitivity",
    "Site",
    "Sobol",
    "StandardError",
    "Subject",
    "TopK",
    "Trust",
    "Work",
    "attribute",
    "averaged",
    "backward",
    "cached",
    "chunked",
    "continuation",
    "evaluate",
    "examine",
    "from_function",
    "games",
    "load",
    "picked",
    "players",
    "removals",
    "report",
    "toy",
    "training",
    "values",
    "why",
    "zoo",
]
