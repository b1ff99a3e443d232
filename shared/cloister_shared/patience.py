"""Asking again what failed for a reason that passes: a connection lost, a server restarted."""

import random
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

FIRST_S, LONGEST_S = 0.5, 5.0
"""The first and the longest pause between two attempts, in seconds."""


def patiently(
    ask: Callable[[], Answer],
    passes: Callable[[Exception], bool],
    pause: Callable[[float], bool],
) -> Answer:
    """The answer of ``ask``, asked again after each error that ``passes``.

    ``pause`` waits for so many seconds and says whether to give up; then, and where an error does
    not pass, the error is raised. Pauses grow and vary, so that many who lost the same server do
    not come back at once.
    """
    longest = FIRST_S
    while True:
        try:
            return ask()
        except Exception as error:
            if not passes(error) or pause(random.uniform(0.5, 1.0) * longest):  # noqa: S311
                raise
        longest = min(2 * longest, LONGEST_S)
