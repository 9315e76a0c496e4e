"""How many rows a batch holds: as many as are fastest, fewer where memory runs out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..types import OverBudget

START, MOST = 4, 4096  # first batch tried, and the largest
GAIN = 0.95  # a better size takes at most this share of the time per row
PATIENCE = 4  # sizes up to so many times the best are tried before the search goes back to it
TIMED = 2  # batches timed per size, after one that warms up; the fastest counts
UP, DOWN, AGAIN, SETTLED = 2.0, 0.5, 0.0, 1.0


def _halved(size: int, failure: Exception) -> int:
    if size <= 1:
        raise OverBudget(
            "even one coalition at a time does not fit into memory; use a smaller input, a model "
            "in lower precision, or a device with more memory"
        ) from failure
    return size // 2


@dataclass
class Fixed:
    """A given batch size, halved only when it does not fit into memory."""

    size: int

    def halve(self, size: int, failure: Exception) -> None:
        self.size = _halved(size, failure)

    def took(self, size: int, seconds: float) -> None:
        """Nothing to learn."""


@dataclass
class Search:
    """Finds the fastest batch size on the requests themselves, so that measuring costs no extra
    evaluations.

    Starts at 4 rows and doubles until two sizes in a row have not saved 5 % per row: kernels that
    want 16 rows are no faster at 8. Goes down instead if neither 8 nor 16 paid. Another size than
    the first has to beat it once more at the end, when the model is as warm for both.
    """

    size: int = START
    best: int | None = None
    step: float = UP  # how the size goes on
    limit: int = MOST
    times: dict[int, float] = field(default_factory=dict)  # best seconds per row by size
    seen: dict[int, int] = field(default_factory=dict)  # batches run by size

    def halve(self, size: int, failure: Exception) -> None:
        self.size = self.limit = _halved(size, failure)
        self.step = SETTLED

    def took(self, size: int, seconds: float) -> None:
        if self.step == SETTLED or size != self.size:
            return
        self.seen[size] = self.seen.get(size, 0) + 1
        if self.seen[size] > 1:
            self.times[size] = min(seconds / size, self.times.get(size, float("inf")))
        if self.seen[size] > TIMED:
            self._move()

    def _move(self) -> None:
        if self.step == AGAIN:
            won = self.best is not None and self.times[self.best] < GAIN * self.times[START]
            self._settle(self.best if won and self.best is not None else START)
            return
        if self.best is None or self.times[self.size] < GAIN * self.times[self.best]:
            self.best = self.size
        beyond = self.size / self.best  # how far past the best size one has looked
        if self.step == UP and beyond >= PATIENCE:
            if self.best != START:
                self._run_off()
                return
            self.step, beyond = DOWN, 1.0
        follow = int(self.best * beyond * self.step)
        if (self.step == DOWN and beyond < 1) or not 1 <= follow <= self.limit:
            self._run_off()
        else:
            self.size = follow

    def _run_off(self) -> None:
        """The first size is timed once more, unless it is the best anyway."""
        if self.best in (None, START):
            self._settle(START)
        else:
            self.step, self.size, self.seen[START] = AGAIN, START, 1

    def _settle(self, size: int) -> None:
        self.step, self.size = SETTLED, min(size, self.limit)


def out_of_memory(failure: Exception) -> bool:
    if isinstance(failure, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(failure).lower()
    return (
        "out of memory" in words or "can't allocate memory" in words or "not enough memory" in words
    )
