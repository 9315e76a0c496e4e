"""IS THE CREDIT RIGHT? Metrics that judge any credit on the game it came from: metric(credit, game)
-> Score. One row each.
"""

from .additive_fidelity import additive_fidelity
from .agreement import rank_agreement
from .brittleness import brittleness
from .curves import deletion, insertion, insertion_minus_deletion
from .datamodeling import (
    leave_one_out_correlation,
    linear_datamodeling_score,
    per_query,
    seed_agreement,
)
from .joint_removal import joint_removal
from .mislabelled import mislabel_detection
from .score import LEVEL, Curve, Score

TABLE = {
    # orders
    "insertion": insertion,
    "deletion": deletion,
    "insertion-minus-deletion": insertion_minus_deletion,
    # sets
    "joint-removal": joint_removal,
    "additive-fidelity": additive_fidelity,
    # of training rows
    "linear-datamodeling-score": linear_datamodeling_score,
    "leave-one-out-correlation": leave_one_out_correlation,
    "brittleness": brittleness,
}

__all__ = [
    "LEVEL",
    "TABLE",
    "Curve",
    "Score",
    "additive_fidelity",
    "brittleness",
    "deletion",
    "insertion",
    "insertion_minus_deletion",
    "joint_removal",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "mislabel_detection",
    "per_query",
    "rank_agreement",
    "seed_agreement",
]
