"""TRAINING: runs that can be replayed, their gradients row by row, and stores on disk."""

from .data import Queries, Rows
from .measures import Measure, cross_entropy, margin, prediction, reading, squared_error
from .optim import SGD, Adam, AdamW, Constant, Cosine, Recorded
from .run import Recipe, TrainingRun, train

__all__ = [
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Measure",
    "Queries",
    "Recipe",
    "Recorded",
    "Rows",
    "SGD",
    "TrainingRun",
    "cross_entropy",
    "margin",
    "prediction",
    "reading",
    "squared_error",
    "train",
]
