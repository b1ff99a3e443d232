"""The verifier: honest exports pass, and every change that an attacker could try is caught."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from cloister_shared.errors import LedgerError
from cloister_shared.privacy import (
    Budget,
    LedgerExport,
    NonPrivate,
    epsilon,
    verify_ledger,
)
from cloister_shared.privacy.budget_report import report_budget
from cloister_shared.privacy.ledger_chain import latest_totals, verified_totals
from cloister_shared.privacy.ledger_format import (
    Entry,
    ModelEvent,
    Reserve,
    SignedHead,
)
from cloister_shared.signing import SigningKey

from .exports import (
    BUDGET,
    DKT,
    KEY,
    RECOMMENDER,
    RESTORE,
    attempt,
    charge,
    export_of,
    header,
    lift,
)


@pytest.fixture
def honest() -> LedgerExport:
    """Two rounds, the second after a crash that kept its charge, and a backup that was put back."""
    return export_of(
        [
            *attempt(charge(1)),
            *attempt(charge(2))[:2],
            *attempt(charge(2)),
            RESTORE,
            lift(seen=7, restored=8),
        ],
    )


def test_an_honest_export_verifies_and_adds_up(honest: LedgerExport) -> None:
    spend = verify_ledger(honest)
    price = charge(1).cost(BUDGET.order)
    assert set(spend) == {("train", "autumn"), ("train", "spring")}
    for one in spend.values():
        assert one.micro == 3 * price
        assert {(e.model, e.event.steps) for e in one.events} == {("dkt", 6), ("recommender", 3)}
        assert one.epsilon(1e-6, "rdp") == pytest.approx(
            epsilon([DKT.event, RECOMMENDER.event] * 3, 1e-6)
        )


def test_an_empty_export_verifies() -> None:
    assert verify_ledger(export_of([])) == {}


def test_an_export_survives_json(honest: LedgerExport) -> None:
    again = LedgerExport.model_validate_json(honest.model_dump_json(indent=1))
    assert again == honest
    assert verify_ledger(again) == verify_ledger(honest)


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all single values, keys and positions in one tuple."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from leaves(value, (*path, name))
    elif isinstance(document, list):
        for position, value in enumerate(document):
            yield from leaves(value, (*path, position))
    else:
        yield path


def other(value: Any) -> Any:
    """Another value of the same kind; of words with few alternatives, another that is known."""
    swaps = {"RESERVE": "START", "START": "COMMIT", "COMMIT": "RESERVE", "train": "evaluation"}
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value / 2 if 0 < value < 1 else value + 1
    return swaps.get(value, value + "x")


def test_every_single_changed_value_of_an_export_is_caught(honest: LedgerExport) -> None:
    document = honest.model_dump(mode="json")
    paths = list(leaves(document))
    assert len(paths) > 80
    for path in paths:
        changed = json.loads(json.dumps(document))
        *parents, last = path
        place = changed
        for step in parents:
            place = place[step]
        place[last] = other(place[last])
        with pytest.raises((LedgerError, ValidationError)):
            verify_ledger(LedgerExport.model_validate(changed))


TAMPERINGS: dict[str, Callable[[list[Entry]], list[Entry]]] = {
    "first deleted": lambda e: e[1:],
    "middle deleted": lambda e: e[:3] + e[4:],
    "last deleted": lambda e: e[:-1],
    "last round deleted": lambda e: e[:3],
    "all deleted": lambda e: [],
    "swapped": lambda e: [e[1], e[0], *e[2:]],
    "duplicated": lambda e: [*e[:2], e[1], *e[2:]],
    "appended": lambda e: [*e, e[-1]],
    "replayed": lambda e: e + e,
    "appended and chained": lambda e: [
        *e,
        Reserve(
            previous=e[-1].digest,
            charge=charge(9),
            cost=charge(9).cost(BUDGET.order),
            code_version="1",
            personal="0" * 64,
        ),
    ],
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_no_entry_can_be_deleted_moved_or_added(
    honest: LedgerExport, tamper: Callable[[list[Entry]], list[Entry]]
) -> None:
    entries = tuple(tamper(list(honest.entries)))
    with pytest.raises(LedgerError):
        verify_ledger(honest.model_copy(update={"entries": entries}))


def test_a_forger_who_computes_all_hashes_anew_cannot_lower_a_price() -> None:
    cheap = attempt(charge(1))
    cheap[0]["cost"] = 1
    with pytest.raises(LedgerError, match="not its price"):
        verify_ledger(export_of(cheap))


def test_a_forger_who_cannot_sign_cannot_shorten_a_ledger(honest: LedgerExport) -> None:
    """Though the shorter chain holds together: every hash of it is right."""
    thief = SigningKey.generate()
    for end in range(len(honest.entries)):
        last = honest.entries[end].previous
        own = SignedHead(ledger=honest.header.ledger, length=end, digest=last).signed(thief)
        for head in (own, own.model_copy(update={"signature": honest.head.signature})):
            shorter = {"entries": honest.entries[:end], "head": head}
            with pytest.raises(LedgerError, match="not signed with the ledger's key"):
                verify_ledger(honest.model_copy(update=shorter))


@pytest.mark.parametrize("of", [1, 2, 3, 99])
@pytest.mark.parametrize("stage", [1, 2])
def test_nothing_is_started_or_released_that_was_not_reserved(stage: int, of: int) -> None:
    entries = [*attempt(charge(1))[:2], {**attempt(charge(2))[stage], "of": of}]
    with pytest.raises(LedgerError, match="not open"):
        verify_ledger(export_of(entries))


@pytest.mark.parametrize("order", [[0, 2], [0, 1, 1], [0, 2, 1], [0, 0, 2]])
def test_stages_come_in_their_order(order: list[int]) -> None:
    stages = attempt(charge(1))
    with pytest.raises(LedgerError, match="out of order"):
        verify_ledger(export_of([stages[position] for position in order]))


def test_of_two_attempts_at_once_either_may_go_on() -> None:
    reserve, start, commit = attempt(charge(1))
    for first, second in ((0, 1), (1, 0)):
        steps = [reserve, reserve, {**start, "of": first}, {**start, "of": second}]
        verify_ledger(export_of([*steps, {**commit, "of": second}]))


def test_a_round_is_committed_once() -> None:
    once, again = attempt(charge(1)), attempt(charge(1))
    with pytest.raises(LedgerError, match="committed before"):
        verify_ledger(export_of([*once, *again]))
    with pytest.raises(LedgerError, match="not open"):
        verify_ledger(export_of([*once, again[2]]))


def test_more_than_the_limit_is_noticed_where_it_is_enforced() -> None:
    rounds = BUDGET.limit // charge(1).cost(BUDGET.order) + 1
    reserved = [{"kind": "RESERVE", "charge": charge(number)} for number in range(rounds)]
    verify_ledger(export_of(reserved[:-1]))
    with pytest.raises(LedgerError, match=f"spent of {BUDGET.limit}"):
        verify_ledger(export_of(reserved))


def test_a_non_private_charge_is_infinite_spend() -> None:
    plain = ModelEvent(model="dkt", event=NonPrivate())
    entries = attempt(charge(1)) + attempt(charge(2, plain))
    with pytest.raises(LedgerError, match="spent of"):
        verify_ledger(export_of(entries))
    spend = verify_ledger(export_of(entries, header(enforced=False)))
    assert {one.micro for one in spend.values()} == {None}
    assert spend["train", "autumn"].epsilon(1e-6) == float("inf")


def test_a_header_whose_limit_does_not_follow_from_its_guarantee_is_refused() -> None:
    for change in ({"limit": BUDGET.limit + 1}, {"order": BUDGET.order + 1}):
        top = header().model_copy(update=change)
        with pytest.raises(LedgerError, match="does not follow"):
            verify_ledger(export_of([], top))


def test_another_budget_than_the_one_that_was_fixed_is_caught(honest: LedgerExport) -> None:
    larger = Budget(epsilon=400, delta=1e-6)
    top = honest.header.model_copy(
        update={"budget": larger, "order": larger.order, "limit": larger.limit}
    )
    with pytest.raises(LedgerError, match="altered"):
        verify_ledger(honest.model_copy(update={"header": top}))


@pytest.mark.parametrize(
    "change",
    [
        {"cohorts": ()},
        {"cohorts": ("autumn", "autumn")},
        {"events": ()},
        {"role": "serve"},
        {"round": -1},
        {"run": ""},
        {"learners": ["x"]},
    ],
)
def test_a_charge_without_meaning_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        charge(1, **change)


@pytest.mark.parametrize(("role", "kind"), [("train", "METRIC"), ("evaluation", "COMMIT")])
def test_what_is_released_is_called_after_its_role(role: str, kind: str) -> None:
    reserve, start, commit = attempt(charge(1, role=role))
    verify_ledger(export_of([reserve, start, commit]))
    with pytest.raises(LedgerError, match=f"{kind} of the role {role}"):
        verify_ledger(export_of([reserve, start, {**commit, "kind": kind}]))


def test_roles_and_cohorts_pay_apart() -> None:
    entries = attempt(charge(1, DKT, cohorts=("autumn",)))
    entries += attempt(charge(1, DKT, cohorts=("autumn",), role="evaluation"))
    spend = verify_ledger(export_of(entries))
    assert set(spend) == {("train", "autumn"), ("evaluation", "autumn")}
    assert {one.micro for one in spend.values()} == {charge(1, DKT).cost(BUDGET.order)}


def test_after_a_restore_everything_is_spent_and_cohorts_to_come_have_nothing_left() -> None:
    export = export_of([*attempt(charge(1)), RESTORE])
    spend = verify_ledger(export)
    assert {one.micro for one in spend.values()} == {BUDGET.limit}
    totals = verified_totals(export)
    assert totals.restored
    assert totals.micro("train", "a cohort to come") == BUDGET.limit
    report = report_budget(export.header, totals)
    assert report.restored
    assert {one.remaining_micro_rdp for one in report.groups} == {0}
    assert {one.epsilon_rdp for one in report.groups} == {BUDGET.epsilon}
    assert {one.rounds_that_fit for one in report.runs} == {0}


@pytest.mark.parametrize("seen", [0, 2, 3])
def test_a_witness_that_knows_no_more_than_the_backup_lifts_a_restore(seen: int) -> None:
    before = attempt(charge(1))
    export = export_of([*before, RESTORE, lift(seen, restored=3), *attempt(charge(2))])
    price = charge(1).cost(BUDGET.order)
    assert {one.micro for one in verify_ledger(export).values()} == {2 * price}
    assert not verified_totals(export).restored


def test_the_totals_since_a_signed_balance_know_what_stands() -> None:
    export = export_of([*attempt(charge(1)), RESTORE, lift(2, restored=3)])
    entries = [(one, one.digest) for one in export.entries]
    for length, restored in ((4, True), (5, False)):
        last = entries[length - 1][1]
        head = SignedHead(ledger=export.header.ledger, length=length, digest=last)
        part = export.model_copy(
            update={"entries": export.entries[:length], "head": head.signed(KEY)}
        )
        totals = verified_totals(part)
        balance = totals.balance(part.header.ledger, length, last).signed(KEY)
        latest = latest_totals(part.header, balance, [], part.head)
        assert (latest.restored, latest.spend()) == (restored, totals.spend())


@pytest.mark.parametrize("step", attempt(charge(2)), ids=lambda step: step["kind"])
def test_nothing_is_charged_or_released_while_all_counts_as_spent(step: dict[str, Any]) -> None:
    with pytest.raises(LedgerError, match="while all counts as spent"):
        verify_ledger(export_of([*attempt(charge(1))[:2], RESTORE, step]))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": ""},
        {"nonce": "0" * 64},
        {"digest": "0" * 64},
        {"length": 99},
        {"ledger": "b" * 32},
        {"witness": SigningKey.from_bytes(bytes([8] * 32)).public},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_other_receipt_lifts_a_restore(change: dict[str, object]) -> None:
    steps = [*attempt(charge(1)), RESTORE, lift(2, restored=3, **change)]
    with pytest.raises(LedgerError, match="LIFT"):
        verify_ledger(export_of(steps))


def test_a_receipt_lifts_one_restore_once() -> None:
    once = [*attempt(charge(1)), RESTORE, lift(2, restored=3)]
    for again in ([lift(2, restored=3)], [RESTORE, lift(2, restored=3)]):
        with pytest.raises(LedgerError, match="does not stand"):
            verify_ledger(export_of([*once, *again]))


def test_two_backups_that_are_put_back_one_after_the_other_are_each_lifted() -> None:
    once = [*attempt(charge(1)), RESTORE, RESTORE, lift(2, restored=4)]
    verify_ledger(export_of([*once, {**RESTORE, "salt": "6" * 64}, lift(2, restored=6)]))
