"""TRAINING: runs that can be replayed, their gradients row by row, and stores on disk."""

from .data import Queries, Rows
from .measures import Measure, cross_entropy, margin, prediction, reading, squared_error
from .optim import SGD, Adam, AdamW, Constant, Cosine, Recorded
from .project import Identity, Kronecker, Projection, Rademacher, SparseJL
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
    "TrainingRun",
    "cross_entropy",
    "featurise",
    "margin",
    "prediction",
    "reading",
    "squared_error",
    "train",
]
