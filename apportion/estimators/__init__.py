"""HOW credit is computed: the table. One method per file, one row each."""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Generator

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, Cost
from ._lift import from_function
from ._moments import StandardError, TopK, Until
from ._points import Points
from ._quadrature import Quadrature
from .add_one_in import AddOneIn
from .averaged_gradient import AveragedGradient
from .banzhaf import Banzhaf
from .c_lime import CLime
from .exact_shapley import ExactShapley
from .gaussian_process_shapley import GaussianProcessShapley
from .gradient import Gradient
from .hsic import Bandwidth, Hsic
from .kernel_shap import KernelShap
from .leave_one_out import LeaveOneOut
from .lime import Distance, Lime
from .linear_surrogate import LinearSurrogate
from .occlusion import Occlusion
from .owen import Owen
from .path_integral import PathIntegral
from .permutation_shapley import PermutationShapley
from .rise import Rise, RiseScore
from .sobol import Sensitivity, Sobol


@runtime_checkable
class Estimator(Protocol):
    """A frozen, keyword-only dataclass: options are fields, `cost` is known before the run."""

    needs: ClassVar[Need]
    axioms: ClassVar[frozenset[Axiom]]
    cites: ClassVar[tuple[str, ...]]
    # True: chooses draws of a stochastic game itself; False: gets their average
    own_draws: ClassVar[bool]

    def cost(self, n: int) -> Cost:
        """Upper bound in gate rows for n players."""

    def __call__(self, game: Game, rng: Generator) -> Attribution: ...


TABLE: dict[str, type[Estimator]] = {
    # by leaving players out
    "leave-one-out": LeaveOneOut,
    "add-one-in": AddOneIn,
    "occlusion": Occlusion,
    # Shapley values, and other mean gains
    "exact-shapley": ExactShapley,
    "permutation-shapley": PermutationShapley,
    "kernel-shap": KernelShap,
    "owen": Owen,
    "banzhaf": Banzhaf,
    "gaussian-process-shapley": GaussianProcessShapley,
    # fits and averages over random coalitions
    "linear-surrogate": LinearSurrogate,
    "lime": Lime,
    "c-lime": CLime,
    "rise": Rise,
    # dependence of the value on a player
    "sobol": Sobol,
    "hsic": Hsic,
    # by derivatives
    "gradient": Gradient,
    "averaged-gradient": AveragedGradient,
    "path-integral": PathIntegral,
}

__all__ = [
    "TABLE",
    "AddOneIn",
    "AveragedGradient",
    "Bandwidth",
    "Banzhaf",
    "CLime",
    "Distance",
    "Estimator",
    "ExactShapley",
    "GaussianProcessShapley",
    "Gradient",
    "Hsic",
    "KernelShap",
    "LeaveOneOut",
    "Lime",
]
__all__ += [
    "LinearSurrogate",
    "Occlusion",
    "Owen",
    "PathIntegral",
    "PermutationShapley",
    "Points",
    "Quadrature",
    "Rise",
    "RiseScore",
    "Sensitivity",
    "Sobol",
    "StandardError",
    "TopK",
    "Until",
    "from_function",
]
