"""What a coordinator's receipt says of this ledger: it is whole, an older copy, split, another's.

Each refusal has a code of its own, which the coordinator is told, and a sentence for the operator.
"""

from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_chain import Chain
from cloister_shared.privacy.ledger_format import HeadReceipt

RESTORED = "restored"
"""The refusal of a node whose ledger was put back from a backup: it asks for a receipt."""


def check_receipt(
    receipt: HeadReceipt, kept: HeadReceipt | None, ledger: str, witness: str | None
) -> None:
    """Raise ``LedgerError`` unless this is the witness's latest word on the ledger.

    The witness is ``witness`` if one is given, or whoever gave the receipt that was ``kept``.
    """
    if not receipt.is_authentic:
        raise LedgerError("the receipt of the ledger's head is altered or forged", "receipt")
    known = witness or (kept.witness if kept else receipt.witness)
    if receipt.witness != known:
        raise LedgerError(
            f"the receipt of the ledger's head is signed by {receipt.witness}, not by the "
            f"coordinator's key {known}; ask who runs the coordinator",
            "witness",
        )
    if receipt.ledger != ledger:
        raise LedgerError(
            "the coordinator knows another ledger under this node's name: one that was deleted and "
            "made anew has forgotten what was spent; restore the node's backup",
            "ledger_other",
        )
    if kept is not None and receipt.counter < kept.counter:
        raise LedgerError(
            f"the coordinator's receipt number {receipt.counter} came after number {kept.counter}: "
            "its records went back, or somebody repeats old ones",
            "receipt_old",
        )


def check_fit(receipt: HeadReceipt, chain: Chain) -> None:
    """Raise ``LedgerError`` unless the chain once ended where the coordinator saw it end."""
    if chain.holds(receipt):
        return
    if chain.restored is not None:
        raise LedgerError(
            f"the coordinator has seen {receipt.length} entries of the ledger, not all of which "
            "are in the backup: what was released after it is unknown here, so all counts as spent",
            RESTORED,
        )
    if receipt.length > chain.length:
        raise LedgerError(
            f"the coordinator has seen {receipt.length} entries of the ledger, {chain.length} are "
            "here: an older copy was put back; nothing is released from it",
            "ledger_old",
        )
    raise LedgerError(
        f"entry {receipt.length - 1} of the ledger is not the one that the coordinator has seen: "
        "two copies of this node have answered under one name; nothing is released from this one",
        "ledger_forked",
    )


def require_lifted(chain: Chain) -> None:
    """Raise ``LedgerError`` while the ledger counts as spent because it was put back."""
    if chain.restored is not None:
        raise LedgerError(
            "the ledger was put back from a backup; all of it counts as spent until the "
            "coordinator's receipt says that nothing was released since",
            RESTORED,
        )
