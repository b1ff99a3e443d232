"""How many requests to join are taken a minute: of one machine, of networks around it, in all."""

from collections import Counter

from cloister_server.networks import networks

_WINDOW_SECONDS = 60.0
_SHARES = (1, 8, 64)
"""What the networks around an address may use up, in shares of one machine: see ``networks``."""
_ALL_SHARES = 1000
"""What all of them together may: a bound for whoever has machines everywhere."""


class JoinLimit:
    """Lets ``per_minute`` requests of one address through in a minute.

    A network of a customer's size takes 8 times that together, one of a provider's 64 times, the
    whole world 1000 times: whoever has a network locks out nobody but its own neighbours.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._since = float("-inf")
        self._taken = 0
        self._counts: Counter[str] = Counter()

    def takes(self, address: str, now: float) -> bool:
        """Whether one more is taken at ``now`` (seconds of a monotonic clock)."""
        if now - self._since >= _WINDOW_SECONDS:
            self._since, self._taken = now, 0
            self._counts.clear()
        around = networks(address)
        used_up = any(
            self._counts[network] >= shares * self._per_minute
            for network, shares in zip(around, _SHARES, strict=False)
        )
        if used_up or self._taken >= _ALL_SHARES * self._per_minute:
            return False
        self._taken += 1
        self._counts.update(around)
        return True
