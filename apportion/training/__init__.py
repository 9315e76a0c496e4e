"""TRAINING: runs that can be replayed, their gradients row by row, and stores on disk."""

from .data import Queries, Rows
from .keeping import load, recipe_of, save
from .measures import Measure, cross_entropy, margin, prediction, reading, squared_error
from .optim import SGD, Adam, AdamW, Constant, Cosine, Recorded
from .project import Identity, Kronecker, Projection, Rademacher, SparseJL
from .record import Tape, record
from .run import Recipe, TrainingRun, train
from .store import Store, featurise

__all__ = [
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Identity",
    "Kronecker",
    "Measure",
    "Projection",
    "Queries",
    "Rademacher",
    "Recipe",
    "Recorded",
    "Rows",
    "SGD",
    "SparseJL",
    "Store",
    "Tape",
    "TrainingRun",
    "cross_entropy",
    "featurise",
    "load",
    "margin",
    "prediction",
    "reading",
    "recipe_of",
    "record",
    "save",
    "squared_error",
    "train",
]
