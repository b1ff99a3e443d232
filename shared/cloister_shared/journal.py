"""A process's journal: what happened, one JSON object a line, never a word about a learner.

Every event has a fixed list of fields, and a field holds a number or one word: there is no place
for free text, so none for what an error or a peer may have put into it.
"""

import fcntl
import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

Field = str | int | float
Entry = dict[str, Field]
"""``time`` (UTC, ISO 8601), ``event`` and the event's fields."""

MAX_BYTES = 5 * 2**20
"""A journal of this size is kept as ``NAME.1``, in place of the one before, and begun anew."""
_WORD = re.compile(r"[A-Za-z0-9._:/+@\[\]-]{1,128}", re.ASCII)
_LOG = logging.getLogger(__name__)


class Event(StrEnum):
    """What is worth a line."""

    STARTED = "started"
    READY = "ready"
    STOPPED = "stopped"
    CHILD_ENDED = "child ended"
    FAILED = "failed"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    ANSWERED = "answered"
    REFUSED = "refused"
    REPLY_REFUSED = "reply refused"
    SHUT_OUT = "shut out"
    INVITED = "invited"
    JOINED = "joined"
    KIT_REUSED = "kit reused"
    APPROVED = "approved"
    REVOKED = "revoked"
    RUN_STARTED = "run started"
    ROUND = "round"
    RUN_ENDED = "run ended"
    MODEL = "model"


FIELDS: dict[Event, frozenset[str]] = {
    # A process: `process` is its name, `where` a module and line, `error` an exception's class.
    Event.STARTED: frozenset({"process", "pid", "release"}),
    Event.READY: frozenset({"process", "pid", "address"}),
    Event.STOPPED: frozenset({"process", "pid"}),
    Event.CHILD_ENDED: frozenset({"process", "pid", "exit_code", "restart_in_s"}),
    Event.FAILED: frozenset({"process", "error", "where", "exit_code", "run", "round"}),
    # A node: what it was asked and what it said; refused by `code`, before or after it was read.
    Event.CONNECTED: frozenset({"coordinator", "node_id", "clock_offset_s"}),
    Event.DISCONNECTED: frozenset({"coordinator", "code"}),
    Event.ANSWERED: frozenset({"action", "run", "round", "seconds", "bytes_in", "bytes_out"}),
    Event.REFUSED: frozenset({"code", "action", "run", "round", "node"}),
    # A coordinator: whose reply was refused, who was shut out before anything was read.
    Event.REPLY_REFUSED: frozenset({"code", "run", "round", "node"}),
    Event.SHUT_OUT: frozenset({"code", "status", "address", "node", "count"}),
    Event.INVITED: frozenset({"node"}),
    Event.JOINED: frozenset({"node", "address", "fingerprint"}),
    Event.KIT_REUSED: frozenset({"node", "address", "fingerprint"}),
    Event.APPROVED: frozenset({"node", "fingerprint"}),
    Event.REVOKED: frozenset({"node"}),
    Event.RUN_STARTED: frozenset({"run", "round", "rounds", "nodes"}),
    Event.ROUND: frozenset({"run", "round", "seconds", "replies", "refusals", "missing"}),
    Event.RUN_ENDED: frozenset({"run", "round", "code"}),
    # `action` is what became of a version of the model kind `model`: serving or withdrawn.
    Event.MODEL: frozenset({"action", "model", "version"}),
}
"""What may be said of each event."""


class Journal:
    """The journal in the file ``path``; threads may share it, and processes the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()

    def write(self, event: Event, **fields: Field) -> None:
        """Add a line. Raises ``ValueError`` for a field the event does not have, or for free text.

        A journal that cannot be written, as on a full disk, stops nobody's work: what was to be
        told goes to the process's log.
        """
        line = _line(event, fields)
        try:
            with self._lock:
                self._append(line)
        except OSError as error:
            _LOG.warning("%s cannot be written (%s): %s", self._path, error.strerror, line.decode())

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            if os.fstat(descriptor).st_size >= MAX_BYTES:
                self._begin_anew(descriptor)
        finally:
            os.close(descriptor)

    def _begin_anew(self, full: int) -> None:
        """Put the full file aside, unless another process has done so at this moment."""
        fcntl.flock(full, fcntl.LOCK_EX)  # until it is closed
        with suppress(FileNotFoundError):  # put aside already, and nothing written since
            if os.path.samestat(os.stat(self._path), os.fstat(full)):
                self._path.replace(_older(self._path))


def read(path: Path, last: int) -> list[Entry]:
    """The ``last`` entries, oldest first; none where there is no journal.

    A line that was torn by a crash is left out.
    """
    entries: deque[Entry] = deque(maxlen=last)
    for file in (_older(path), path):
        entries.extend(_entries(file))
    return list(entries)


def _entries(file: Path) -> Iterator[Entry]:
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "event" in entry:
            yield entry


def _line(event: Event, fields: dict[str, Any]) -> bytes:
    unknown = sorted(fields.keys() - FIELDS[event])
    if unknown:
        raise ValueError(f"the event {event.value!r} has no field {', '.join(unknown)}")
    for name, value in fields.items():
        if isinstance(value, str) and not _WORD.fullmatch(value):
            raise ValueError(f"the field {name} of {event.value!r} takes one word or a number")
    entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    return json.dumps(entry, allow_nan=False).encode() + b"\n"


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
