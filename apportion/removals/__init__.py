"""ABSENCE: removals, and the references that stand in for what is absent. One row per reference."""

from .base import Around, Blend, Jitter, Reference, Removal, Within
from .base import blends as blends
from .base import within as within
from .references import blur, constant, counterfactual, mean, resample, rows, step, zeros

TABLE = {
    "zeros": zeros,
    "constant": constant,
    "mean": mean,
    "blur": blur,
    "rows": rows,
    "resample": resample,
    "counterfactual": counterfactual,
    "step": step,
}

__all__ = [
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
__all__ += ["mean", "resample", "rows", "step", "zeros"]
