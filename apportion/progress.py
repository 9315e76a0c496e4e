"""Progress bars for what takes longer than two seconds; nothing at all for what does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PATIENCE = 2.0  # seconds before a bar appears

Tick = Callable[[int], None]


@contextmanager
def watched(label: str, total: int) -> Iterator[Tick]:
    """Inside, tell the yielded function how many steps were done; a bar with time left appears if
    it takes long.

    Bars go to the standard error stream, and only to terminals and notebooks.
    """
    console = Console(file=sys.stderr)
    shown = console.is_terminal or console.is_jupyter
    start = time.monotonic()
    bar: Progress | None = None
    done = 0

    def tick(steps: int) -> None:
        nonlocal bar, done
        done += steps
        if bar is None and shown and time.monotonic() - start > PATIENCE and done < total:
            bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), TimeRemainingColumn(),
                console=console, transient=True,
            )  # fmt: skip
            bar.start()
            bar.add_task(label, total=total)
        if bar is not None:
            bar.update(bar.task_ids[0], completed=min(done, total))

    try:
        yield tick
    finally:
        if bar is not None:
            bar.stop()


def say(text: str) -> None:
    """One line about what is coming, on terminals and in notebooks only."""
    console = Console(file=sys.stderr)
    if console.is_terminal or console.is_jupyter:
        console.print(text, style="dim", markup=False, highlight=False)
