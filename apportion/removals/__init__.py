"""ABSENCE: removals, and the references that stand in for what is absent. One row per reference."""

from collections.abc import Callable

from .base import ENDLESS as ENDLESS
from .base import Around, Blend, Jitter, Reference, Removal, Within
from .base import blends as blends
from .base import within as within
from .conditional import (
    Conditional,
    Neighbours,
    conditional,
    conditional_mean,
    conditional_neighbours,
)
from .infill import Filling, Infill, causal_infill, masked_infill
from .infill import filling as filling
from .noise import noise, noisy
from .pyramid import Pyramid
from .references import blur, constant, counterfactual, mean, resample, rows, step, zeros

TABLE = {
    "zeros": zeros,
    "constant": constant,
    "mean": mean,
    "blur": blur,
    "rows": rows,
    "resample": resample,
    "counterfactual": counterfactual,
    "noisy": noisy,
    "noise": noise,
    "step": step,
}

# ways to remove: what a reference is put to, and removals that need none
HOW: dict[str, Callable[..., Removal]] = {
    "blend": Blend,
    "jitter": Jitter,
    "around": Around,
    "pyramid": Pyramid,
    "conditional-mean": conditional_mean,
    "conditional": conditional,
    "conditional-neighbours": conditional_neighbours,
    "masked-infill": masked_infill,
    "causal-infill": causal_infill,
}

__all__ = [
    "HOW",
    "TABLE",
    "Around",
    "Blend",
    "Jitter",
    "Reference",
    "Removal",
    "Within",
    "blur",
    "constant",
    "counterfactual",
]
__all__ += [
    "Conditional",
    "Filling",
    "Infill",
    "Neighbours",
    "Pyramid",
    "causal_infill",
    "conditional",
]
__all__ += ["conditional_mean", "conditional_neighbours", "masked_infill", "mean", "noise", "noisy"]
__all__ += ["resample", "rows", "step", "zeros"]
