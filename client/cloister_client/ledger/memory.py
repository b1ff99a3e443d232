"""A ledger in memory, for simulations of many nodes and for tests."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cloister_client.ledger.base import Ledger, new_ledger
from cloister_client.ledger.personal import Opening
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_format import (
    Entry,
    HeadReceipt,
    Role,
    RoundKey,
    SignedHead,
)
from cloister_shared.signing import SigningKey


class MemoryLedger(Ledger):
    """Same rules, nothing durable; without ``key`` its heads are signed with a fresh one."""

    def __init__(
        self, budget: Budget, enforced: bool = True, key: SigningKey | None = None
    ) -> None:
        signer = key or SigningKey.generate()
        header, self._last_head = new_ledger(budget, signer, enforced)
        super().__init__(header, signer)
        self._kept: list[tuple[Entry, str]] = []
        self._last_receipt: HeadReceipt | None = None
        self._outbox: dict[tuple[str, Role], tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            yield

    def _entries(self, start: int) -> Iterable[tuple[Entry, str]]:
        return self._kept[start:]

    def _head(self) -> SignedHead:
        return self._last_head

    def _append(self, entry: Entry, head: SignedHead) -> None:
        self._kept.append((entry, head.digest))
        self._last_head = head

    def _receipt(self) -> HeadReceipt | None:
        return self._last_receipt

    def _keep_receipt(self, receipt: HeadReceipt) -> None:
        self._last_receipt = receipt

    def _personal(self) -> tuple[int, str]:
        return 0, self.header.digest

    def _keep_opening(self, entry: int, opening: Opening) -> None:
        """Nobody asks for it: there are no wishes in a memory ledger."""

    def _keep_payload(self, key: RoundKey, entry: int, payload: bytes) -> None:
        run, _, role = key
        self._outbox[run, role] = (entry, payload)

    def _payload(self, key: RoundKey, entry: int) -> bytes | None:
        run, _, role = key
        kept, payload = self._outbox[run, role]
        return payload if kept == entry else None
