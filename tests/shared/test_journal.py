import errno
import json
import os
import threading
from pathlib import Path
from stat import S_IMODE

import pytest

from cloister_shared import journal
from cloister_shared.journal import FIELDS, Event, Journal, read


def test_what_is_written_is_read_newest_last(tmp_path: Path) -> None:
    path = tmp_path / "log" / "fleet.jsonl"
    for number in range(5):
        Journal(path).write(Event.ANSWERED, action="train", run="first", round=number)
    entries = read(path, last=2)
    assert [entry["round"] for entry in entries] == [3, 4]
    assert entries[0]["event"] == "answered"


@pytest.mark.parametrize("event", Event)
def test_every_event_has_a_list_of_fields(event: Event, tmp_path: Path) -> None:
    Journal(tmp_path / "all.jsonl").write(event, **dict.fromkeys(FIELDS[event], 1))
    assert read(tmp_path / "all.jsonl", 1)[0].keys() == {"time", "event", *FIELDS[event]}


def test_a_field_that_the_event_does_not_have_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no field learner"):
        Journal(tmp_path / "a.jsonl").write(Event.REFUSED, learner="ann")
    assert read(tmp_path / "a.jsonl", 1) == []


@pytest.mark.parametrize("text", ["", "Ann Smith", "a\nb", '{"a":1}', "x" * 129, "Zoë"])
def test_there_is_no_place_for_free_text(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one word"):
        Journal(tmp_path / "a.jsonl").write(Event.REFUSED, code=text)


@pytest.mark.parametrize("word", ["[::1]:8443", "https://a.b:8443", "2e-3", "a_b", "sha256:0f"])
def test_names_addresses_and_codes_are_words(word: str, tmp_path: Path) -> None:
    Journal(tmp_path / "a.jsonl").write(Event.REFUSED, code=word)
    assert read(tmp_path / "a.jsonl", 1)[0]["code"] == word


def test_no_journal_is_no_entries(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl", 3) == []


def test_a_line_torn_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"event": "ready", "pro\nnull\n')
    Journal(path).write(Event.READY, process="serve")
    assert [entry["process"] for entry in read(path, 5)] == ["serve"]


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    book = Journal(path)

    def write() -> None:
        for number in range(50):
            book.write(Event.ANSWERED, round=number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in path.read_bytes().splitlines()]) == 200


def test_a_peer_cannot_fill_the_disk_by_being_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 2_000)
    path = tmp_path / "a.jsonl"
    for number in range(200):
        Journal(path).write(Event.SHUT_OUT, code="key", count=number)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5_000
    assert read(path, 1)[0]["count"] == 199


@pytest.mark.parametrize("others", [(Event.REVOKED,), (Event.REVOKED, Event.INVITED)])
def test_two_processes_that_find_the_journal_full_put_it_aside_once(
    others: tuple[Event, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 100)
    path, write = tmp_path / "a.jsonl", os.write

    def write_while_another_process_does(descriptor: int, line: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        written = os.write(descriptor, line)
        for event in others:
            Journal(path).write(event, node="oak")
        return written

    monkeypatch.setattr(os, "write", write_while_another_process_does)
    Journal(path).write(Event.APPROVED, node="elm", fingerprint="f" * 100)
    assert [one["event"] for one in read(path, 9)] == [Event.APPROVED, *others]
    assert caplog.text == ""


def test_a_journal_on_a_full_disk_stops_nobodys_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    Journal(tmp_path / "a.jsonl").write(Event.REFUSED, code="budget")
    assert "No space left" in caplog.text
    assert '"code": "budget"' in caplog.text


def test_only_its_owner_can_read_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "log" / "a.jsonl"
    Journal(path).write(Event.STARTED, process="fleet")
    assert S_IMODE(path.stat().st_mode) == 0o600
    assert S_IMODE(path.parent.stat().st_mode) == 0o700
