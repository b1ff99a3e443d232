"""A ledger in memory, for simulations of many nodes and for tests."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloister_client.ledger.base import Ledger, new_header
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_format import Entry, Role


class MemoryLedger(Ledger):
    """Same rules, nothing durable."""

    def __init__(self, budget: Budget, enforced: bool = True) -> None:
        super().__init__(new_header(budget, enforced))
        self._kept: list[Entry] = []
        self._outbox: dict[tuple[str, Role], tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            yield

    def _entries(self, start: int) -> Sequence[Entry]:
        return self._kept[start:]

    def _append(self, entry: Entry, payload: bytes | None) -> None:
        self._kept.append(entry)
        if payload is not None:
            self._outbox[entry.charge.run, entry.charge.role] = (entry.sequence, payload)

    def _payload(self, entry: Entry) -> bytes | None:
        sequence, payload = self._outbox[entry.charge.run, entry.charge.role]
        return payload if sequence == entry.sequence else None
