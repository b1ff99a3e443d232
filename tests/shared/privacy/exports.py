"""Exports of small ledgers, honest ones and those of forgers."""

from typing import Any

from cloister_shared.privacy import Budget, LedgerExport, SampledGaussian
from cloister_shared.privacy.ledger_format import Charge, Entry, LedgerHeader, ModelEvent

BUDGET = Budget(epsilon=4, delta=1e-6)
DKT = ModelEvent(model="dkt", event=SampledGaussian(noise_multiplier=3, sampling_rate=0.1, steps=2))
RECOMMENDER = ModelEvent(
    model="recommender", event=SampledGaussian(noise_multiplier=5, sampling_rate=0.2, steps=1)
)


def header(enforced: bool = True) -> LedgerHeader:
    return LedgerHeader(
        ledger="a" * 32,
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


def export_of(steps: list[dict[str, Any]], top: LedgerHeader | None = None) -> LedgerExport:
    """A chain of the given entries; RESERVE is priced unless a cost is given."""
    top = top or header()
    entries: list[Entry] = []
    head = top.digest
    for number, step in enumerate(steps):
        price = {"cost": step["charge"].cost(top.order)} if step["kind"] == "RESERVE" else {}
        fields = {"sequence": number, "attempt": 0, "code_version": "1", **price, **step}
        entries.append(Entry.chained(head, **fields))
        head = entries[-1].digest
    return LedgerExport(header=top, entries=tuple(entries), head=head)


def attempt(one: Charge, number: int = 0) -> list[dict[str, Any]]:
    return [
        {"kind": "RESERVE", "charge": one, "attempt": number},
        {"kind": "START", "charge": one, "attempt": number},
        {"kind": "COMMIT", "charge": one, "attempt": number, "payload_digest": "d" * 64},
    ]
