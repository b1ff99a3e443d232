"""A node in one file and back: whole or not at all, and spent until the coordinator has spoken."""

import io
import itertools
import json
import re
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_client import wishes
from cloister_client.app import node_from_home
from cloister_client.custody.backup import back_up
from cloister_client.custody.manifest import Manifest
from cloister_client.custody.restore import restore
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_server.notary import Notary
from cloister_shared.cli import build_app
from cloister_shared.errors import CloisterError, ConfigError, DataError, LedgerError
from cloister_shared.messages import Refusal, TrainRequest, join, pack, pack_receipts, unpack
from cloister_shared.privacy import verify_ledger
from cloister_shared.signing import SigningKey

from ..schools import BUDGET, Schools, kinds

ROUND = ["RESERVE", "START", "COMMIT"]


@pytest.fixture(scope="module")
def after_two_rounds(tmp_path_factory: pytest.TempPathFactory) -> Schools:
    schools = Schools(tmp_path_factory.mktemp("schools"))
    schools.go_on(2)
    return schools


@pytest.fixture
def schools(after_two_rounds: Schools, tmp_path: Path) -> Schools:
    """After two rounds, each time anew."""
    return after_two_rounds.copied(tmp_path / "schools")


@pytest.fixture
def backup(schools: Schools, tmp_path: Path) -> Path:
    """Oak's, made after two rounds."""
    file = tmp_path / "oak.backup"
    back_up(schools.oak, file)
    return file


def put_back(schools: Schools, backup: Path, name: str = "restored") -> NodeHome:
    """From now on oak is the node that is made of the backup."""
    schools.folders["oak"] = schools.folder / name / "oak"
    schools.folders["oak"].parent.mkdir()
    restore(backup, schools.folders["oak"])
    return schools.oak


def oaks_reason(schools: Schools, until: int) -> str:
    """Why oak's answer to the next round did not count; nothing if it did."""
    (record,) = schools.go_on(until)
    if "oak" in record.participants:
        return ""
    assert schools.asked["oak"] == 0
    (reason,) = record.rejected.values()
    return reason


def test_a_restored_node_has_all_that_was_backed_up(schools: Schools, backup: Path) -> None:
    before = schools.oak
    with before.store() as store:
        counts, pseudonym = store.counts(), store.pseudonym("learner 1")
        histories = [len(one) for one in store.load(store.learners("serve"), "serve")]
    after = put_back(schools, backup)
    assert (after.config, after.curriculum) == (before.config, before.curriculum)
    assert after.api_token() == before.api_token()
    assert after.signing_key().public == before.signing_key().public
    with after.store() as store:
        assert (store.counts(), store.pseudonym("learner 1")) == (counts, pseudonym)
        assert [len(one) for one in store.load(store.learners("serve"), "serve")] == histories
    assert kinds(after) == [*kinds(before), "RESTORE"]


def test_backup_and_restored_home_are_their_owners_alone(schools: Schools, backup: Path) -> None:
    home = put_back(schools, backup)
    private = [backup, *(path for path in home.path.rglob("*") if path.is_file())]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
    assert {path.stat().st_mode & 0o077 for path in (home.path, home.path / "keys")} == {0}


def test_nothing_but_the_backup_is_left_beside_it(backup: Path) -> None:
    assert sorted(path.name for path in backup.parent.iterdir()) == ["oak.backup", "schools"]


def test_what_a_killed_process_left_beside_it_is_in_nobodys_way(
    schools: Schools, tmp_path: Path
) -> None:
    unfinished = tmp_path / ".again.unfinished"
    (unfinished / "parts").mkdir(parents=True)
    (unfinished / "parts" / "store.sqlite").write_bytes(b"half")
    back_up(schools.oak, tmp_path / "again")
    assert not unfinished.exists()


def test_a_restored_node_counts_as_spent_cohorts_to_come_too(
    schools: Schools, backup: Path
) -> None:
    ledger = put_back(schools, backup).ledger()
    assert {ledger.remaining("train", one) for one in ("2024", "2025", "2031")} == {0}
    assert {one.micro for one in ledger.spent().values()} == {BUDGET.limit}
    assert {one.micro for one in verify_ledger(ledger.export()).values()} == {BUDGET.limit}
    _, totals = schools.oak.totals()
    assert totals.restored


def test_if_nothing_was_released_since_the_coordinators_receipt_lifts_it(
    schools: Schools, backup: Path
) -> None:
    home = put_back(schools, backup)
    assert oaks_reason(schools, 3) == "refused: restored"
    assert kinds(home) == [*ROUND * 2, "RESTORE"]
    assert oaks_reason(schools, 4) == ""
    assert kinds(home) == [*ROUND * 2, "RESTORE", "LIFT", *ROUND]
    assert oaks_reason(schools, 5) == ""
    spent = {one.micro for one in home.ledger().spent().values()}
    other = NodeHome.open(schools.folders["elm"]).ledger().spent()
    assert spent == {4 * (one.micro or 0) // 5 for one in other.values()}


def test_if_a_round_was_released_since_the_node_stays_spent_for_good(
    schools: Schools, backup: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schools.go_on(3)
    home = put_back(schools, backup)
    for number in (4, 5, 6):
        assert oaks_reason(schools, number) == "refused: restored"
    assert "what was released after it is unknown here" in caplog.text
    assert kinds(home) == [*ROUND * 2, "RESTORE"]


def test_no_other_receipt_lifts_a_restore_not_even_that_for_the_one_before(
    schools: Schools, backup: Path
) -> None:
    """The same backup is put back twice; the coordinator is asked by the first alone."""
    put_back(schools, backup, "first")
    oaks_reason(schools, 3)
    receipts = Notary.of_folder(schools.folder / "run").receipts()
    home = put_back(schools, backup, "second")
    node = node_from_home(home)
    request = pack(TrainRequest(plan=schools.plan, round=4), join(schools.weights()))
    for sent in (pack_receipts(receipts), b""):
        header, _ = unpack(node.answer_train(request, sent), Refusal)
        assert header.code == "restored"
        assert header.head == node.ledger.head()
    assert kinds(home) == [*ROUND * 2, "RESTORE"]


def test_once_one_of_two_restored_nodes_goes_on_the_other_never_will(
    schools: Schools, backup: Path
) -> None:
    put_back(schools, backup, "first")
    first = schools.folders["oak"]
    oaks_reason(schools, 3)
    second = put_back(schools, backup, "second").path
    schools.folders["oak"] = first
    assert oaks_reason(schools, 4) == ""
    schools.folders["oak"] = second
    for number in (5, 6):
        assert oaks_reason(schools, number) == "refused: restored"


def test_a_backup_of_a_restored_node_is_lifted_like_any(
    schools: Schools, backup: Path, tmp_path: Path
) -> None:
    back_up(put_back(schools, backup), tmp_path / "again")
    home = put_back(schools, tmp_path / "again", "once more")
    assert oaks_reason(schools, 3) == "refused: restored"
    assert oaks_reason(schools, 4) == ""
    assert kinds(home) == [*ROUND * 2, "RESTORE", "RESTORE", "LIFT", *ROUND]


def test_a_copied_home_can_be_backed_up_and_restored_as_the_error_says(
    schools: Schools, tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / "oak"
    shutil.copytree(schools.folders["oak"], copy)
    shutil.rmtree(schools.folders["oak"])
    with pytest.raises(LedgerError, match="use cloister node backup"):
        NodeHome.open(copy).ledger()
    back_up(NodeHome.open(copy), tmp_path / "moved.backup")
    put_back(schools, tmp_path / "moved.backup")
    assert oaks_reason(schools, 3) == "refused: restored"
    assert oaks_reason(schools, 4) == ""


def test_a_wish_of_before_the_backup_holds_in_the_restored_node(
    schools: Schools, tmp_path: Path
) -> None:
    home = schools.oak
    with home.personal_chain() as chain, home.store() as store:
        wishes.erase(chain, store, "learner 1")
    back_up(home, tmp_path / "later")
    restored = put_back(schools, tmp_path / "later")
    with restored.store() as store:
        assert store.pseudonym("learner 1") not in store.learners("serve")
        assert not store.append("learner 1", Interaction("learner 1", "item 1", True, 1.0, "k"))


def test_a_store_elsewhere_is_left_out(schools: Schools, tmp_path: Path) -> None:
    home = schools.oak
    elsewhere = shutil.move(home.path / "store.sqlite", tmp_path / "elsewhere.sqlite")
    config = home.path / "node.yaml"
    url = f"store_url: sqlite:///{elsewhere}"
    config.write_text(config.read_text().replace("store_url: null", url))
    manifest = back_up(schools.oak, tmp_path / "backup")
    assert "store.sqlite" not in manifest.files
    restored = put_back(schools, tmp_path / "backup")
    with restored.store() as store:
        assert store.counts().learners == 6


def test_a_node_is_backed_up_as_it_was_at_one_moment_while_it_goes_on(
    schools: Schools, tmp_path: Path
) -> None:
    """Answers come in all the time; what lies in SQLite's log is in the backup too."""
    begun, stop = threading.Event(), threading.Event()

    def write() -> None:
        with schools.oak.store() as store:
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                store.append("late", Interaction("late", "item 1", True, number, str(number)))
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        back_up(schools.oak, tmp_path / "busy")
    finally:
        stop.set()
        writer.join()
    restored = put_back(schools, tmp_path / "busy")
    with restored.store() as store:
        (late,) = store.load([store.pseudonym("late")], "serve")
        assert len(late) > 0
        np.testing.assert_array_equal(late.when, np.arange(len(late)))


def test_nothing_is_overwritten(schools: Schools, backup: Path) -> None:
    content = backup.read_bytes()
    with pytest.raises(ConfigError, match="overwrites nothing"):
        back_up(schools.oak, backup)
    assert backup.read_bytes() == content
    with pytest.raises(ConfigError, match="is not empty"):
        restore(backup, schools.folders["elm"])
    assert NodeHome.open(schools.folders["elm"]).config.name == "elm"


def test_where_nobody_may_write_is_one_sentence(schools: Schools, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        back_up(schools.oak, tmp_path / "none" / "backup")


def test_an_altered_ledger_is_not_backed_up(schools: Schools, tmp_path: Path) -> None:
    ledger = schools.folders["oak"] / "ledger.sqlite"
    home = schools.oak
    with sqlite3.connect(ledger) as connection:
        connection.execute("DROP TRIGGER entries_stay")
        connection.execute("UPDATE entries SET text = '{}' WHERE sequence = 1")
    connection.close()
    with pytest.raises(LedgerError):
        back_up(home, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


Parts = dict[str, bytes]


def parts_of(backup: Path) -> Parts:
    with tarfile.open(backup) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]


def written(parts: list[tuple[str, bytes]], file: Path, kind: bytes = tarfile.REGTYPE) -> Path:
    """A tar file of these parts; the last may be of another ``kind``."""
    with tarfile.open(file, "w:gz") as tar:
        for number, (name, content) in enumerate(parts, start=1):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if number == len(parts):
                entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(content))
    return file


def resigned(
    parts: Parts, key: SigningKey | None = None, **changes: object
) -> list[tuple[str, bytes]]:
    """The parts under a manifest that was changed, and signed with the node's or another key."""
    manifest = Manifest.model_validate_json(parts["manifest.json"])
    signer = key or SigningKey.from_bytes(parts["keys/signing.key"])
    changed = manifest.model_copy(update={"key": signer.public, **changes}).signed(signer)
    return [*{**parts, "manifest.json": changed.model_dump_json().encode()}.items()]


Forgery = Callable[[Parts], list[tuple[str, bytes]]]
FORGERIES: dict[str, tuple[Forgery, str]] = {
    "a byte of the ledger": (
        lambda parts: [*{**parts, "ledger.sqlite": _flipped(parts["ledger.sqlite"])}.items()],
        "ledger.sqlite is not what was backed up",
    ),
    "a byte of a key": (
        lambda parts: [*{**parts, "keys/role.key": _flipped(parts["keys/role.key"])}.items()],
        "keys/role.key is not what was backed up",
    ),
    "the manifest": (
        lambda parts: [
            *{**parts, "manifest.json": parts["manifest.json"].replace(b'"oak"', b'"elm"')}.items()
        ],
        "its signature does not fit",
    ),
    "no manifest": (lambda parts: [*parts.items()][1:], "does not begin with a manifest"),
    "a part too few": (lambda parts: [*parts.items()][:-1], "other files than its manifest"),
    "a part too many": (
        lambda parts: [*parts.items(), ("../../evil", b"x")],
        "other files than its manifest",
    ),
    "a part twice": (
        lambda parts: [*parts.items(), ("node.yaml", b"x")],
        "other files than its manifest",
    ),
    "a path out of the folder, signed": (
        lambda parts: [
            *resigned(parts, files={**_files(parts), "../evil": "0" * 64}),
            ("../evil", b"x"),
        ],
        "was altered",
    ),
    "no ledger, signed": (
        lambda parts: resigned(
            parts, files={name: one for name, one in _files(parts).items() if "ledger" not in name}
        ),
        "was altered",
    ),
    "another node's manifest": (
        lambda parts: resigned(parts, SigningKey.generate()),
        "not the one that its manifest names",
    ),
    "another head, signed": (
        lambda parts: resigned(parts, head=_manifest(parts).head.model_copy(update={"length": 3})),
        "not the one that its manifest names",
    ),
    "not JSON": (
        lambda parts: [*{**parts, "manifest.json": b"{"}.items()],
        "cannot be read by this version",
    ),
}


def _manifest(parts: Parts) -> Manifest:
    return Manifest.model_validate_json(parts["manifest.json"])


def _files(parts: Parts) -> dict[str, str]:
    return _manifest(parts).files


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(("forge", "said"), FORGERIES.values(), ids=FORGERIES.keys())
def test_a_backup_that_is_not_as_it_was_makes_no_node(
    backup: Path, tmp_path: Path, forge: Forgery, said: str
) -> None:
    forged = written(forge(parts_of(backup)), tmp_path / "forged")
    with pytest.raises(CloisterError, match=said):
        restore(forged, tmp_path / "new" / "oak")
    assert not list((tmp_path / "new").rglob("*"))
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_backup_with_a_link_in_it_makes_no_node(
    backup: Path, tmp_path: Path, kind: bytes
) -> None:
    forged = written([*parts_of(backup).items()], tmp_path / "forged", kind)
    with pytest.raises(DataError):
        restore(forged, tmp_path / "oak")
    assert not (tmp_path / "oak").exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x1f\x8b" + b"\0" * 99])
def test_a_file_that_is_no_backup_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a node's backup"):
        restore(tmp_path / "file", tmp_path / "oak")


def test_a_missing_or_cut_off_backup_is_one_sentence(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        restore(tmp_path / "none", tmp_path / "oak")
    backup.write_bytes(backup.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be read"):
        restore(backup, tmp_path / "oak")
    assert not (tmp_path / "oak").exists()


def test_a_manifest_names_no_learner(backup: Path) -> None:
    text = parts_of(backup)["manifest.json"].decode()
    assert "learner" not in text
    assert set(json.loads(text)) == {"format", "node", "key", "head", "files", "signature"}
    assert re.search(r'"length": ?6', text)


def cloister(*words: str | Path) -> Result:
    return CliRunner().invoke(build_app(), [*map(str, words)], env={"COLUMNS": "200"})


def test_an_operator_is_told_that_a_restored_node_counts_as_spent(
    schools: Schools, tmp_path: Path
) -> None:
    file, folder = tmp_path / "oak.backup", tmp_path / "new" / "oak"
    made = cloister("node", "backup", schools.folders["oak"], file)
    assert made.exit_code == 0, made.output
    assert "included" in made.output
    restored = cloister("node", "restore", file, folder)
    assert "all counts as spent until the coordinator's receipt" in restored.output
    budget = cloister("node", "budget", folder).output
    assert "Restored from a backup: all counts as spent until the coordinator's receipt." in budget
    assert budget.count("100.0%") > 0
    assert cloister("node", "restore", file, folder).exception.exit_code == 3
    assert cloister("node", "restore", tmp_path / "none", tmp_path / "x").exception.exit_code == 4
    assert cloister("node", "backup", folder, file).exception.exit_code == 3
