"""WHAT is explained: a number read off the model's output. Each value is a frozen object whose repr
names it.

A value reads a tensor as (batch, class); of an output with `.logits` of three axes it reads the
last position. It never edits the input. `unit` goes into every report, `last` says how many
trailing positions it reads (a model that accepts `logits_to_keep` then computes no others),
`linear` whether it is linear in the logits: only then can a backward rule table conserve it.
"""

from .base import Relative, Target, Value, WithLogits, class_scores, output_tensor
from .boxes import BoxScore
from .dense import DenseSum
from .embedding import Divergence, Similarity
from .scores import (
    Contrast,
    Logit,
    LogProbability,
    Loss,
    Margin,
    OfProbabilities,
    Probability,
)
from .several import Several
from .tokens import Continuation
from .vectors import Embedding

TABLE = {
    "logit": Logit,
    "probability": Probability,
    "log-probability": LogProbability,
    "margin": Margin,
    "loss": Loss,
    "contrast": Contrast,
    "continuation": Continuation,
    "divergence": Divergence,
    "similarity": Similarity,
    "dense-sum": DenseSum,
    "box-score": BoxScore,
    "several": Several,
    "embedding": Embedding,
}

__all__ = ["TABLE", "Continuation", "Contrast", "LogProbability", "Logit", "Loss", "Margin"]
__all__ += [
    "OfProbabilities",
    "Probability",
    "Relative",
    "Target",
    "Value",
    "WithLogits",
    "class_scores",
]
__all__ += ["BoxScore", "DenseSum", "Divergence", "Embedding", "Several", "Similarity"]
__all__ += ["output_tensor"]
