"""Wishes are kept for ever, tell nothing outside, and cannot be taken back by who cannot sign."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister_client.ledger import PersonalChain, SqliteLedger, Wish
from cloister_shared.errors import LedgerError
from cloister_shared.privacy import Budget, LedgerExport
from cloister_shared.privacy.ledger_format import Charge, Reserve
from cloister_shared.signing import SigningKey

MakeCharge = Callable[..., Charge]
ADA, BEN = "a" * 64, "b" * 64


@pytest.fixture
def ledger(path: Path, budget: Budget, key: SigningKey) -> SqliteLedger:
    return SqliteLedger.create(path, budget, key)


def wish(path: Path, key: SigningKey, *wishes: tuple[object, ...]) -> dict[str, Wish]:
    with PersonalChain.open(path, key) as chain:
        for one in wishes:
            chain.append(*one)  # type: ignore[arg-type]
        return chain.wishes()


@pytest.mark.parametrize(
    ("wishes", "left"),
    [
        (["OPT_OUT"], Wish(consent=False)),
        (["OPT_OUT", "OPT_IN"], Wish(consent=True)),
        (["ERASE"], Wish(erased=True, role="train", cohort="2024")),
        (["ERASE", "READMIT"], Wish(role="train", cohort="2024")),
        (["OPT_OUT", "ERASE", "READMIT"], Wish(False, False, "train", "2024")),
    ],
)
def test_the_last_wish_holds_and_an_erasure_keeps_role_and_cohort(
    ledger: SqliteLedger, path: Path, key: SigningKey, wishes: list[str], left: Wish
) -> None:
    told = [(one, ADA, *(("train", "2024") if one == "ERASE" else ())) for one in wishes]
    assert wish(path, key, *told, ("OPT_OUT", BEN)) == {ADA: left, BEN: Wish(consent=False)}
    assert wish(path, key) == {ADA: left, BEN: Wish(consent=False)}


def test_a_second_erasure_keeps_the_role_and_cohort_of_the_first(
    ledger: SqliteLedger, path: Path, key: SigningKey
) -> None:
    told = [("ERASE", ADA, "train", "2024"), ("READMIT", ADA), ("ERASE", ADA, "evaluation", "2025")]
    assert wish(path, key, *told)[ADA] == Wish(erased=True, role="train", cohort="2024")


def without_what_is_random(export: LedgerExport) -> list[dict[str, object]]:
    """Its entries, but for commitments and the hashes that follow from them."""
    entries = [entry.model_dump() for entry in export.entries]
    for entry in entries:
        entry.pop("previous")
        entry.pop("personal", None)
    return entries


def test_the_release_chain_does_not_tell_whether_anybody_asked_for_anything(
    tmp_path: Path, budget: Budget, key: SigningKey, make_charge: MakeCharge
) -> None:
    exports = []
    for wishes in ([], [("OPT_OUT", ADA)], [("ERASE", ADA, "train", "2024"), ("OPT_IN", BEN)]):
        path = tmp_path / f"{len(wishes)}.sqlite"
        ledger = SqliteLedger.create(path, budget, key)
        ledger.start(ledger.reserve(make_charge(1)))
        wish(path, key, *wishes)
        ledger.start(ledger.reserve(make_charge(2)))
        exports.append(ledger.export())
    entries = [without_what_is_random(export) for export in exports]
    assert entries[0] == entries[1] == entries[2]
    assert len({len(export.model_dump_json()) for export in exports}) == 1
    assert not any(ADA in export.model_dump_json() for export in exports)


def test_every_charge_commits_afresh_also_where_nothing_was_asked_for(
    ledger: SqliteLedger, make_charge: MakeCharge
) -> None:
    for _ in range(5):
        ledger.reserve(make_charge(1))
    reserved = [one for one in ledger.export().entries if isinstance(one, Reserve)]
    assert len({one.personal for one in reserved}) == 5


def test_a_commitment_is_opened_with_its_salt_alone(
    ledger: SqliteLedger, path: Path, key: SigningKey, make_charge: MakeCharge
) -> None:
    wish(path, key, ("OPT_OUT", ADA))
    ledger.reserve(make_charge(1))
    (reserved,) = ledger.export().entries
    connection = sqlite3.connect(path)
    (length, salt), (text,) = (
        connection.execute(f"SELECT {columns}").fetchone()
        for columns in ("length, salt FROM openings", "text FROM personal")
    )
    assert isinstance(reserved, Reserve)
    assert (length, len(salt)) == (1, 32)
    digest = hashlib.sha256(text).digest()
    assert reserved.personal == hashlib.sha256(salt + digest).hexdigest()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM personal WHERE sequence = 0",
        "DELETE FROM personal WHERE sequence = 1",
        "DELETE FROM personal",
        "DELETE FROM personal_head",
        "UPDATE personal SET text = replace(text, 'OPT_OUT', 'OPT_IN')",
        "UPDATE personal SET text = '{}'",
        "UPDATE personal SET text = 7",
        "UPDATE personal_head SET document = replace(document, '\"length\":2', '\"length\":1')",
        "UPDATE openings SET salt = x'00'",
        "UPDATE openings SET length = 7",
    ],
)
def test_a_wish_that_was_taken_back_in_the_file_is_noticed(
    ledger: SqliteLedger, path: Path, key: SigningKey, make_charge: MakeCharge, statement: str
) -> None:
    wish(path, key, ("OPT_OUT", ADA), ("ERASE", BEN, "train", "2024"))
    ledger.reserve(make_charge(1))
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER personal_are_kept")
    connection.execute("DROP TRIGGER personal_stay")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError):
        PersonalChain.open(path, key)


def test_an_older_copy_of_the_wishes_is_noticed_by_the_next_charges_commitment(
    ledger: SqliteLedger, path: Path, key: SigningKey, make_charge: MakeCharge
) -> None:
    """Chain and signed head of the older copy are right by themselves."""
    wish(path, key, ("OPT_OUT", BEN))
    old = Path(shutil.copy(path, path.with_name("old.sqlite")))
    wish(path, key, ("OPT_OUT", ADA))
    ledger.reserve(make_charge(1))
    connection = sqlite3.connect(path)
    connection.execute("ATTACH ? AS old", (str(old),))
    connection.execute("DROP TRIGGER personal_are_kept")
    connection.execute("DELETE FROM personal WHERE sequence = 1")
    connection.execute(
        "UPDATE personal_head SET document = (SELECT document FROM old.personal_head)"
    )
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="had asked for more"):
        PersonalChain.open(path, key)


def test_a_wish_is_in_the_file_itself_even_if_its_log_is_lost(
    ledger: SqliteLedger, path: Path, key: SigningKey
) -> None:
    wish(path, key, ("OPT_OUT", ADA))
    alone = Path(shutil.copy(path, path.with_name("alone.sqlite")))
    assert wish(alone, key) == {ADA: Wish(consent=False)}


def test_sqlite_itself_refuses_to_delete_or_change_a_wish(
    ledger: SqliteLedger, path: Path, key: SigningKey
) -> None:
    wish(path, key, ("OPT_OUT", ADA))
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM personal", "UPDATE personal SET text = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def test_a_missing_ledger_holds_no_wishes(path: Path, key: SigningKey) -> None:
    with pytest.raises(LedgerError, match="missing"):
        PersonalChain.open(path, key)


def test_wishes_are_taken_although_the_release_chain_is_broken(
    ledger: SqliteLedger, path: Path, key: SigningKey, make_charge: MakeCharge
) -> None:
    """Who wants to be erased is not to wait for an auditor."""
    ledger.reserve(make_charge(1))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE head SET document = '{}'")
    connection.commit()
    connection.close()
    assert wish(path, key, ("OPT_OUT", ADA)) == {ADA: Wish(consent=False)}
