"""IS THE CREDIT RIGHT? Metrics that judge any credit on the game it came from: metric(credit, game)
-> Score. One row each.
"""

from .additive_fidelity import additive_fidelity
from .agreement import rank_agreement
from .curves import deletion, insertion, insertion_minus_deletion
from .joint_removal import joint_removal
from .score import LEVEL, Curve, Score

TABLE = {
    # orders
    "insertion": insertion,
    "deletion": deletion,
    "insertion-minus-deletion": insertion_minus_deletion,
    # sets
    "joint-removal": joint_removal,
    "additive-fidelity": additive_fidelity,
}

__all__ = [
    "LEVEL",
    "TABLE",
    "Curve",
    "Score",
    "additive_fidelity",
    "deletion",
    "insertion",
    "insertion_minus_deletion",
    "joint_removal",
    "rank_agreement",
]
