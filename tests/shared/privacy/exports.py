"""Exports of small ledgers, honest ones and those of forgers."""

from typing import Any

from pydantic import TypeAdapter

from cloister_shared.privacy import Budget, LedgerExport, SampledGaussian
from cloister_shared.privacy.ledger_format import (
    RELEASE_KIND,
    Charge,
    Entry,
    HeadReceipt,
    LedgerHeader,
    ModelEvent,
    SignedHead,
)
from cloister_shared.signing import SigningKey

ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
KEY = SigningKey.from_bytes(bytes(32))
BUDGET = Budget(epsilon=4, delta=1e-6)
DKT = ModelEvent(model="dkt", event=SampledGaussian(noise_multiplier=3, sampling_rate=0.1, steps=2))
RECOMMENDER = ModelEvent(
    model="recommender", event=SampledGaussian(noise_multiplier=5, sampling_rate=0.2, steps=1)
)


def header(enforced: bool = True) -> LedgerHeader:
    return LedgerHeader(
        ledger="a" * 32,
        key=KEY.public,
        budget=BUDGET,
        order=BUDGET.order,
        limit=BUDGET.limit,
        enforced=enforced,
    )


def charge(number: int, *events: ModelEvent, **changes: Any) -> Charge:
    fields = {
        "run": "r",
        "round": number,
        "plan": "p" * 64,
        "request": f"{number:064x}",
        "cohorts": ("autumn", "spring"),
        "events": events or (DKT, RECOMMENDER),
    }
    return Charge.model_validate({**fields, **changes})


def export_of(
    steps: list[dict[str, Any]], top: LedgerHeader | None = None, key: SigningKey = KEY
) -> LedgerExport:
    """A chain of the given entries under a head that ``key`` signed.

    RESERVE is priced unless a cost is given; START and COMMIT are of the RESERVE before them. The
    receipt of a LIFT may be made by a function of the digests so far, the header's first.
    """
    top = top or header()
    entries: list[Entry] = []
    last, reserved, digests = top.digest, 0, [top.digest]
    for number, step in enumerate(steps):
        fields = {"of": reserved, **step}
        if step["kind"] == "RESERVE":
            reserved = number
            price = step["charge"].cost(top.order)
            fields = {"cost": price, "code_version": "1", "personal": "0" * 64, **step}
        elif step["kind"] == "LIFT":
            fields = {**step, "receipt": step["receipt"](digests)}
        if step["kind"] in ("RESTORE", "LIFT"):
            fields.pop("of", None)
        entries.append(ENTRY.validate_python({"previous": last, **fields}))
        last = entries[-1].digest
        digests.append(last)
    head = SignedHead(ledger=top.ledger, length=len(entries), digest=last)
    return LedgerExport(header=top, entries=tuple(entries), head=head.signed(key))


WITNESS = SigningKey.from_bytes(bytes([7] * 32))
RESTORE: dict[str, Any] = {"kind": "RESTORE", "salt": "5" * 64}


def lift(seen: int, restored: int, **changes: object) -> dict[str, Any]:
    """LIFT of the RESTORE that is entry number ``restored``, by who saw ``seen`` entries."""

    def receipt(digests: list[str]) -> HeadReceipt:
        one = HeadReceipt(
            ledger=header().ledger,
            length=seen,
            digest=digests[min(seen, len(digests) - 1)],
            witness=WITNESS.public,
            counter=1,
            nonce=digests[restored + 1],
        )
        return one.model_copy(update=changes).signed(WITNESS)

    return {"kind": "LIFT", "receipt": receipt}


def attempt(one: Charge) -> list[dict[str, Any]]:
    return [
        {"kind": "RESERVE", "charge": one},
        {"kind": "START"},
        {"kind": RELEASE_KIND[one.role], "payload_digest": "d" * 64},
    ]
