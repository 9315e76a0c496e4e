"""WHO can be credited. One row per builder; each returns `Players`."""

from .base import Geometry as Geometry
from .base import Players as Players
from .base import plain as plain
from .base import same as same
from .base import spread as spread
from .image import patches, pixels, superpixels
from .parts import cells, channels, heads, mlps, neurons
from .rows import training_rows
from .signal import Grain as Grain
from .signal import frequencies, time_steps, wavelets
from .table import columns
from .text import tokens, words

TABLE = {
    # of a picture
    "pixels": pixels,
    "patches": patches,
    "superpixels": superpixels,
    # of a signal (wavelets: or of a picture)
    "time-steps": time_steps,
    "frequencies": frequencies,
    "wavelets": wavelets,
    # of a text
    "tokens": tokens,
    "words": words,
    # of a table row
    "columns": columns,
    # of the model
    "neurons": neurons,
    "channels": channels,
    "cells": cells,
    "heads": heads,
    "mlps": mlps,
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
__all__ += ["Grain", "frequencies", "time_steps", "wavelets"]
__all__ += ["plain", "same", "spread", "superpixels", "tokens", "training_rows", "words"]
