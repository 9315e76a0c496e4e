"""HOW credit is computed: the table. One method per file, one row each."""

from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor

from ..attribution import Attribution, Provenance
from ..games.base import Game, Need
from ..interactions import Interactions
from ..types import Axiom, Cost
from ._designs import Sizes
from ._lift import from_function
from ._moments import StandardError, TopK, Until
from ._orders import Orders
from ._points import Points
from ._quadrature import Quadrature
from .add_one_in import AddOneIn
from .averaged_gradient import AveragedGradient
from .banzhaf import Banzhaf
from .banzhaf_interactions import BanzhafInteractions
from .c_lime import CLime
from .control_variate_shapley import ControlVariateShapley, Proposal
from .exact_shapley import ExactShapley
from .faithful_banzhaf import FaithfulBanzhaf
from .faithful_shapley import FaithfulShapley
from .gaussian_process_shapley import GaussianProcessShapley
from .gradient import Gradient
from .gradient_moment import GradientMoment, Moment
from .greedy_path import Direction, GreedyPath
from .hsic import Bandwidth, Hsic
from .joint_shapley import JointShapley
from .kernel_shap import KernelShap
from .leave_one_out import LeaveOneOut
from .lime import Distance, Lime
from .linear_surrogate import LinearSurrogate
from .n_shapley import NShapley
from .occlusion import Occlusion
from .owen import Owen
from .path_integral import PathIntegral
from .permutation_shapley import PermutationShapley
from .rise import Rise, RiseScore
from .second_difference import Among, SecondDifference
from .shapley_interactions import ShapleyInteractions
from .shapley_taylor import ShapleyTaylor
from .sobol import Sensitivity, Sobol

R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class Result(Protocol):
    """What `attribute` has to know of an answer, of single players or of sets."""

    @property
    def scores(self) -> Tensor:
        """(*out, player), or (*out, set)."""

    @property
    def provenance(self) -> Provenance: ...

    def stamped(self, cost: Cost, provenance: Provenance) -> Any:
        """The same answer, of the same type, with what it cost and where it came from."""


@runtime_checkable
class Method(Protocol[R_co]):
    """A frozen, keyword-only dataclass: options are fields, `cost` is known before the run."""

    needs: ClassVar[Need]
    axioms: ClassVar[frozenset[Axiom]]
    cites: ClassVar[tuple[str, ...]]
    # True: chooses draws of a stochastic game itself; False: gets their average
    own_draws: ClassVar[bool]

    def cost(self, n: int) -> Cost:
        """Upper bound in gate rows for n players."""

    def __call__(self, game: Game, rng: Generator) -> R_co: ...


@runtime_checkable
class Estimator(Method[Attribution], Protocol):
    """A method that credits single players."""


@runtime_checkable
class SetEstimator(Method[Interactions], Protocol):
    """A method that scores sets of players."""


TABLE: dict[str, type[Estimator]] = {
    # by leaving players out
    "leave-one-out": LeaveOneOut,
    "add-one-in": AddOneIn,
    "occlusion": Occlusion,
    # Shapley values, and other mean gains
    "exact-shapley": ExactShapley,
    "permutation-shapley": PermutationShapley,
    "kernel-shap": KernelShap,
    "control-variate-shapley": ControlVariateShapley,
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
    "gradient-moment": GradientMoment,
    "path-integral": PathIntegral,
    "greedy-path": GreedyPath,
}

# scores of sets of players
INTERACTIONS: dict[str, type[SetEstimator]] = {
    # at one place
    "second-difference": SecondDifference,
    # averaged over who else is there
    "shapley-interactions": ShapleyInteractions,
    "banzhaf-interactions": BanzhafInteractions,
    # terms that add up, or fit best
    "n-shapley": NShapley,
    "shapley-taylor": ShapleyTaylor,
    "faithful-shapley": FaithfulShapley,
    "faithful-banzhaf": FaithfulBanzhaf,
    # of sets as a whole
    "joint-shapley": JointShapley,
}

__all__ = [
    "INTERACTIONS",
    "TABLE",
    "AddOneIn",
    "Among",
    "AveragedGradient",
    "Bandwidth",
    "Banzhaf",
    "BanzhafInteractions",
    "CLime",
    "ControlVariateShapley",
    "Direction",
    "Distance",
    "Estimator",
    "ExactShapley",
    "FaithfulBanzhaf",
    "FaithfulShapley",
    "GaussianProcessShapley",
    "Gradient",
    "GradientMoment",
    "GreedyPath",
    "Hsic",
    "JointShapley",
    "KernelShap",
    "LeaveOneOut",
    "Lime",
    "Method",
    "NShapley",
]
__all__ += [
    "LinearSurrogate",
    "Moment",
    "Occlusion",
    "Orders",
    "Owen",
    "PathIntegral",
    "PermutationShapley",
    "Points",
    "Proposal",
    "Quadrature",
    "Result",
    "Rise",
    "RiseScore",
    "SecondDifference",
    "Sensitivity",
    "SetEstimator",
    "ShapleyInteractions",
    "ShapleyTaylor",
    "Sizes",
    "Sobol",
    "StandardError",
    "TopK",
    "Until",
    "from_function",
]
