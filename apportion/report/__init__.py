"""Drawings of answers: pages, notebook blocks, figures and references.

Results look these up by name, so that they need not import what draws them.
"""

from ..attribution import DRAWING
from ..citations import cite
from . import sets
from .notebook import explanation, html
from .page import report
from .plot import plot

DRAWING.update(report=report, explanation=explanation, html=html, plot=plot, cite=cite)
DRAWING.update({"plot sets": sets.plot, "html of sets": sets.html})
DRAWING.update({"plot pairs": sets.plot_pairs, "html of pairs": sets.html_of_pairs})

__all__ = ["cite", "explanation", "html", "plot", "report"]
