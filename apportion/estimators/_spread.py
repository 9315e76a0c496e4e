"""Variances of independent samples, and how sure they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FEWEST = 4  # samples from which the fourth moment can be told


class Spread:
    """Variance of independent samples and its standard error, updated in pieces (float64).

    Power sums are kept about the mean of the first piece, which loses no digits to a large mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self.origin: Tensor | None = None
        self.sums: Tensor | None = None  # of powers 1 to 4, along the first axis

    def add(self, samples: Float[Tensor, "sample *out player"]) -> None:
        """Folds in further samples."""
        samples = samples.double()
        if self.origin is None:
            self.origin = samples.mean(0)
        off = samples - self.origin
        sums = torch.stack([(off**power).sum(0) for power in (1, 2, 3, 4)])
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += len(samples)

    def result(self) -> tuple[Tensor, Tensor | None]:
        """The unbiased variance s^2, and its standard error
        sqrt((m4 - s^4 (n - 3) / (n - 1)) / n); None from fewer than four samples.
        """
        if self.sums is None or self.count < 2:
            raise AssertionError("a variance needs two samples")
        n = self.count
        mean, *raw = self.sums / n
        second = (raw[0] - mean**2).clamp(min=0)
        fourth = raw[2] - 4 * mean * raw[1] + 6 * mean**2 * raw[0] - 3 * mean**4
        variance = second * (n / (n - 1))
        if n < FEWEST:
            return variance, None
        of_it = (fourth - variance**2 * ((n - 3) / (n - 1))) / n
        return variance, of_it.clamp(min=0).sqrt()
