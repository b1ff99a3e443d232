"""Telling of refusals without end in lines that have one: a flood fills no disk."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 60.0
TELLINGS = 20
"""Lines of one kind in a window."""

Heard = Callable[[str, str], None]
"""Told of a refusal: the reason, and the node's name or the peer's address."""
Told = Callable[[str, str, int], None]
"""The same, and for how many refusals it stands."""
Clock = Callable[[], float]


@dataclass
class _Window:
    since: float
    told: int = 0
    silent: int = 0


@dataclass
class Share:
    """At most ``TELLINGS`` of each kind in a minute; there are few kinds."""

    clock: Clock = time.monotonic
    _windows: dict[str, _Window] = field(default_factory=dict)

    def takes(self, kind: str) -> int:
        """For how many the one at hand stands: itself and those passed over; 0 to pass it over."""
        now = self.clock()
        window = self._windows.setdefault(kind, _Window(now))
        if now - window.since >= WINDOW_S:
            window.since, window.told = now, 0
        if window.told >= TELLINGS:
            window.silent += 1
            return 0
        window.told += 1
        stands_for, window.silent = 1 + window.silent, 0
        return stands_for


class Seldom:
    """Passes refusals on to ``tell``, of each reason some a minute, with their count."""

    def __init__(self, tell: Told, clock: Clock = time.monotonic) -> None:
        self._tell = tell
        self._share = Share(clock)

    def __call__(self, reason: str, peer: str) -> None:
        """One refusal."""
        stands_for = self._share.takes(reason)
        if stands_for:
            self._tell(reason, peer, stands_for)


class SeldomLogged(logging.Filter):
    """Lets some records of a logger through in a minute: peers decide how often it complains."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._share = Share(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is printed."""
        return self._share.takes(record.name) > 0
