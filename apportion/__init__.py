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
    Banzhaf,
    ExactShapley,
    Gradient,
    KernelShap,
    LeaveOneOut,
    LinearSurrogate,
    Occlusion,
    PathIntegral,
    PermutationShapley,
    Quadrature,
    Rise,
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
from .removals import Blend, Jitter
from .subject import Subject
from .taps import Site
from .trust import Check, Plan, Trust, examine
from .types import Axiom, BadRequest, Cost, NotSoft, OverBudget, Work
from .why import why

__version__ = versions()["apportion"]

__all__ = [
    "AddOneIn",
    "Attribution",
    "AveragedGradient",
    "Axiom",
    "BadRequest",
    "Banzhaf",
    "Blend",
    "Check",
    "Cost",
    "Credit",
    "ExactShapley",
    "Explanation",
    "FunctionGame",
    "Gradient",
    "ImplicitGame",
    "Jitter",
    "KernelShap",
    "LeaveOneOut",
    "LinearSurrogate",
    "ModelGame",
    "NotSoft",
    "Occlusion",
    "OverBudget",
    "PathIntegral",
    "PermutationShapley",
    "Plan",
    "Quadrature",
    "RefitGame",
    "Rise",
    "Site",
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
