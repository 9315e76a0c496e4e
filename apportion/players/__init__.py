"""WHO can be credited. One row per builder; each returns `Players`."""

from .base import Geometry as Geometry
from .base import Players as Players
from .base import plain as plain
from .base import same as same
from .base import spread as spread
from .groups import column_groups, modalities, segments
from .image import patches, pixels, superpixels
from .parts import cells, channels, directions, heads, layers, mlps, neurons
from .rows import training_rows
from .signal import Grain as Grain
from .signal import frequencies, time_steps, wavelets
from .strokes import Canvas as Canvas
from .strokes import Overlap as Overlap
from .strokes import drawn as drawn
from .strokes import strokes
from .table import columns
from .text import sentences, spans, tokens, words

TABLE = {
    # of a picture
    "pixels": pixels,
    "patches": patches,
    "superpixels": superpixels,
    "segments": segments,
    "strokes": strokes,
    # of a signal (wavelets: or of a picture)
    "time-steps": time_steps,
    "frequencies": frequencies,
    "wavelets": wavelets,
    # of a text
    "tokens": tokens,
    "words": words,
    "sentences": sentences,
    "spans": spans,
    # of a table row
    "columns": columns,
    "column-groups": column_groups,
    # of several inputs
    "modalities": modalities,
    # of the model
    "neurons": neurons,
    "directions": directions,
    "channels": channels,
    "cells": cells,
    "heads": heads,
    "mlps": mlps,
    "layers": layers,
    # of a training set
    "training-rows": training_rows,
}

__all__ = [
    "TABLE",
    "Geometry",
    "Players",
    "cells",
    "channels",
    "columns",
    "heads",
    "mlps",
    "neurons",
    "patches",
    "pixels",
]
__all__ += [
    "Canvas",
    "Overlap",
    "column_groups",
    "directions",
    "drawn",
    "layers",
    "modalities",
    "segments",
]
__all__ += ["sentences", "spans", "strokes"]
__all__ += ["Grain", "frequencies", "time_steps", "wavelets"]
__all__ += ["plain", "same", "spread", "superpixels", "tokens", "training_rows", "words"]
