"""For how long a node's loop waits: between two looks for messages, and after one that was lost."""

import random

BUSY_POLL_S, BUSY_S = 0.05, 10.0
"""Between two looks for messages, as long as the last one came so many seconds ago."""
IDLE_POLL_S, SLOWER = 2.0, 1.5
"""The longest time between two looks, and by how much more each one waits till then."""
LOST_FIRST_S, LOST_LONGEST_S = 0.5, 5.0
"""The wait after a lost message, and the longest: it is twice as long after each further one."""
TELL_S = 60.0
"""Lost messages are told of once in so many seconds."""


class Polls:
    """When to look again: often while messages come, seldom while there is no run."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._pause_s = BUSY_POLL_S

    def busy(self, now: float) -> None:
        """A message came, or was answered, at ``now`` (seconds of a monotonic clock)."""
        self._last = now
        self._pause_s = BUSY_POLL_S

    def pause_s(self, now: float, took_s: float) -> float:
        """How long to wait, at ``now``, after a look that took so long and found nothing.

        Twice as long as the look at least: many nodes together do not keep the coordinator from
        its work. Not at all after a look that took as long as the longest wait: our coordinator
        holds looks until there is something.
        """
        if took_s >= IDLE_POLL_S:
            return 0.0
        if now - self._last >= BUSY_S:
            self._pause_s = min(SLOWER * self._pause_s, IDLE_POLL_S)
        pause = max(self._pause_s, min(2 * took_s, IDLE_POLL_S))
        return random.uniform(0.75, 1.0) * pause  # noqa: S311 - that not all come at once


class Losses:
    """Messages that were lost, one after another: a coordinator that answers nonsense keeps a node
    neither busy nor writing."""

    def __init__(self) -> None:
        self._pause_s = LOST_FIRST_S
        self._tell_after = float("-inf")

    def none(self) -> None:
        """A message was answered."""
        self._pause_s = LOST_FIRST_S

    def pause_s(self) -> float:
        """How long to wait after one more."""
        pause, self._pause_s = self._pause_s, min(2 * self._pause_s, LOST_LONGEST_S)
        return pause

    def is_news(self, now: float) -> bool:
        """Whether to tell of one at ``now``, in seconds of a monotonic clock."""
        if now < self._tell_after:
            return False
        self._tell_after = now + TELL_S
        return True
