"""HOW GRADIENTS ARE BENT. One row per table; `game.under(table)` keeps every value and bends every
gradient.

Layer-wise relevance propagation may be covered by patents in some countries; see docs/choose.md.
"""

from .base import Rules
from .doctor import Finding, unruled
from .presets import ATTN_LRP, CP_LRP, GUIDED, TABLE, epsilon

__all__ = ["ATTN_LRP", "CP_LRP", "GUIDED", "TABLE", "Finding", "Rules", "epsilon", "unruled"]
