"""RESPONSES: what rules are to a network, a response is to retraining. One method per file."""

from .arnoldi import Arnoldi
from .base import Response
from .cg import CG
from .damping import by_training
from .dense import Dense
from .grad_dot import GradDot
from .influence import Influence, Solver
from .lissa import LiSSA
from .source import Source
from .tracin import TracIn
from .unrolled import Unrolled, smoothness

__all__ = [
    "Arnoldi",
    "CG",
    "Dense",
    "GradDot",
    "Influence",
    "LiSSA",
    "Response",
    "Solver",
    "Source",
    "TracIn",
    "Unrolled",
    "by_training",
    "smoothness",
]
