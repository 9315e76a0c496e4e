"""RESPONSES: what rules are to a network, a response is to retraining. One method per file."""

from .arnoldi import Arnoldi
from .base import Response
from .cg import CG
from .damping import by_training
from .dense import Dense
from .grad_dot import GradDot
from .influence import Influence, Solver
from .kronecker import EKFac, KFac
from .lissa import LiSSA
from .neighbours import KnnShapley, Neighbours
from .source import Source
from .tracin import TracIn
from .trak import TRAK
from .unrolled import Unrolled, smoothness

__all__ = [
    "SOLVERS",
    "TABLE",
    "Arnoldi",
    "CG",
    "Dense",
    "EKFac",
    "GradDot",
    "Influence",
    "KFac",
    "KnnShapley",
    "LiSSA",
    "Neighbours",
    "Response",
    "Solver",
    "TRAK",
    "Source",
    "TracIn",
    "Unrolled",
    "by_training",
    "smoothness",
]

TABLE: dict[str, type[Response]] = {
    # by similarity of gradients
    "grad-dot": GradDot,
    "tracin": TracIn,
    # by activations
    "neighbours": Neighbours,
    "knn-shapley": KnnShapley,
    # by the curvature at the end
    "influence": Influence,
    "trak": TRAK,
    # through the training
    "source": Source,
    "unrolled": Unrolled,
}

# how `Influence` inverts the curvature
SOLVERS: dict[str, type[Solver]] = {
    "dense": Dense,
    "ekfac": EKFac,
    "kfac": KFac,
    "cg": CG,
    "lissa": LiSSA,
    "arnoldi": Arnoldi,
}
