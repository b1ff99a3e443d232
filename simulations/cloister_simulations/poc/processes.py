"""The processes of a consortium on this machine, found by its folder alone.

What is up is ``cloister coordinator up`` and ``cloister node up``, each a tree of its own. Nothing
of the homes is opened here: whatever is broken in one, it can be ended and removed.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloister_client.up_commands import tree_of
from cloister_shared.errors import ConfigError
from cloister_shared.process_tree import ProcessTree
from cloister_simulations.claims import DATA, NODES_DIRECTORY, SETTINGS

COORDINATOR, AUDIT = "coordinator", "audit.json"


def require_consortium(folder: Path) -> None:
    """Raise ``ConfigError`` if the folder holds no consortium."""
    if not (folder / COORDINATOR).is_dir():
        raise ConfigError(f"{folder} holds no consortium; cloister poc up {folder} makes one")


def schools(folder: Path) -> dict[str, Path]:
    """The folders of the nodes that were made, by name."""
    nodes = folder / NODES_DIRECTORY
    return {path.name: path for path in sorted(nodes.glob("[!.]*")) if path.is_dir()}


def start_coordinator(folder: Path) -> None:
    """Bring the coordinator up unless it is; ``ServiceError`` if it cannot be."""
    _start(folder / COORDINATOR, "coordinator")


def start_nodes(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Bring the nodes up, all at once; gives something for each that is.

    Raises ``ServiceError`` if one cannot be.
    """
    homes = [folder / NODES_DIRECTORY / name for name in names]
    with ThreadPoolExecutor(max_workers=len(homes)) as several:
        yield from several.map(lambda home: _start(home, "node"), homes)


def members(folder: Path) -> dict[str, ProcessTree]:
    """The process trees of all members by name."""
    homes = {COORDINATOR: folder / COORDINATOR, **schools(folder)}
    return {name: tree_of(path) for name, path in homes.items()}


def take_down(folder: Path) -> list[str]:
    """End the processes of all members; which of them were up."""
    trees = members(folder)
    with ThreadPoolExecutor(max_workers=len(trees)) as several:
        was_up = several.map(ProcessTree.stop, trees.values())
        return sorted(name for name, was in zip(trees, was_up, strict=True) if was)


def remove(folder: Path) -> None:
    """Remove what was made of the consortium in the folder, and the folder if nothing is left."""
    for name in (NODES_DIRECTORY, COORDINATOR):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (AUDIT, DATA, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _start(home: Path, role: str) -> None:
    tree = tree_of(home)
    if not tree.processes():
        tree.run_in_background((role, "up", str(home)))
