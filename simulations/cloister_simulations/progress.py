"""Progress bars with the time that is left, or silence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Is told which part has begun and how far it is."""

    def begin(self, part: str, total: int) -> None:
        """A part of ``total`` steps begins."""

    def reach(self, step: int) -> None:
        """The current part has done ``step`` steps."""


class Silent:
    """Says nothing."""

    def begin(self, part: str, total: int) -> None:
        """Say nothing."""

    def reach(self, step: int) -> None:
        """Say nothing."""


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, part: str, total: int) -> None:
        # Not before: a Progress that ends without a bar prints an empty line above an error.
        self._progress.start()
        self._task = self._progress.add_task(part, total=total)

    def reach(self, step: int) -> None:
        self._progress.update(self._task, completed=step)


@contextmanager
def progress_bars(console: Console) -> Iterator[Reporter]:
    """One bar a part, with a count and an estimate of the time that is left."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    progress = Progress(*columns, console=console)
    try:
        yield _Bars(progress)
    finally:
        if progress.tasks:
            progress.stop()
