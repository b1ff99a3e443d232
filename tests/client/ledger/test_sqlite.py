"""What only a file can lose: it is missing, damaged, cut off, copied, full."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloister_client.ledger import SqliteLedger
from cloister_shared.errors import LedgerError
from cloister_shared.privacy import Budget, LedgerExport, SampledGaussian, verify_ledger
from cloister_shared.privacy.ledger_chain import verified_totals
from cloister_shared.privacy.ledger_format import Charge, ModelEvent, SignedHead
from cloister_shared.signing import SigningKey

MakeCharge = Callable[..., Charge]


@pytest.fixture
def used(path: Path, budget: Budget, make_charge: MakeCharge, key: SigningKey) -> Path:
    """A closed ledger of three rounds, the second of which was tried twice."""
    ledger = SqliteLedger.create(path, budget, key)
    ledger.reserve(make_charge(2))
    for number in (1, 2, 3):
        reservation = ledger.reserve(make_charge(number))
        ledger.start(reservation)
        ledger.commit(reservation, b"delta %d" % number)
    ledger.close()
    return path


def alter(path: Path, *statements: str, head: SignedHead | None = None) -> None:
    """Change the file as someone with SQLite would: the triggers are no obstacle."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER entries_are_kept")
    connection.execute("DROP TRIGGER entries_stay")
    for statement in statements:
        connection.execute(statement)
    if head is not None:
        connection.execute("UPDATE head SET document = ?", (head.model_dump_json(),))
    connection.commit()
    connection.close()


def head_before_the_last_entry(export: LedgerExport) -> SignedHead:
    """Not signed."""
    length, last = len(export.entries) - 1, export.entries[-1]
    return SignedHead(ledger=export.header.ledger, length=length, digest=last.previous)


def test_a_ledger_says_the_same_after_it_was_closed(
    used: Path, make_charge: MakeCharge, price: int, key: SigningKey
) -> None:
    ledger = SqliteLedger.open(used, key)
    assert ledger.spent()["train", "2024"].micro == 4 * price
    assert ledger.reserve(make_charge(3)).payload == b"delta 3"
    verify_ledger(ledger.export())


def test_a_missing_ledger_is_never_made_anew(path: Path, key: SigningKey) -> None:
    with pytest.raises(LedgerError, match="missing"):
        SqliteLedger.open(path, key)
    assert not path.exists()


def test_an_existing_file_is_never_overwritten(used: Path, budget: Budget, key: SigningKey) -> None:
    before = used.read_bytes()
    with pytest.raises(LedgerError, match="none is ever overwritten"):
        SqliteLedger.create(used, budget, key)
    assert used.read_bytes() == before


def test_a_folder_that_is_not_there_is_a_ledger_error(
    path: Path, budget: Budget, key: SigningKey
) -> None:
    with pytest.raises(LedgerError, match="cannot make a ledger"):
        SqliteLedger.create(path.parent / "none" / "ledger.sqlite", budget, key)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, b"SQLite format 3\0" * 64])
def test_a_file_that_is_no_ledger_is_refused(path: Path, content: bytes, key: SigningKey) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        SqliteLedger.open(path, key)


def test_another_sqlite_file_is_refused(path: Path, key: SigningKey) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE learners (name TEXT)")
    connection.close()
    with pytest.raises(LedgerError):
        SqliteLedger.open(path, key)


def test_sqlite_itself_refuses_to_delete_or_change_an_entry(used: Path) -> None:
    connection = sqlite3.connect(used)
    for statement in ("DELETE FROM entries", "UPDATE entries SET text = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE sequence = 0",
        "DELETE FROM entries WHERE sequence = 4",
        "DELETE FROM entries WHERE sequence = 9",
        "DELETE FROM entries WHERE sequence >= 7",
        "DELETE FROM entries",
        "DELETE FROM head",
        "DELETE FROM header",
        "UPDATE entries SET text = replace(text, '\"steps\":5', '\"steps\":1')",
        "UPDATE entries SET text = replace(text, '\"of\":7', '\"of\":4')",
        "UPDATE head SET document = replace(document, '\"length\":10', '\"length\":9')",
        'UPDATE head SET document = replace(document, \'"signature":"\', \'"signature":"00\')',
        "UPDATE head SET document = '{}'",
        "UPDATE entries SET text = '{}' WHERE sequence = 2",
        "UPDATE entries SET text = x'ff' WHERE sequence = 2",
        "UPDATE entries SET text = 7 WHERE sequence = 2",
        "UPDATE header SET document = replace(document, '\"enforced\":true', '\"enforced\":false')",
        "UPDATE header SET document = replace(document, '\"limit\":', '\"limit\":9')",
        "UPDATE header SET document = replace(document, '\"epsilon\":4', '\"epsilon\":40')",
        "UPDATE header SET document = '{}'",
    ],
)
def test_what_was_deleted_or_altered_is_noticed(
    used: Path, statement: str, key: SigningKey
) -> None:
    alter(used, statement)
    with pytest.raises(LedgerError):
        SqliteLedger.open(used, key)


def test_an_altered_header_is_noticed_before_the_first_charge(
    path: Path, budget: Budget, key: SigningKey
) -> None:
    SqliteLedger.create(path, budget, key).close()
    alter(path, "UPDATE header SET document = replace(document, 'true', 'false')")
    with pytest.raises(LedgerError):
        SqliteLedger.open(path, key)


def test_a_ledger_that_is_cut_off_while_it_is_open_is_noticed(
    used: Path, make_charge: MakeCharge, key: SigningKey
) -> None:
    ledger = SqliteLedger.open(used, key)
    export = ledger.export()
    earlier = head_before_the_last_entry(export).signed(key)
    alter(used, "DELETE FROM entries WHERE sequence = 9", head=earlier)
    with pytest.raises(LedgerError, match="cut off"):
        ledger.reserve(make_charge(4))


def test_whoever_can_write_the_file_but_not_sign_cannot_take_a_charge_back(
    used: Path, key: SigningKey
) -> None:
    """Every hash of the shorter chain is right."""
    ledger = SqliteLedger.open(used, key)
    export = ledger.export()
    ledger.close()
    head = head_before_the_last_entry(export).signed(SigningKey.generate())
    alter(used, "DELETE FROM entries WHERE sequence = 9", head=head)
    with pytest.raises(LedgerError, match="not signed with the ledger's key"):
        SqliteLedger.open(used, key)


def test_a_ledger_opens_with_its_own_key_only(used: Path) -> None:
    with pytest.raises(LedgerError, match="another signing key"):
        SqliteLedger.open(used, SigningKey.generate())


def test_a_ledger_of_an_earlier_format_is_refused_by_name(used: Path, key: SigningKey) -> None:
    alter(used, "UPDATE header SET document = replace(document, '\"format\":2', '\"format\":1')")
    with pytest.raises(LedgerError, match="has format 1, which is no longer read"):
        SqliteLedger.open(used, key)


def test_a_flipped_byte_anywhere_is_harmless_or_a_ledger_error(
    used: Path, make_charge: MakeCharge, key: SigningKey
) -> None:
    """Harmless: all entries are there and say the same; released bytes are checked when sent."""
    content = used.read_bytes()
    ledger = SqliteLedger.open(used, key)
    honest = ledger.export()
    ledger.close()
    entry = content.index(b'"kind":"START"')
    chosen = np.random.default_rng(1)
    positions = [*range(100), *range(entry, entry + 40)]
    positions += [*chosen.integers(len(content), size=200)]
    noticed = 0
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(chosen.integers(8))
        used.write_bytes(damaged)
        try:
            ledger = SqliteLedger.open(used, key)
            assert ledger.export() == honest
            assert ledger.reserve(make_charge(3)).payload == b"delta 3"
            ledger.close()
        except LedgerError:
            noticed += 1
    assert noticed > 40


def test_altered_bytes_in_the_outbox_are_never_sent(
    used: Path, make_charge: MakeCharge, key: SigningKey
) -> None:
    alter(used, "UPDATE outbox SET payload = x'00'")
    with pytest.raises(LedgerError, match="outbox"):
        SqliteLedger.open(used, key).reserve(make_charge(3))


def test_what_was_released_is_charged_in_the_file_itself_even_if_its_log_is_lost(
    path: Path, budget: Budget, make_charge: MakeCharge, key: SigningKey
) -> None:
    ledger = SqliteLedger.create(path, budget, key)
    for number in range(1, 5):
        ledger.reserve(make_charge(number))
        reservation = ledger.reserve(make_charge(number))
        ledger.start(reservation)
        ledger.commit(reservation, b"delta")
        alone = shutil.copy(path, path.with_name(f"copy-{number}.sqlite"))
        assert SqliteLedger.open(Path(alone), key).export() == ledger.export()


def test_two_processes_see_each_others_charges(
    path: Path, budget: Budget, make_charge: MakeCharge, price: int, key: SigningKey
) -> None:
    one = SqliteLedger.create(path, budget, key)
    other = SqliteLedger.open(path, key)
    one.reserve(make_charge(1))
    other.reserve(make_charge(1))
    one.reserve(make_charge(2))
    assert one.spent() == other.spent()
    assert one.spent()["train", "2024"].micro == 3 * price


def test_a_full_disk_is_a_ledger_error_and_the_ledger_stays_usable(
    path: Path, budget: Budget, make_charge: MakeCharge, key: SigningKey
) -> None:
    ledger = SqliteLedger.create(path, budget, key)
    reservation = ledger.reserve(make_charge(1))
    ledger.start(reservation)
    before = ledger.export()
    pages = path.stat().st_size // 4096
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="full"):
        ledger.commit(reservation, os.urandom(100_000))
    assert ledger.export() == before
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    ledger.commit(reservation, b"delta")
    assert ledger.reserve(make_charge(1)).payload == b"delta"


def test_released_bytes_of_earlier_rounds_leave_the_file(
    path: Path, budget: Budget, make_charge: MakeCharge, key: SigningKey
) -> None:
    ledger = SqliteLedger.create(path, budget, key)
    for number, size in ((1, 5000), (2, 5)):
        reservation = ledger.reserve(make_charge(number))
        ledger.start(reservation)
        ledger.commit(reservation, b"ROUND %d " % number * size)
    ledger.close()
    content = path.read_bytes()
    assert b"ROUND 2" in content
    assert b"ROUND 1" not in content


def test_an_interrupted_creation_leaves_nothing_that_could_be_mistaken_for_a_ledger(
    path: Path, budget: Budget, key: SigningKey
) -> None:
    path.touch()
    with pytest.raises(LedgerError):
        SqliteLedger.open(path, key)
    with pytest.raises(LedgerError):
        SqliteLedger.create(path, budget, key)


@pytest.fixture
def long_used(path: Path, budget: Budget, key: SigningKey, cheap: Charge) -> Path:
    """A closed ledger with a signed balance of its first 1000 entries, and some more."""
    ledger = SqliteLedger.create(path, budget, key)
    ledger._connection.execute("PRAGMA synchronous=OFF")
    for number in range(1, 336):
        run = "autumn" if number < 200 else "spring"
        cohorts = ("2024", "2025")[: 1 + number % 2]
        charge = cheap.model_copy(update={"run": run, "round": number, "cohorts": cohorts})
        ledger.reserve(charge)
        ledger.start(ledger.reserve(charge))
    ledger.close()
    return path


@pytest.fixture
def cheap(make_charge: MakeCharge) -> Charge:
    """A charge of which thousands fit."""
    event = SampledGaussian(noise_multiplier=500, sampling_rate=0.1, steps=1)
    return make_charge(events=(ModelEvent(model="dkt", event=event),))


def test_the_totals_at_once_are_those_of_all_entries(long_used: Path, key: SigningKey) -> None:
    header, totals = SqliteLedger.totals(long_used, key)
    ledger = SqliteLedger.open(long_used, key)
    export = ledger.export()
    assert header == export.header
    assert totals.spend() == verified_totals(export).spend() == ledger.spent()
    assert totals.runs() == verified_totals(export).runs()
    assert {(one.run, one.cohort): one.charges for one in totals.runs()} == {
        ("autumn", "2024"): 398,
        ("autumn", "2025"): 200,
        ("spring", "2024"): 272,
        ("spring", "2025"): 136,
    }


def test_totals_of_a_short_ledger_need_no_balance(used: Path, key: SigningKey) -> None:
    assert SqliteLedger.totals(used, key)[1].spend() == SqliteLedger.open(used, key).spent()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balance SET document = replace(document, '\"micro\":', '\"micro\":1')",
        "UPDATE balance SET document = replace(document, '\"length\":1000', '\"length\":1001')",
        "UPDATE balance SET document = '{}'",
        "DELETE FROM entries WHERE sequence = 1001",
        "DELETE FROM entries WHERE sequence = 1004",
        "UPDATE entries SET text = replace(text, '\"cost\":', '\"cost\":1') WHERE sequence > 1000",
        "UPDATE head SET document = replace(document, '1005', '1004')",
    ],
)
def test_totals_notice_an_altered_balance_and_all_that_came_after(
    long_used: Path, key: SigningKey, statement: str
) -> None:
    alter(long_used, statement)
    with pytest.raises(LedgerError):
        SqliteLedger.totals(long_used, key)


def test_an_entry_that_was_altered_long_ago_is_noticed_before_anything_is_released(
    long_used: Path, key: SigningKey
) -> None:
    """Not by the totals: they are signed, and say what they said before."""
    before = SqliteLedger.totals(long_used, key)[1].spend()
    alter(
        long_used,
        "UPDATE entries SET text = replace(text, '\"cost\":', '\"cost\":1') WHERE sequence = 3",
    )
    assert SqliteLedger.totals(long_used, key)[1].spend() == before
    with pytest.raises(LedgerError, match="altered"):
        SqliteLedger.open(long_used, key)
