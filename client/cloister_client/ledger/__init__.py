"""The privacy ledger: charges are on disk before data is read and never come back."""

from cloister_client.ledger.base import Ledger, Reservation
from cloister_client.ledger.memory import MemoryLedger
from cloister_client.ledger.personal import PersonalChain, Wish, WishKind
from cloister_client.ledger.receipts import RESTORED
from cloister_client.ledger.sqlite import SqliteLedger

__all__ = [
    "RESTORED",
    "Ledger",
    "MemoryLedger",
    "PersonalChain",
    "Reservation",
    "SqliteLedger",
    "Wish",
    "WishKind",
]
