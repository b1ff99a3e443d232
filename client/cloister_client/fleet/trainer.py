"""The trainer as its parent sees it: a process that holds torch, the store and the ledger, warm.

The parent talks to the network and imports no torch; a long step never holds up its heartbeats.
Bytes go over a pipe, one frame after another: nothing is unpickled on either side.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from cloister_shared.journal import Event, Journal

READY = b"ready"
_END_S = 15.0


class TrainerDied(Exception):  # noqa: N818 - named after what happened
    """The trainer ended before it answered; a charge that it had made stands.

    ``exit_code`` is that of the process, negative for the signal that killed it. ``code`` is the
    journal's word for it.
    """

    code = "crashed"

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the trainer ended with exit code {exit_code}")
        self.exit_code = exit_code


class TrainerHung(TrainerDied):
    """The trainer did not answer in time, and was killed."""

    code = "hung"


class TrainerProcess:
    """The trainer over the node's home in ``folder``; started again whenever it has ended.

    To be used by one thread, the one that its process ends with.
    """

    module = "cloister_client.fleet.training_process"
    """What the process runs; tests run it with a node that can be killed at named points."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self._journal = folder, journal
        self._running: _Running | None = None

    def start(self) -> None:
        """Begin to start it, if it does not run; what it answers first waits until it is warm."""
        self._alive()

    def await_warm(self) -> None:
        """Start it, and return once it is warm, or has ended instead."""
        running = self._alive()
        try:
            running.await_warm()
        except (EOFError, OSError):
            self._note_end(running)

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        """What the node answers to ``action`` (train, evaluate, release) with these frames.

        One that died while it was idle is started first. Raises ``TrainerDied`` if it dies over
        this, ``TrainerHung`` if it has to be killed, as it did not answer within so many seconds;
        the next one is then being started, and the same may be asked again.
        """
        running = self._alive()
        try:
            with running.killed_after(within_s):
                return running.exchange(action, frames)
        except (EOFError, OSError) as error:
            self._note_end(running)
            self.start()
            death = TrainerHung if running.hung.is_set() else TrainerDied
            raise death(running.end()) from error

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._running is None else self._running.process.pid

    def close(self) -> None:
        """End it, wherever it is."""
        if self._running is not None:
            self._running.process.terminate()
            self._running.end()
            self._running = None

    def _alive(self) -> "_Running":
        if self._running is not None and self._running.process.poll() is not None:
            self._note_end(self._running)
        if self._running is None:
            self._running = _started(self.module, self._folder)
            self._journal.write(Event.STARTED, process="trainer", pid=self._running.process.pid)
        return self._running

    def _note_end(self, running: "_Running") -> None:
        code = running.end()
        self._running = None
        self._journal.write(
            Event.CHILD_ENDED, process="trainer", pid=running.process.pid, exit_code=code
        )


@dataclass
class _Running:
    """A trainer's process and our end of its pipe; ``warm`` once it has said so."""

    process: "subprocess.Popen[bytes]"
    pipe: Connection
    warm: bool = False
    hung: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def killed_after(self, seconds: float) -> Iterator[None]:
        """Kill it if this block takes longer: whoever reads from it or writes to it goes on."""
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        self.hung.set()
        self.process.kill()

    def await_warm(self) -> None:
        """Return once it has said so; ``EOFError`` or ``OSError`` if it hangs up."""
        if not self.warm:
            self.warm = self.pipe.recv_bytes() == READY

    def exchange(self, action: str, frames: tuple[bytes, ...]) -> bytes:
        """One question and its answer; ``EOFError`` or ``OSError`` if it hangs up."""
        self.await_warm()
        self.pipe.send_bytes(f"{action} {len(frames)}".encode())
        for frame in frames:
            self.pipe.send_bytes(frame)
        return self.pipe.recv_bytes()

    def end(self) -> int:
        """Hang up; its exit code. It is killed if that does not end it."""
        self.pipe.close()
        try:
            return self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _started(module: str, folder: Path) -> _Running:
    ours, theirs = Pipe()
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-m", module, str(folder), str(descriptor), str(os.getpid())),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            pass_fds=(descriptor,),
        )
    return _Running(process, ours)
