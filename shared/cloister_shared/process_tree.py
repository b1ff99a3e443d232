"""What is up over a home: its processes, how to bring them up and down, what state they are in."""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from signal import Signals
from typing import Literal

from cloister_shared.errors import MEANINGS, ServiceError
from cloister_shared.frozen import Frozen
from cloister_shared.journal import Entry, Event, Journal, read
from cloister_shared.supervision import GRACE_S, Child, ChildStatus, Supervisor, is_up, stop

SUPERVISOR = "supervisor"
OUTPUT = "output.log"
"""What the processes print when they are in the background; it is kept short."""
READY_S = 120.0
"""How long all processes may take until they are ready."""
_LAST = 500
_LOOK_S = 0.2
_TRIES = 3
"""Who has ended so often, each time with a reason, is not waited for."""

State = Literal["ready", "starting", "ended"]


class ProcessState(Frozen):
    """One process: ``ended`` while it waits to be started again.

    ``address`` is where it listens, if it does; ``last_end`` says how it ended the last time.
    """

    state: State
    pid: int | None
    since: datetime
    restarts: int
    address: str | None = None
    last_end: str | None = None


@dataclass(frozen=True)
class ProcessTree:
    """The processes over a home: their lock and status in ``running``, their journals in ``logs``.

    Each of them writes ``READY`` into the journal of its name once it does its work.
    """

    running: Path
    logs: Path

    def run(self, children: tuple[Child, ...]) -> None:
        """Be their supervisor until told to stop; ``ServiceError`` if there is one already."""
        journal = Journal(self.journal(SUPERVISOR))
        Supervisor(self.running, children, journal, self.logs / OUTPUT).run()

    def run_in_background(self, arguments: tuple[str, ...]) -> None:
        """Start ``cloister`` with ``arguments``, which are to do :meth:`run`, and let it go on.

        Returns when all processes are ready. Raises ``ServiceError``, with nothing left running,
        if they are not within two minutes, or one of them ends again and again; what they printed
        is in the file ``output.log``.
        """
        if is_up(self.running) is not None:
            raise ServiceError(f"{self.running.parent} is up already; take it down first")
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.logs / OUTPUT).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                cloister(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._await_ready(process)
        except BaseException:
            process.terminate()  # also before it has children, as at Ctrl-C
            process.wait()
            raise

    def stop(self) -> bool:
        """End all processes; whether any was up."""
        return stop(self.running, GRACE_S + 5.0)

    def processes(self) -> dict[str, ProcessState]:
        """The processes by name; none if they are not up."""
        status = is_up(self.running)
        if status is None:
            return {}
        return {child.name: self._state(child) for child in status.children}

    def journal(self, name: str) -> Path:
        """The journal of a process."""
        return self.logs / f"{name}.jsonl"

    def last(self, name: str, *events: Event) -> Entry | None:
        """The last entry of such an event in the journal of a process."""
        entries = self.entries(name, *events)
        return entries[-1] if entries else None

    def entries(self, name: str, *events: Event) -> list[Entry]:
        """Those entries of such events, oldest first, among the last 500."""
        return [one for one in read(self.journal(name), _LAST) if one["event"] in events]

    def _state(self, child: ChildStatus) -> ProcessState:
        ready = self.last(child.name, Event.READY)
        is_ready = ready is not None and ready.get("pid") == child.pid
        state: State = "ended" if child.pid is None else "ready" if is_ready else "starting"
        address = ready.get("address") if ready is not None and is_ready else None
        return ProcessState(
            state=state,
            pid=child.pid,
            since=child.since,
            restarts=child.restarts,
            address=None if address is None else str(address),
            last_end=None if child.exit_code is None else end_in_words(child.exit_code),
        )

    def _is_ready(self) -> bool:
        found = self.processes()
        return bool(found) and all(one.state == "ready" for one in found.values())

    def _await_ready(self, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + READY_S
        while not self._is_ready():
            is_over = process.poll() is not None or time.monotonic() > end
            if is_over or self._is_hopeless():
                raise ServiceError(f"{self._found()}; {self.logs / OUTPUT} says more")
            time.sleep(_LOOK_S)

    def _is_hopeless(self) -> bool:
        """Whether one ends again and again, and says why: a taken port stays taken."""
        status = is_up(self.running)
        return status is not None and any(
            one.restarts >= _TRIES and one.exit_code in MEANINGS for one in status.children
        )

    def _found(self) -> str:
        """What keeps them from being ready, in a sentence."""
        found = {name: one for name, one in self.processes().items() if one.state != "ready"}
        if not found:
            return "the processes did not start"
        said = [f"{name}: {one.last_end or 'still starting'}" for name, one in found.items()]
        return f"not ready: {', '.join(said)}"


def cloister(*arguments: str) -> tuple[str, ...]:
    """The command line of ``cloister`` with these arguments, run by this Python."""
    return (sys.executable, "-m", "cloister_shared", *arguments)


def end_in_words(exit_code: int) -> str:
    """How a process ended, such as ``ledger broken (exit code 7)`` or ``killed by SIGKILL``."""
    if exit_code < 0:
        return f"killed by {Signals(-exit_code).name}"
    return f"{MEANINGS.get(exit_code, 'unknown')} (exit code {exit_code})"


def in_words(processes: dict[str, ProcessState]) -> dict[str, str]:
    """The processes for people: state, since when, where it listens, how it ended before."""
    return {name: _words(one) for name, one in processes.items()}


def _words(one: ProcessState) -> str:
    parts = [f"{one.state} since {one.since:%Y-%m-%d %H:%M:%S} UTC"]
    if one.pid is not None:
        parts.append(f"process {one.pid}")
    if one.address is not None:
        parts.append(one.address)
    if one.last_end is not None:
        parts.append(f"started again {one.restarts} times, the last end: {one.last_end}")
    return ", ".join(parts)
