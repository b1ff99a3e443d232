"""The folder of one run, through which the operator's commands and the runner speak to each other.

Commands write what is wanted of the run, the runner what has become of it. Neither waits for the
other: a runner that was away finds what is wanted when it comes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from cloister_server.checkpoint import RunState, read_checkpoint, save_checkpoint
from cloister_shared.durable import write_durably
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen

ORDER, WANTED, STATUS, AUDIT = "order.yaml", "wanted", "status.json", "audit.json"


class Wanted(StrEnum):
    """What the operator wants of a run."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(StrEnum):
    """What has become of a run; ``FAILED`` stopped by itself and says why."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


class RunStatus(Frozen):
    """What the runner wrote last; ``reason`` is why the run does not go on."""

    phase: Phase
    since: AwareDatetime
    reason: str = ""


@dataclass(frozen=True)
class RunFolder:
    """The folder ``path``, which is called after its run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoint(self) -> Path:
        """The run's plan and state after its last round."""
        return self.path / f"{self.name}.checkpoint"

    @property
    def audit(self) -> Path:
        """The signed report that a private run needs to release its models."""
        return self.path / AUDIT

    @property
    def order(self) -> Path:
        """What the operator ordered."""
        return self.path / ORDER

    @classmethod
    def make(cls, runs: Path, state: RunState, order: str | None = None) -> "RunFolder":
        """A folder in ``runs`` for a run that has not begun; ``ConfigError`` if there is one.

        ``order`` is the document that it was made of.
        """
        folder = cls(runs / state.plan.run)
        try:
            folder.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise ConfigError(
                f"there is a run {folder.name} already; choose another name, or resume it"
            ) from error
        if order is not None:
            write_durably(folder.order, order.encode())
        save_checkpoint(folder.checkpoint, state)
        return folder

    @classmethod
    def all(cls, runs: Path) -> "Iterator[RunFolder]":
        """Every run in the folder ``runs``, by name."""
        folders = (cls(path) for path in sorted(runs.iterdir()) if path.is_dir())
        return (folder for folder in folders if folder.checkpoint.exists())

    @classmethod
    def queue(cls, runs: Path) -> "list[RunFolder]":
        """The runs that are wanted, in the order in which they were asked for.

        They take turns: nodes hold every answer against the ledger's last receipt, which knows one
        order only.
        """
        wanted = [one for one in cls.all(runs) if one.wanted is Wanted.RUNNING]
        return sorted(wanted, key=lambda one: one._asked)

    def state(self) -> RunState:
        """The run after its last round; ``ConfigError`` if it cannot be read."""
        state = read_checkpoint(self.checkpoint)
        if state.plan.run != self.name:
            raise ConfigError(f"{self.checkpoint} is of run {state.plan.run}; put it back")
        return state

    @property
    def wanted(self) -> Wanted:
        """What the operator wants; a run that nobody asked for is to stand still."""
        try:
            return Wanted((self.path / WANTED).read_text("ascii").strip())
        except FileNotFoundError:
            return Wanted.STOPPED
        except ValueError as error:
            raise ConfigError(
                f"{self.path / WANTED} says neither running nor stopped; see cloister coordinator "
                "run resume"
            ) from error

    def want(self, wanted: Wanted) -> None:
        """Ask the runner for it."""
        write_durably(self.path / WANTED, f"{wanted}\n".encode())

    @property
    def _asked(self) -> int:
        """When something was wanted of the run last, in ns."""
        return (self.path / WANTED).stat().st_mtime_ns

    @property
    def status(self) -> RunStatus:
        """What has become of the run; it waits until a runner takes it up."""
        file = self.path / STATUS
        try:
            return RunStatus.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            since = datetime.fromtimestamp(self.checkpoint.stat().st_mtime, UTC)
            return RunStatus(phase=Phase.WAITING, since=since)
        except ValidationError as error:
            raise ConfigError(f"{file} cannot be read; remove it, the runner writes it") from error

    def tell(self, phase: Phase, reason: str = "") -> None:
        """Write what has become of the run."""
        status = RunStatus(phase=phase, since=datetime.now(UTC), reason=reason)
        write_durably(self.path / STATUS, status.model_dump_json(indent=1).encode())
