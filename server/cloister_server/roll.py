"""Which approved node is behind an id of Flower's, as of now."""

from collections.abc import Iterable, Mapping

from cloister_server.home import CoordinatorHome
from cloister_server.superlink import Control


def approved_names(home: CoordinatorHome, ids: Mapping[bytes, int]) -> dict[int, str]:
    """Names of approved nodes by id, out of ids by transport key: nobody takes one by saying it."""
    approved = home.directory().approved().items()
    keys = {name: member.transport_key.encode() for name, member in approved}
    return {ids[key]: name for name, key in keys.items() if key in ids}


class Roll:
    """The consortium's nodes, called up by Flower's ids.

    The directory is read each time. Flower is asked only about ids that are new: a link that is
    being restarted is in nobody's way.
    """

    def __init__(self, home: CoordinatorHome, control: Control) -> None:
        self._home = home
        self._control = control
        self._ids: dict[bytes, int] = {}

    def names(self, nodes: Iterable[int]) -> dict[int, str]:
        """Those of ``nodes`` that are approved; ``ServiceError`` if Flower does not answer."""
        wanted = set(nodes)
        if not wanted <= set(self._ids.values()):
            self._ids = self._control.nodes()
        named = approved_names(self._home, self._ids)
        return {node: named[node] for node in wanted if node in named}
