"""Ctrl-C between rounds: what a node has begun it has paid for, so the round is finished first."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class _StopRequestedError(Exception):
    """Travels out of the coordinator, which may run in a thread, to where Ctrl-C is known."""


@contextmanager
def interruptible_between_rounds() -> Iterator[Callable[[], None]]:
    """Gives a function that stops the run if Ctrl-C was pressed: to be called after each round.

    A stopped run ends with ``KeyboardInterrupt``, and so does a second Ctrl-C, at once. Python
    tells signals to the main thread only; in any other nothing changes.
    """
    asked = threading.Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        print("finishing this round; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def stop_if_asked() -> None:
        if asked.is_set():
            raise _StopRequestedError

    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, note) if listens else None
    try:
        yield stop_if_asked
        stop_if_asked()
    except _StopRequestedError:
        raise KeyboardInterrupt from None
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)
