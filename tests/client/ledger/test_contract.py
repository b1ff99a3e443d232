"""The promises of every ledger, whatever keeps its entries."""

import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cloister_client.ledger import Ledger, MemoryLedger
from cloister_shared.errors import INFINITE, BudgetExceededError, LedgerError
from cloister_shared.privacy import (
    Budget,
    LedgerExport,
    NonPrivate,
    SampledGaussian,
    verify_ledger,
)
from cloister_shared.privacy.ledger_format import Charge, ModelEvent, Reserve

MakeCharge = Callable[..., Charge]
MakeLedger = Callable[..., Ledger]


def do_round(ledger: Ledger, charge: Charge, payload: bytes = b"delta") -> None:
    reservation = ledger.reserve(charge)
    assert reservation.payload is None
    ledger.start(reservation)
    ledger.commit(reservation, payload)


def micro(ledger: Ledger) -> dict[tuple[str, str], int | None]:
    return {group: one.micro for group, one in ledger.spent().items()}


def fill(ledger: Ledger, make_charge: MakeCharge, price: int, leave: int) -> int:
    """Spend until fewer than ``leave`` + 1 rounds are left; the number of rounds done."""
    rounds = ledger.header.limit // price - leave
    for number in range(1, rounds + 1):
        do_round(ledger, make_charge(number))
    return rounds


def test_a_new_ledger_has_spent_nothing(ledger: Ledger, budget: Budget) -> None:
    assert ledger.spent() == {}
    assert ledger.remaining("train", "2024") == budget.limit
    assert not ledger.has_charges("autumn", "p" * 64)
    assert verify_ledger(ledger.export()) == {}


def test_the_charge_stands_from_the_reservation_on(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    reservation = ledger.reserve(make_charge())
    charged = {("train", "2024"): price, ("train", "2025"): price}
    assert micro(ledger) == charged
    ledger.start(reservation)
    assert micro(ledger) == charged
    ledger.commit(reservation, b"delta")
    assert micro(ledger) == charged
    assert ledger.remaining("train", "2025") == budget.limit - price
    assert ledger.has_charges("autumn", "p" * 64)
    assert not ledger.has_charges("spring", "p" * 64)
    assert not ledger.has_charges("autumn", "another plan")


def test_a_committed_round_is_answered_with_identical_bytes_and_costs_nothing(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    payload = bytes(range(256)) * 100
    do_round(ledger, make_charge(), payload)
    before = ledger.export()
    for _ in range(3):
        again = ledger.reserve(make_charge())
        assert again.payload == payload
    assert ledger.export() == before


def test_a_committed_round_is_answered_even_when_nothing_is_left(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    last = fill(ledger, make_charge, price, leave=0)
    assert ledger.reserve(make_charge(last)).payload == b"delta"


@pytest.mark.parametrize("change", [{"request": "f" * 64}])
def test_the_same_round_is_never_released_for_another_request(
    ledger: Ledger, make_charge: MakeCharge, change: dict[str, object]
) -> None:
    do_round(ledger, make_charge())
    before = ledger.export()
    with pytest.raises(LedgerError, match="released once"):
        ledger.reserve(make_charge(**change))
    assert ledger.export() == before


def test_the_same_round_of_another_run_or_role_is_another_release(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    do_round(ledger, make_charge())
    do_round(ledger, make_charge(run="spring"))
    do_round(ledger, make_charge(role="evaluation"))
    kinds = [entry.kind for entry in ledger.export().entries]
    assert kinds == [*["RESERVE", "START", "COMMIT"] * 2, "RESERVE", "START", "METRIC"]
    assert micro(ledger)["train", "2024"] == 2 * price
    assert micro(ledger)["evaluation", "2024"] == price


def test_the_bytes_of_every_runs_latest_round_are_kept(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    do_round(ledger, make_charge(1), b"autumn")
    do_round(ledger, make_charge(1, run="spring"), b"spring")
    do_round(ledger, make_charge(1, role="evaluation"), b"histogram")
    assert ledger.reserve(make_charge(1)).payload == b"autumn"
    assert ledger.reserve(make_charge(1, run="spring")).payload == b"spring"
    assert ledger.reserve(make_charge(1, role="evaluation")).payload == b"histogram"


def test_bytes_of_a_round_that_the_run_left_behind_are_gone_and_nothing_is_charged(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    do_round(ledger, make_charge(1))
    do_round(ledger, make_charge(2))
    before = ledger.export()
    with pytest.raises(LedgerError, match="no longer kept"):
        ledger.reserve(make_charge(1))
    assert ledger.export() == before


def test_over_budget_is_refused_with_the_figures_and_writes_nothing(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    rounds = fill(ledger, make_charge, price, leave=0)
    before = ledger.export()
    left = budget.limit - rounds * price
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve(make_charge(rounds + 1))
    error = caught.value
    assert (error.requested, error.remaining, error.difference) == (price, left, price - left)
    for figure in (price, left, price - left, budget.limit):
        assert str(figure) in str(error)
    assert ledger.export() == before


def test_exactly_what_is_left_may_be_spent_and_not_one_micro_unit_more(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    rounds = fill(ledger, make_charge, price, leave=1)
    left = budget.limit - rounds * price

    def costing(amount: int) -> Charge:
        """A charge of one Gaussian, whose RDP is order / (2·noise²)."""
        noise = math.sqrt(budget.order / (2e-6 * (amount - 0.5)))
        event = SampledGaussian(noise_multiplier=noise, sampling_rate=1, steps=1)
        charge = make_charge(rounds + 1, events=(ModelEvent(model="dkt", event=event),))
        assert charge.cost(budget.order) == amount
        return charge

    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve(costing(left + 1))
    assert caught.value.difference == 1
    ledger.reserve(costing(left))
    assert ledger.remaining("train", "2024") == 0
    assert micro(ledger)["train", "2024"] == budget.limit
    verify_ledger(ledger.export())


def test_a_crash_keeps_the_charge_and_the_next_attempt_is_charged_anew(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    ledger.reserve(make_charge())
    crashed_after_start = ledger.reserve(make_charge())
    ledger.start(crashed_after_start)
    third = ledger.reserve(make_charge())
    assert [crashed_after_start.entry, third.entry] == [1, 3]
    assert third.payload is None
    ledger.start(third)
    ledger.commit(third, b"delta")
    assert micro(ledger)["train", "2024"] == 3 * price
    verify_ledger(ledger.export())


def test_crashes_use_up_the_budget_like_any_round(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    for _ in range(budget.limit // price):
        ledger.reserve(make_charge())
    with pytest.raises(BudgetExceededError):
        ledger.reserve(make_charge())


def test_only_one_of_two_attempts_at_a_round_is_released(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    first, second = ledger.reserve(make_charge()), ledger.reserve(make_charge())
    ledger.start(first)
    ledger.start(second)
    ledger.commit(first, b"first")
    with pytest.raises(LedgerError, match="committed before"):
        ledger.commit(second, b"second")
    assert ledger.reserve(make_charge()).payload == b"first"


@pytest.mark.parametrize("steps", [["commit"], ["start", "start"], ["start", "commit", "commit"]])
def test_stages_come_in_their_order(
    ledger: Ledger, make_charge: MakeCharge, steps: list[str]
) -> None:
    reservation = ledger.reserve(make_charge())
    *before, last = steps
    stages = {"start": ledger.start, "commit": lambda one: ledger.commit(one, b"x")}
    for step in before:
        stages[step](reservation)
    kept = ledger.export()
    with pytest.raises(LedgerError):
        stages[last](reservation)
    assert ledger.export() == kept


def test_nothing_is_released_that_was_not_reserved(
    ledger: Ledger, make_charge: MakeCharge, recommender: ModelEvent
) -> None:
    reservation = ledger.reserve(make_charge())
    more = make_charge(events=(*reservation.charge.events, recommender))
    for forged in (replace(reservation, charge=more), replace(reservation, entry=1)):
        with pytest.raises(LedgerError):
            ledger.start(forged)
    ledger.start(reservation)
    with pytest.raises(LedgerError, match="charged for"):
        ledger.commit(replace(reservation, charge=more), b"x")


def test_cohorts_that_cannot_pay_are_left_out(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    rounds = fill(ledger, make_charge, price, leave=0)
    charge = make_charge(rounds + 1, cohorts=("2024", "2026", "2025"))
    reservation = ledger.reserve(charge)
    assert reservation.charge.cohorts == ("2026",)
    assert micro(ledger) == {
        ("train", "2024"): rounds * price,
        ("train", "2025"): rounds * price,
        ("train", "2026"): price,
    }
    ledger.start(reservation)
    ledger.commit(reservation, b"delta")
    assert ledger.reserve(charge).payload == b"delta"


def test_only_when_no_cohort_can_pay_is_a_round_refused(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    rounds = fill(ledger, make_charge, price, leave=1)
    do_round(ledger, make_charge(rounds + 1, cohorts=("2024",)))
    reservation = ledger.reserve(make_charge(rounds + 2))
    assert reservation.charge.cohorts == ("2025",)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve(make_charge(rounds + 3))
    assert caught.value.remaining == budget.limit - (rounds + 1) * price


def test_both_models_draw_on_one_budget(
    ledger: Ledger, make_charge: MakeCharge, dkt: ModelEvent, recommender: ModelEvent
) -> None:
    both = make_charge(1, events=(dkt, recommender))
    order = ledger.header.order
    do_round(ledger, both)
    apart = [make_charge(events=(one,)).cost(order) for one in (dkt, recommender)]
    assert abs(micro(ledger)["train", "2024"] - sum(apart)) <= 1
    rounds = ledger.header.limit // both.cost(order)
    for number in range(2, rounds + 1):
        do_round(ledger, make_charge(number, events=(dkt, recommender)))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(make_charge(rounds + 1, events=(dkt, recommender)))
    spent = ledger.spent()["train", "2024"]
    assert {(e.model, e.event.steps) for e in spent.events} == {
        ("dkt", 5 * rounds),
        ("recommender", 3 * rounds),
    }


def test_what_fits_at_the_gates_order_keeps_the_promised_epsilon(
    ledger: Ledger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    fill(ledger, make_charge, price, leave=0)
    spent = ledger.spent()["train", "2025"]
    assert spent.epsilon(1e-6, "rdp", order=budget.order) <= budget.epsilon
    assert spent.epsilon(1e-6, "pld") <= budget.epsilon


def test_a_non_private_charge_is_refused_and_writes_nothing(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    plain = ModelEvent(model="dkt", event=NonPrivate())
    with pytest.raises(BudgetExceededError, match="infinitely many") as caught:
        ledger.reserve(make_charge(events=(plain,)))
    assert caught.value.requested == INFINITE
    assert ledger.export().entries == ()


def test_where_nothing_is_enforced_charges_are_recorded_not_refused(
    make_ledger: MakeLedger, make_charge: MakeCharge, price: int, budget: Budget
) -> None:
    ledger = make_ledger(enforced=False)
    rounds = budget.limit // price + 1
    for number in range(rounds):
        do_round(ledger, make_charge(number))
    assert micro(ledger)["train", "2024"] == rounds * price
    assert ledger.remaining("train", "2024") == 0
    verify_ledger(ledger.export())


def test_where_nothing_is_enforced_a_non_private_charge_is_recorded_as_infinite(
    make_ledger: MakeLedger, make_charge: MakeCharge
) -> None:
    ledger = make_ledger(enforced=False)
    plain = ModelEvent(model="dkt", event=NonPrivate())
    do_round(ledger, make_charge(1, events=(plain,), cohorts=("2024",)))
    do_round(ledger, make_charge(2))
    assert micro(ledger)["train", "2024"] is None
    assert micro(ledger)["train", "2025"] is not None
    assert ledger.remaining("train", "2024") == 0
    assert ledger.spent()["train", "2024"].epsilon(1e-6) == float("inf")
    verify_ledger(ledger.export())


def test_an_export_verifies_says_what_the_ledger_says_and_survives_json(
    ledger: Ledger, make_charge: MakeCharge, dkt: ModelEvent, recommender: ModelEvent
) -> None:
    do_round(ledger, make_charge(1, events=(dkt, recommender)))
    ledger.reserve(make_charge(2))
    export = LedgerExport.model_validate_json(ledger.export().model_dump_json())
    assert verify_ledger(export) == ledger.spent()
    assert [entry.kind for entry in export.entries] == ["RESERVE", "START", "COMMIT", "RESERVE"]


def test_the_head_that_a_start_leads_to_is_signed_and_covers_the_charge(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    for number in (1, 2):
        reservation = ledger.reserve(make_charge(number))
        head = ledger.start(reservation)
        entries = ledger.export().entries
        assert head == ledger.export().head
        assert (head.length, head.digest) == (len(entries), entries[-1].digest)
        assert head.is_signed_by(ledger.header.key)
        assert isinstance(entries[reservation.entry], Reserve)
        assert reservation.entry < head.length
        ledger.commit(reservation, b"delta")


def test_an_export_holds_no_released_bytes(ledger: Ledger, make_charge: MakeCharge) -> None:
    do_round(ledger, make_charge(), b"SECRET BYTES")
    assert "SECRET BYTES" not in ledger.export().model_dump_json()


def test_every_ledger_has_an_identity_of_its_own(budget: Budget) -> None:
    assert MemoryLedger(budget).header.ledger != MemoryLedger(budget).header.ledger


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hectic")
def test_threads_that_race_release_exactly_what_fits(
    ledger: Ledger, make_charge: MakeCharge, price: int
) -> None:
    rounds = fill(ledger, make_charge, price, leave=3)

    def attempt(number: int) -> bool:
        try:
            do_round(ledger, make_charge(rounds + number))
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(1, 13))) == 3
    verify_ledger(ledger.export())


def test_the_last_reply_of_a_run_is_the_one_committed_last_whatever_its_round(
    ledger: Ledger, make_charge: MakeCharge
) -> None:
    assert ledger.last_reply("autumn") is None
    for number in (1, 3, 2):
        payload = b"round %d" % number
        do_round(ledger, make_charge(number), payload)
        assert ledger.last_reply("autumn") == hashlib.sha256(payload).hexdigest()
    last = ledger.last_reply("autumn")
    do_round(ledger, make_charge(4, role="evaluation"), b"metrics")
    do_round(ledger, make_charge(1, run="spring"), b"spring")
    ledger.start(ledger.reserve(make_charge(5)))
    assert ledger.last_reply("autumn") == last
    assert ledger.last_reply("winter") is None
