"""Named objects contributed by installed packages through entry points."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from cloister_shared.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name: those of an entry-point group, and those registered in this process.

    Nothing is imported before it is asked for.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._objects: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Add ``value`` in this process; an entry point of the same name is shadowed."""
        self._objects[name] = value

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self._objects, *(e.name for e in entry_points(group=self.group))})

    def get(self, name: str) -> T:
        """Return the object called ``name``; raises ``ConfigError`` naming the known ones."""
        if name not in self._objects:
            self._objects[name] = self._load(name)
        return self._objects[name]

    def _load(self, name: str) -> T:
        for entry in entry_points(group=self.group, name=name):
            return entry.load()  # type: ignore[no-any-return]
        raise ConfigError(
            f"no {self.group.removeprefix('cloister.')} entry is called {name!r}; "
            f"known: {', '.join(self.names())}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
