"""The door of the public listener: connections are counted and timed from being accepted on.

A stranger's counts for its address, a node's, once it has proved its name, for that name. Who does
not say in time what it wants is hung up on; where all places are taken, be it those of its address
or of the house, the stranger who is there longest makes room. So strangers neither use up the
places nor keep nodes out that share their address.
"""

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from typing import Any

from cloister_server.config import Limits
from cloister_server.networks import networks, without_zone
from cloister_server.seldom import Heard

PLACE_S = 1.0
"""A stranger takes one of its address's places for so long at least, also once it has left.

So much time a new one has to say what it wants; and no address can ask for more handshakes.
"""


class Connection(socket.socket):
    """A peer's connection, once :meth:`Door.admits` it."""

    door: "Door | None" = None
    loop: asyncio.AbstractEventLoop
    address = network = ""
    """Where its peer is; no network any more once it had to make room for another of it."""
    since = 0.0
    node = ""
    """The name that its peer has proved; empty for a stranger."""
    _timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """Hang up in ``seconds`` at the latest, unless :meth:`unhurried`."""
        loop = self.loop
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        self.unhurried()
        self._timer = loop.call_later(seconds, self._too_slow)

    def unhurried(self) -> None:
        """Others see to it from now on that this comes to an end."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def recognise(self, name: str) -> bool:
        """Count it for the node ``name`` from now on; false if that has too many already."""
        return self.door is None or self.door.recognises(self, name)

    def hang_up(self) -> None:
        """End it whatever it is at; asyncio then sees its end, and closes it."""
        with suppress(OSError):  # the peer was quicker
            self.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, and leave."""
        door, self.door = self.door, None
        if door is not None:
            self.unhurried()
            door.left(self)
        super().close()

    def _too_slow(self) -> None:
        self._timer = None
        if self.door is not None:
            self.door.heard("slow", self.node or self.address)
            self.hang_up()


class Door:
    """Who is connected; ``heard`` is told of whom it turns away. All within one event loop."""

    def __init__(self, limits: Limits, heard: Heard) -> None:
        self.heard = heard
        self.limits = limits
        self._inside: dict[int, Connection] = {}
        self._strangers: dict[int, Connection] = {}
        """In the order in which they came, without those that were told to make room."""
        self._of_address: Counter[str] = Counter()
        self._of_node: Counter[str] = Counter()

    def connection(self, fileno: int) -> Connection:
        """The one with this file descriptor."""
        return self._inside[fileno]

    def admits(self, connection: Connection, address: str) -> bool:
        """Let a peer in that was just accepted; false if there is no place for it."""
        network, now = networks(address)[0], asyncio.get_running_loop().time()
        is_crowd = self._of_address[network] >= self.limits.connections_per_address
        if is_crowd and not self._replaces(network, now):
            return self._turns_away("crowd", address)
        if len(self._inside) >= self.limits.connections and not self._makes_room():
            return self._turns_away("full", address)
        self._of_address[network] += 1
        self._inside[connection.fileno()] = self._strangers[connection.fileno()] = connection
        connection.door, connection.address, connection.network = self, address, network
        connection.since, connection.loop = now, asyncio.get_running_loop()
        connection.within(self.limits.head_seconds)
        return True

    def recognises(self, connection: Connection, name: str) -> bool:
        """See :meth:`Connection.recognise`."""
        if connection.node == name:
            return True
        is_leaving = not connection.network
        if is_leaving or self._of_node[name] >= self.limits.connections_per_address:
            return False
        self._forget(connection)
        self._strangers.pop(connection.fileno(), None)
        connection.node = name
        self._of_node[name] += 1
        return True

    def left(self, connection: Connection) -> None:
        """A connection that is about to be closed."""
        self._inside.pop(connection.fileno(), None)
        self._strangers.pop(connection.fileno(), None)
        if connection.node:
            self._forget(connection)
        elif connection.network and not connection.loop.is_closed():
            end = connection.since + PLACE_S
            connection.loop.call_at(end, self._forget, connection)

    def _forget(self, connection: Connection) -> None:
        """Count it no longer for whom it counted; what has come to zero takes no memory."""
        counts = self._of_node if connection.node else self._of_address
        key = connection.node or connection.network
        counts[key] -= 1
        if not counts[key]:
            del counts[key]

    def _replaces(self, network: str, now: float) -> bool:
        """Whether the stranger of this network who is there longest has been so long enough."""
        of_it = (one for one in self._strangers.values() if one.network == network)
        longest = next(of_it, None)
        if longest is None or now < longest.since + PLACE_S:
            return False
        del self._strangers[longest.fileno()]
        self._forget(longest)
        longest.network = ""
        self.heard("crowd", longest.address)
        longest.hang_up()
        return True

    def _makes_room(self) -> bool:
        """Whether a stranger had to leave."""
        if not self._strangers:
            return False
        longest = self._strangers.pop(next(iter(self._strangers)))
        self.heard("full", longest.address)
        longest.hang_up()
        return True

    def _turns_away(self, reason: str, address: str) -> bool:
        self.heard(reason, address)
        return False


class _Listening(socket.socket):
    """A listening socket that asks the door about everybody."""

    door: Door

    def accept(self) -> tuple[socket.socket, Any]:
        """The next peer that is let in; ``ConnectionAbortedError``, with which asyncio goes on."""
        accepted, address = super().accept()
        connection = Connection(fileno=accepted.detach())
        if not self.door.admits(connection, without_zone(str(address[0]))):
            connection.close()
            raise ConnectionAbortedError("there is no place for it")
        return connection, address


def listening(door: Door, host: str, port: int) -> list[socket.socket]:
    """Sockets bound to all addresses of ``host``. Raises ``OSError`` if one cannot be had."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[_Listening] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = _Listening(family, kind, protocol)
            bound.append(one)
            one.door = door
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
    except OSError:
        for one in bound:
            one.close()
        raise
    return list(bound)
