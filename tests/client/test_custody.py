"""Ledgers that are old copies, clones, made anew, altered: each is refused in its own words."""

import datetime
import logging
import re
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from cloister_client.app import node_from_home
from cloister_client.home import NodeHome
from cloister_client.ledger import SqliteLedger
from cloister_client.ledger.place import require_place
from cloister_server.notary import KEY, REGISTER, Notary
from cloister_shared.errors import LedgerError, RunError
from cloister_shared.messages import Refusal, TrainRequest, join, pack, pack_receipts, unpack
from cloister_shared.privacy import SampledGaussian
from cloister_shared.privacy.ledger_format import Charge, HeadReceipt, ModelEvent
from cloister_shared.secret_files import read_signing_key
from cloister_shared.signing import SigningKey

from .schools import BUDGET, Schools, forge_place, kinds, make_home

ROUND = ["RESERVE", "START", "COMMIT"]


@pytest.fixture(scope="module")
def after_one_round(tmp_path_factory: pytest.TempPathFactory) -> Schools:
    schools = Schools(tmp_path_factory.mktemp("schools"))
    schools.go_on(1)
    return schools


@pytest.fixture
def schools(after_one_round: Schools, tmp_path: Path) -> Schools:
    """After one round, each time anew."""
    return after_one_round.copied(tmp_path / "schools")


def charge(number: int) -> Charge:
    event = SampledGaussian(noise_multiplier=500, sampling_rate=0.1, steps=1)
    return Charge(
        run="spring",
        round=number,
        plan="p" * 64,
        request="r" * 64,
        cohorts=("2024", "2025"),
        events=(ModelEvent(model="dkt", event=event),),
    )


def is_refused(schools: Schools, until: int, code: str, said: str, log: str) -> None:
    """Oak refuses the next round with ``code``, says why in its own log, and reads nobody."""
    entries = kinds(schools.oak)
    (record,) = schools.go_on(until)
    assert record.participants == ("elm",)
    assert list(record.rejected.values()) == [f"refused: {code}"]
    assert said in log
    assert schools.asked["oak"] == 0
    assert kinds(schools.oak) == entries


class Log:
    """Reads what was logged when it is asked whether something is in it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __contains__(self, text: str) -> bool:
        return text in self._caplog.text


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.WARNING)
    return Log(caplog)


def test_a_school_that_nothing_happened_to_takes_part_in_every_round(schools: Schools) -> None:
    records = schools.go_on(4)
    assert [record.participants for record in records] == [("elm", "oak")] * 3
    assert kinds(schools.oak) == ROUND * 4


@pytest.mark.parametrize("with_log", [False, True], ids=["the file alone", "with SQLite's log"])
def test_an_older_copy_of_the_ledger_that_is_put_back_is_refused(
    schools: Schools, log: Log, with_log: bool, tmp_path: Path
) -> None:
    """In place, so that the file lies where it lay."""
    home = schools.folders["oak"]
    ledger = schools.oak.ledger()
    if with_log:
        ledger.reserve(charge(1))
    parts = [path for path in home.glob("ledger.sqlite*") if with_log or path.suffix == ".sqlite"]
    assert len(parts) == (3 if with_log else 1)
    kept = [Path(shutil.copy(part, tmp_path / f"kept-{part.name}")) for part in parts]
    ledger.close()
    schools.go_on(3)
    for copy, part in zip(kept, parts, strict=True):
        shutil.copyfile(copy, part)
    is_refused(schools, 4, "ledger_old", "an older copy was put back", log)


def test_a_deleted_ledger_stops_the_node(schools: Schools) -> None:
    (schools.folders["oak"] / "ledger.sqlite").unlink()
    with pytest.raises(LedgerError, match="is missing; restore it from a backup"):
        schools.go_on(2)
    assert not (schools.folders["oak"] / "ledger.sqlite").exists()


def test_a_ledger_made_anew_with_the_nodes_key_is_refused(schools: Schools, log: Log) -> None:
    path = schools.folders["oak"] / "ledger.sqlite"
    path.unlink()
    SqliteLedger.create(path, BUDGET, schools_key(schools)).close()
    is_refused(schools, 2, "ledger_other", "one that was deleted and made anew", log)


def schools_key(schools: Schools) -> SigningKey:
    return read_signing_key(schools.folders["oak"] / "keys" / "signing.key")


def test_a_node_made_anew_under_its_old_name_is_refused_by_both_sides(
    schools: Schools, log: Log, tmp_path: Path
) -> None:
    make_home(tmp_path / "anew" / "oak")
    schools.folders["oak"] = tmp_path / "anew" / "oak"
    (record,) = schools.go_on(2)
    (reason,) = record.rejected.values()
    assert reason == "is not signed with the key that this node had before"
    assert "one that was deleted and made anew" in log
    assert schools.asked["oak"] == 0
    assert kinds(schools.oak) == []


FLIPS = {
    "a stage": (b'{"kind":"START"', b"{", "an entry of the ledger was altered: it cannot be read"),
    "a price": (b',"cost":', b'"cost":', "does not follow the one before it"),
    "the head": (b'"length":3,"digest":"', b'"length":3,"digest":"', "was cut off or altered"),
}


@pytest.mark.parametrize(("found", "before", "said"), FLIPS.values(), ids=FLIPS.keys())
def test_a_ledger_in_which_one_byte_was_flipped_stops_the_node(
    schools: Schools, found: bytes, before: bytes, said: str
) -> None:
    """The byte that follows ``before``."""
    path = schools.folders["oak"] / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    assert content.count(found) == 1
    content[content.index(found) + found.index(before) + len(before)] ^= 1
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=said):
        schools.go_on(2)


def test_a_flipped_byte_in_the_outbox_is_never_sent(schools: Schools, log: Log) -> None:
    path = schools.folders["oak"] / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE outbox SET payload = CAST(x'01' || substr(payload, 2) AS BLOB)")
    connection.close()
    (schools.folder / "run" / "autumn.checkpoint").unlink()
    (record,) = schools.go_on(1)
    assert list(record.rejected.values()) == ["refused: ledger"]
    assert "the outbox does not hold what entry 2 released" in log


def test_a_flipped_byte_in_the_signed_totals_stops_the_node(schools: Schools) -> None:
    ledger = schools.oak.ledger()
    ledger._connection.execute("PRAGMA synchronous=OFF")
    for number in range(1, 1001):
        ledger.reserve(charge(number))
    ledger.close()
    with sqlite3.connect(schools.folders["oak"] / "ledger.sqlite") as connection:
        connection.execute("UPDATE balance SET document = replace(document, 'spring', 'sprinh')")
    connection.close()
    with pytest.raises(LedgerError, match="balance is not signed"):
        schools.go_on(2)


def test_a_copied_folder_is_refused_and_a_moved_one_is_not(
    schools: Schools, tmp_path: Path
) -> None:
    copy, moved = tmp_path / "copy" / "oak", tmp_path / "moved" / "oak"
    shutil.copytree(schools.folders["oak"], copy)
    moved.parent.mkdir()
    schools.folders["oak"] = schools.folders["oak"].rename(moved)
    assert schools.go_on(2)[0].participants == ("elm", "oak")
    schools.folders["oak"] = copy
    with pytest.raises(LedgerError, match="is a copy: two would spend one budget twice") as caught:
        schools.go_on(3)
    assert caught.value.code == "ledger_copied"


def test_the_file_stays_where_it_is_when_sqlite_writes_it_anew(schools: Schools) -> None:
    path = schools.folders["oak"] / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("VACUUM")
    connection.close()
    require_place(path)


def test_of_two_clones_that_answer_in_turn_the_one_that_is_behind_is_refused(
    schools: Schools, log: Log, tmp_path: Path
) -> None:
    """The copy says that it always lay where it lies: no file tells that there are two."""
    original, clone = schools.folders["oak"], tmp_path / "clone" / "oak"
    shutil.copytree(original, clone)
    forge_place(clone)
    schools.folders["oak"] = clone
    assert schools.go_on(2)[0].participants == ("elm", "oak")
    schools.folders["oak"] = original
    is_refused(schools, 3, "ledger_old", "has seen 5 entries of the ledger, 3 are here", log)
    schools.folders["oak"] = clone
    assert schools.go_on(4)[0].participants == ("elm", "oak")


def test_a_clone_that_went_another_way_is_refused(
    schools: Schools, log: Log, tmp_path: Path
) -> None:
    original, clone = schools.folders["oak"], tmp_path / "clone" / "oak"
    shutil.copytree(original, clone)
    forge_place(clone)
    ledger = NodeHome.open(clone).ledger()
    for _ in range(4):
        ledger.reserve(charge(1))
    ledger.close()
    schools.go_on(2)
    schools.folders["oak"] = clone
    is_refused(schools, 3, "ledger_forked", "two copies of this node have answered", log)


def request(schools: Schools, number: int) -> bytes:
    return pack(TrainRequest(plan=schools.plan, round=number), join(schools.weights()))


def answer(schools: Schools, receipt: HeadReceipt | None, number: int = 2) -> str:
    """The code with which oak refuses, or nothing."""
    node = node_from_home(schools.oak)
    receipts = pack_receipts({} if receipt is None else {"oak": receipt})
    header, _ = unpack(node.answer_train(request(schools, number), receipts), Refusal)
    return header.code


@pytest.fixture
def receipt(schools: Schools) -> HeadReceipt:
    """That of the coordinator after two rounds, both of which oak has acknowledged."""
    schools.go_on(3)
    return Notary.of_folder(schools.folder / "run").receipts()["oak"]


def coordinators_key(schools: Schools) -> SigningKey:
    return read_signing_key(schools.folder / "run" / KEY)


def test_an_altered_receipt_is_refused(schools: Schools, receipt: HeadReceipt, log: Log) -> None:
    assert answer(schools, receipt.model_copy(update={"length": 1}), 4) == "receipt"
    assert "altered or forged" in log


def test_another_witness_than_the_first_is_refused(
    schools: Schools, receipt: HeadReceipt, log: Log
) -> None:
    key = SigningKey.generate()
    forged = receipt.model_copy(update={"witness": key.public, "counter": 99}).signed(key)
    assert answer(schools, forged, 4) == "witness"
    assert f"not by the coordinator's key {receipt.witness}" in log


def test_a_receipt_that_was_overtaken_is_refused(
    schools: Schools, receipt: HeadReceipt, log: Log
) -> None:
    older = receipt.model_copy(update={"counter": 1}).signed(coordinators_key(schools))
    assert answer(schools, older, 4) == "receipt_old"
    assert "number 1 came after number 2" in log


def test_a_coordinators_key_in_the_config_is_the_only_one_that_counts(
    schools: Schools, log: Log
) -> None:
    config = schools.folders["oak"] / "node.yaml"
    wanted = SigningKey.generate().public
    text = config.read_text().replace("coordinator_key: null", f"coordinator_key: {wanted}")
    config.write_text(text)
    is_refused(schools, 2, "witness", f"not by the coordinator's key {wanted}", log)


def test_a_coordinator_that_lost_its_records_is_noticed(schools: Schools, log: Log) -> None:
    schools.go_on(3)
    nodes = schools.folder / "run" / REGISTER
    before = nodes.read_bytes()
    schools.go_on(5)
    nodes.write_bytes(before)
    with pytest.raises(RunError, match=r"refused: receipt_old.*refused: receipt_old"):
        schools.go_on(6)
    assert "its records went back" in log
    assert schools.asked == {"oak": 0, "elm": 0}


def test_a_node_with_receipts_reads_nobody_where_they_cannot_be_read(schools: Schools) -> None:
    before = kinds(schools.oak)
    node = node_from_home(schools.oak)
    header, _ = unpack(node.answer_train(request(schools, 2), b"[garbage"), Refusal)
    assert header.code == "message"
    assert kinds(schools.oak) == before


def test_a_coordinator_that_dies_between_countersigning_and_checkpoint_gets_the_same_answers(
    schools: Schools, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr("cloister_server.rounds.save_checkpoint", die)
        with pytest.raises(DiedError):
            schools.go_on(2)
    assert kinds(schools.oak) == ROUND * 2
    records = schools.go_on(3)
    assert [record.participants for record in records] == [("elm", "oak")] * 2
    assert kinds(schools.oak) == ROUND * 3, "what was asked again was charged once"


def masked_export(home: NodeHome) -> str:
    ledger = home.ledger()
    text = ledger.export().model_dump_json()
    ledger.close()
    return re.sub(r"[0-9a-f]{32,}", "#", text)


@pytest.mark.parametrize("years", [-1, 1])
def test_a_clock_that_is_moved_by_a_year_changes_no_spend(
    after_one_round: Schools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    exports = []
    for moved in (0.0, years * 365.25 * 86_400):
        schools = after_one_round.copied(tmp_path / str(moved))
        with monkeypatch.context() as patched:
            move_clock(patched, moved)
            schools.go_on(2)
            patched.undo()
            schools.go_on(3)
        exports.append(masked_export(schools.oak))
    assert exports[0] == exports[1]


def move_clock(patched: pytest.MonkeyPatch, seconds: float) -> None:
    """What Python says of the time of day, from now on."""
    now, now_ns = time.time, time.time_ns

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Moved":
            return cls.fromtimestamp(time.time(), tz)

    patched.setattr(time, "time", lambda: now() + seconds)
    patched.setattr(time, "time_ns", lambda: now_ns() + int(seconds * 1e9))
    patched.setattr(datetime, "datetime", Moved)
