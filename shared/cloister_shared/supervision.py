"""One process tree: a supervisor that starts its children, starts them again, and ends them.

A child that ends is started again after 1 s, and ever later up to 30 s if it goes on ending soon.
Should the supervisor be killed, the system ends its children (Linux).
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from pydantic import AwareDatetime, ValidationError

from cloister_shared.durable import write_atomically
from cloister_shared.errors import ServiceError
from cloister_shared.frozen import Frozen
from cloister_shared.journal import Event, Journal
from cloister_shared.output_log import keep_short

LOCK, STATUS = "up.lock", "status.json"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
STEADY_S = 60.0
"""A child that ran for this long is started again without delay, whatever was before."""
GRACE_S = 15.0
"""How long a child may take to end after SIGTERM before it is killed."""
_LOOK_S = 0.1
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Child:
    """A process to keep up. ``nice`` lowers its priority, ``environment`` is added to ours."""

    name: str
    command: tuple[str, ...]
    nice: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


class ChildStatus(Frozen):
    """A child as its supervisor sees it; ``pid`` is ``None`` while it waits to be started again.

    ``exit_code`` is that of its last end; a negative one is the signal that killed it.
    """

    name: str
    pid: int | None
    since: AwareDatetime
    restarts: int
    exit_code: int | None


class Status(Frozen):
    """A supervisor that is up."""

    pid: int
    since: AwareDatetime
    children: tuple[ChildStatus, ...] = ()


class Supervisor:
    """Keeps ``children`` up. ``folder`` holds its lock and status; its journal is ``journal``.

    ``output`` is a file that they may print into; it is kept short.
    """

    def __init__(
        self, folder: Path, children: tuple[Child, ...], journal: Journal, output: Path
    ) -> None:
        self._folder, self._output = folder, output
        self._kept = [_Kept(child, journal) for child in children]
        self._since = _now()
        self._stopping = False

    def run(self) -> None:
        """Start the children and keep them up until SIGTERM, SIGINT or SIGHUP; then end them all.

        Raises ``ServiceError`` if another supervisor is up in this folder. To be called in the main
        thread of a process with no other thread.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(self._folder), self._told_to_stop():
            # One of a supervisor that was killed names a process that may be anybody's by now.
            (self._folder / STATUS).unlink(missing_ok=True)
            try:
                self._keep_up()
            finally:
                self._end()
                (self._folder / STATUS).unlink(missing_ok=True)

    def _keep_up(self) -> None:
        shown: Status | None = None
        while not self._stopping:
            for kept in self._kept:
                kept.look()
            keep_short(self._output)
            status = Status(
                pid=os.getpid(), since=self._since, children=tuple(k.status() for k in self._kept)
            )
            if status != shown:
                write_atomically(self._folder / STATUS, status.model_dump_json(indent=1).encode())
                shown = status
            time.sleep(_LOOK_S)

    def _end(self) -> None:
        for kept in self._kept:
            kept.ask_to_end()
        end = time.monotonic() + GRACE_S
        for kept in self._kept:
            kept.end_by(end)

    @contextmanager
    def _told_to_stop(self) -> Iterator[None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stopping = True

        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {one: signal.signal(one, stop) for one in signals}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


class _Kept:
    """One child, its process and when to start it again."""

    def __init__(self, child: Child, journal: Journal) -> None:
        self._child, self._journal = child, journal
        self._process: subprocess.Popen[bytes] | None = None
        self._since = _now()
        self._began = self._due = time.monotonic()
        self._failures = self._restarts = 0
        self._exit_code: int | None = None

    def look(self) -> None:
        """Notice its end; start it when it is due."""
        if self._process is not None and self._process.poll() is not None:
            self._note_end(self._process)
        if self._process is None and time.monotonic() >= self._due:
            self._start()

    def status(self) -> ChildStatus:
        return ChildStatus(
            name=self._child.name,
            pid=None if self._process is None else self._process.pid,
            since=self._since,
            restarts=self._restarts,
            exit_code=self._exit_code,
        )

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def end_by(self, end: float) -> None:
        """Wait until ``end`` (monotonic), then kill."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._process = _start(self._child)
        self._since, self._began = _now(), time.monotonic()
        self._journal.write(Event.STARTED, process=self._child.name, pid=self._process.pid)

    def _note_end(self, process: "subprocess.Popen[bytes]") -> None:
        steady = time.monotonic() - self._began >= STEADY_S
        self._failures = 0 if steady else self._failures + 1
        wait = wait_after(self._failures)
        self._process, self._since, self._exit_code = None, _now(), process.returncode
        self._due = time.monotonic() + wait
        self._restarts += 1
        self._journal.write(
            Event.CHILD_ENDED,
            process=self._child.name,
            pid=process.pid,
            exit_code=process.returncode,
            restart_in_s=wait,
        )


def wait_after(failures: int) -> float:
    """Seconds until a child that ended soon for so many times in a row is started again."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** max(0, min(failures, 16) - 1))


def end_with(parent: int) -> None:
    """Have this process sent SIGTERM when ``parent`` is gone, be it gone already (Linux).

    Strictly when the parent's thread is that started it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _start(child: Child) -> "subprocess.Popen[bytes]":
    """The child, in a process group of its own: Ctrl-C in a terminal is the supervisor's."""
    parent = os.getpid()

    def begin() -> None:
        os.nice(child.nice)
        end_with(parent)

    return subprocess.Popen(  # noqa: S603 - our own command
        child.command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **child.environment},
        process_group=0,
        preexec_fn=begin,  # noqa: PLW1509 - this process has one thread; see Supervisor.run
    )


def is_up(folder: Path) -> Status | None:
    """The supervisor that is up in ``folder``, if there is one."""
    lock, status = folder / LOCK, folder / STATUS
    if not lock.exists() or not status.exists():
        return None
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(FileNotFoundError):  # it ends at this moment
                return _read(status)
    return None


def stop(folder: Path, seconds: float = GRACE_S + 5.0) -> bool:
    """End the supervisor in ``folder`` and its children; whether there was one.

    Raises ``ServiceError`` if it is still there after ``seconds``.
    """
    status = is_up(folder)
    if status is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(status.pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while is_up(folder) is not None:
        if time.monotonic() > end:
            raise ServiceError(
                f"the process {status.pid} did not end within {seconds:g} s of being asked to; "
                f"kill -9 {status.pid} ends it, and nothing is lost by that"
            )
        time.sleep(_LOOK_S)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system frees wherever this process ends."""
    with (folder / LOCK).open("a") as file:
        for attempt in range(10):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:  # perhaps somebody looks whether we are up
                if attempt == 9:
                    raise ServiceError(
                        f"{folder.parent} is up already; take it down first"
                    ) from error
                time.sleep(_LOOK_S)
        yield


def _read(path: Path) -> Status:
    try:
        return Status.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ServiceError(
            f"{path} was not written by this release; end the processes that run over "
            f"{path.parent.parent} with the release that started them"
        ) from error


def _now() -> datetime:
    return datetime.now(UTC)
