"""Which key each node signs with: that of its first contribution, for all runs of a folder."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cloister_server.checkpoint import write_durably
from cloister_shared.errors import ConfigError, MessageError
from cloister_shared.messages import Reply, is_authentic
from cloister_shared.model_specs import Weights

_KEYS = TypeAdapter(dict[str, str])


class RejectedError(MessageError):
    """A reply does not count; ``str`` is the reason, which names no learner."""


class Keyring:
    """Public keys by node name, in a file. Whoever comes first with a name keeps it.

    A simulated participant may sign nothing: its key is empty, and stays so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = _read(path)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all nodes that took part so far."""
        return frozenset(self._keys.values())

    def check(self, reply: Reply, arrays: Weights) -> None:
        """Raise ``RejectedError`` unless the owner of the reply's name said exactly this."""
        if reply.key and not is_authentic(reply, arrays):
            raise RejectedError("its signature does not fit: it was altered or forged")
        if self._keys.get(reply.node, reply.key) != reply.key:
            raise RejectedError("is not signed with the key that this node had before")

    def learn(self, replies: Iterable[Reply]) -> None:
        """Remember for good, on disk, whose names these are; all of them must have been checked."""
        new = {reply.node: reply.key for reply in replies if reply.node not in self._keys}
        if new:
            self._keys |= new
            write_durably(self._path, json.dumps(self._keys, indent=1, sort_keys=True).encode())


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return _KEYS.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise ConfigError(
            f"the nodes' keys in {path} cannot be read; restore the file, without it anybody can "
            "take a node's name"
        ) from error
