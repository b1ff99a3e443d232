"""The clients of a fleet: loaded a few at a time, from memory or from files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_shared.errors import DataError

Data = TypeVar("Data")

_FIELDS = {"items": "<i4", "correct": "<f4", "when": "<f8"}


@dataclass(frozen=True, slots=True)
class Client(Generic[Data]):
    """One client: its place among all, its public size, and what it trains on."""

    number: int
    declared_size: int
    data: Data


class Clients(Protocol[Data]):
    """All clients of a fleet."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def declared_size(self) -> int:
        """The sum of all clients' public sizes."""

    def load(self, numbers: Sequence[int]) -> list[Client[Data]]:
        """The clients with these numbers; nothing is kept."""


@dataclass(frozen=True)
class MemoryClients(Generic[Data]):
    """Clients that are held anyway."""

    clients: Sequence[Client[Data]]

    def __len__(self) -> int:
        return len(self.clients)

    @property
    def declared_size(self) -> int:
        """The sum of all clients' public sizes."""
        return sum(client.declared_size for client in self.clients)

    def load(self, numbers: Sequence[int]) -> list[Client[Data]]:
        """The clients with these numbers."""
        return [self.clients[number] for number in numbers]


class FileClients:
    """Clients of histories in a folder of flat files, of which only what is asked is read.

    ``write`` makes the folder from a stream. The index, 20 bytes a client and 8 a learner, is all
    that memory holds.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._ends = np.load(folder / "ends.npy")
            self._last = np.cumsum(np.load(folder / "learners.npy"))
            self._sizes = np.load(folder / "sizes.npy")
            self._skills = int((folder / "skills_per_answer").read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no clients: {error}") from error
        self._folder = folder

    @staticmethod
    def write(folder: Path, clients: Iterable[tuple[int, Sequence[History]]], skills: int) -> None:
        """Write (declared size, histories) of each client; an answer has at most ``skills``."""
        folder.mkdir(parents=True)
        ends, learners, sizes = [], [], []
        fields = {**_FIELDS, "skills": "<i4"}
        streams = {name: (folder / name).open("wb") for name in fields}
        total = 0
        for size, histories in clients:
            for history in histories:
                padded = np.full((len(history), skills), -1, dtype=np.int32)
                padded[:, : history.skills.shape[1]] = history.skills
                for name, stream in streams.items():
                    values = padded if name == "skills" else getattr(history, name)
                    stream.write(values.astype(fields[name]).tobytes())
                total += len(history)
                ends.append(total)
            learners.append(len(histories))
            sizes.append(size)
        for stream in streams.values():
            stream.close()
        for name, values in (("ends", ends), ("learners", learners), ("sizes", sizes)):
            np.save(folder / f"{name}.npy", np.array(values, dtype=np.int64))
        (folder / "skills_per_answer").write_text(str(skills))

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def declared_size(self) -> int:
        """The sum of all clients' public sizes."""
        return int(self._sizes.sum())

    def load(self, numbers: Sequence[int]) -> list[Client[Sequence[History]]]:
        """Read the clients with these numbers; neighbours are read at once."""
        wanted = np.asarray(numbers, dtype=np.int64)
        found: list[Client[Sequence[History]]] = []
        for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1):
            first = self._first_learner(int(run[0]))
            histories = self._histories(first, int(self._last[run[-1]]))
            for number in map(int, run):
                own = slice(self._first_learner(number) - first, int(self._last[number]) - first)
                found.append(Client(number, int(self._sizes[number]), histories[own]))
        return found

    def _first_learner(self, number: int) -> int:
        return int(self._last[number - 1]) if number else 0

    def _histories(self, first: int, last: int) -> list[History]:
        """Histories of learners [first, last)."""
        start = int(self._ends[first - 1]) if first else 0
        bounds = np.concatenate([[start], self._ends[first:last]]) - start
        items, correct, when = (
            self._read(name, kind, start, int(bounds[-1])) for name, kind in _FIELDS.items()
        )
        skills = self._read("skills", "<i4", start * self._skills, int(bounds[-1]) * self._skills)
        whole = History(items, skills.reshape(-1, self._skills), correct, when)
        return [whole[begin:end] for begin, end in pairwise(bounds)]

    def _read(self, name: str, kind: str, start: int, count: int) -> NDArray[Any]:
        """``count`` values from ``start`` on; read, not mapped: mapped pages would count."""
        size = np.dtype(kind).itemsize
        return np.fromfile(self._folder / name, dtype=kind, count=count, offset=start * size)
