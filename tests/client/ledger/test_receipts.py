"""What a coordinator says that it has seen is held against every kind of ledger."""

from collections.abc import Callable

import pytest

from cloister_client.ledger import Ledger
from cloister_shared.errors import LedgerError
from cloister_shared.privacy import verify_ledger
from cloister_shared.privacy.ledger_format import Charge, HeadReceipt, SignedHead
from cloister_shared.signing import SigningKey

MakeCharge = Callable[..., Charge]
WITNESS, OTHER = SigningKey.generate(), SigningKey.generate()


def receipt(
    head: SignedHead, counter: int = 1, key: SigningKey = WITNESS, **changes: object
) -> HeadReceipt:
    """That the witness saw the ledger end here."""
    fields = head.model_dump(exclude={"signature"})
    blank = HeadReceipt(witness=key.public, counter=counter, **fields)
    return blank.model_copy(update=changes).signed(key)


def do_round(ledger: Ledger, charge: Charge) -> SignedHead:
    reservation = ledger.reserve(charge)
    head = ledger.start(reservation)
    ledger.commit(reservation, b"delta")
    return head


def code(ledger: Ledger, one: HeadReceipt, witness: str | None = None) -> str:
    """The word of the refusal."""
    before = ledger.export()
    with pytest.raises(LedgerError) as caught:
        ledger.acknowledge(one, witness)
    assert ledger.export() == before
    return caught.value.code


def test_every_end_that_the_ledger_ever_had_is_acknowledged_and_changes_no_entry(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    seen = [ledger.head(), *(do_round(ledger, make_charge(number)) for number in range(1, 4))]
    before = ledger.export()
    for counter, head in enumerate(seen, start=1):
        ledger.acknowledge(receipt(head, counter))
        ledger.acknowledge(receipt(head, counter))
    assert ledger.export() == before


def test_an_end_that_the_ledger_never_had_is_refused(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    head = do_round(ledger, make_charge())
    assert code(ledger, receipt(head, length=9)) == "ledger_old"
    assert code(ledger, receipt(head, digest="0" * 64)) == "ledger_forked"
    assert code(ledger, receipt(head, length=head.length - 1)) == "ledger_forked"
    assert code(ledger, receipt(head, ledger="another")) == "ledger_other"
    ledger.acknowledge(receipt(head))


def test_only_the_first_witness_counts_or_the_one_that_is_named(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    head = do_round(ledger, make_charge())
    assert code(ledger, receipt(head), OTHER.public) == "witness"
    ledger.acknowledge(receipt(head))
    assert code(ledger, receipt(head, 2, OTHER)) == "witness"
    ledger.acknowledge(receipt(head, 2, OTHER), OTHER.public)
    assert code(ledger, receipt(head, 3)) == "witness"


def test_an_older_or_forged_receipt_is_refused(ledger: Ledger, make_charge: MakeCharge) -> None:
    head = do_round(ledger, make_charge())
    ledger.acknowledge(receipt(head, 5))
    assert code(ledger, receipt(head, 4)) == "receipt_old"
    assert code(ledger, receipt(head, 6).model_copy(update={"counter": 7})) == "receipt"


def test_a_ledger_that_was_put_back_charges_nothing_until_a_receipt_answers_that(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    head = do_round(ledger, make_charge())
    ledger.mark_restored()
    assert ledger.remaining("train", "a term to come") == 0
    for refused in (ledger.require_lifted, lambda: ledger.reserve(make_charge(2))):
        with pytest.raises(LedgerError, match="put back from a backup") as caught:
            refused()
        assert caught.value.code == "restored"
    ledger.acknowledge(receipt(head))
    with pytest.raises(LedgerError, match="put back"):
        ledger.require_lifted()
    nonce = ledger.head().digest
    assert code(ledger, receipt(head, nonce=nonce, length=99)) == "restored"
    ledger.acknowledge(receipt(head, nonce=nonce))
    ledger.require_lifted()
    assert ledger.remaining("train", "a term to come") == ledger.header.limit
    do_round(ledger, make_charge(2))
    assert {one.micro for one in verify_ledger(ledger.export()).values()} == {2 * price}


def test_a_round_that_was_answered_before_the_backup_is_sent_again_once_it_is_lifted(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    head = do_round(ledger, make_charge())
    ledger.mark_restored()
    with pytest.raises(LedgerError, match="put back"):
        ledger.reserve(make_charge())
    ledger.acknowledge(receipt(head, nonce=ledger.head().digest))
    assert ledger.reserve(make_charge()).payload == b"delta"


def test_two_restores_of_one_ledger_differ(ledger: Ledger) -> None:
    ledger.mark_restored()
    first = ledger.head().digest
    ledger.mark_restored()
    entries = ledger.export().entries
    assert entries[0].digest == first
    assert len({one.salt for one in entries}) == 2  # type: ignore[union-attr]
