"""``cloister node up`` and ``down``, the processes that they keep, and what they say of themselves.

A node is one process tree: the service, and for a member of a consortium the fleet process, which
talks to the coordinator and has the trainer do the work.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister_client.arguments import Folder
from cloister_client.home import LOGS, RUNNING, NodeHome
from cloister_shared.journal import Entry, Event, Journal
from cloister_shared.printing import AsJson, show
from cloister_shared.process_tree import ProcessTree, cloister, in_words
from cloister_shared.supervision import Child

FLEET, SERVE, TRAINER = "fleet", "serve", "trainer"
Background = Annotated[
    bool, typer.Option("--background", help="Return once everything is ready, and go on.")
]


def up(folder: Folder, background: Background = False, as_json: AsJson = False) -> None:
    """Serve, and take part in the consortium's rounds, until `cloister node down` or Ctrl-C."""
    home = NodeHome.open(folder)
    tree = tree_of(folder)
    if background:
        tree.run_in_background(("node", "up", str(folder)))
        _show_up(home, as_json)
    else:
        tree.run(_children(home))


def down(folder: Folder, as_json: AsJson = False) -> None:
    """End the node's processes, wherever they are: the privacy ledger misses nothing."""
    # Nothing of the home is opened: whatever is broken in it, what runs over it can be ended.
    document = {"folder": str(folder), "was_up": tree_of(folder).stop()}
    show("The node is down", document, as_json)


def fleet(folder: Folder) -> None:
    """Take part in the consortium's rounds, in this process; `up` keeps it and the service up."""
    from cloister_client.fleet.process import take_part  # noqa: PLC0415 - Flower, only here

    take_part(NodeHome.open(folder))


def announce_ready(home: NodeHome, process: str, address: str) -> None:
    """Say in its journal that a process is ready at ``address``."""
    journal = Journal(tree_of(home.path).journal(process))
    journal.write(Event.READY, process=process, pid=os.getpid(), address=address)


def tree_of(folder: Path) -> ProcessTree:
    """The processes over the home in ``folder``."""
    return ProcessTree(folder / RUNNING, folder / LOGS)


def what_is_up(home: NodeHome, as_json: bool) -> dict[str, Any]:
    """Whether the node is up, its processes, and the last of what it did for the consortium."""
    tree = tree_of(home.path)
    processes = tree.processes()
    link = home.coordinator()
    connection = tree.last(FLEET, Event.CONNECTED, Event.DISCONNECTED)
    refusals = sorted(
        (*tree.entries(FLEET, Event.REFUSED), *tree.entries(TRAINER, Event.REFUSED)), key=_time
    )
    failures = (
        *tree.entries(TRAINER, Event.FAILED),
        *tree.entries(FLEET, Event.FAILED, Event.DISCONNECTED, Event.CHILD_ENDED),
    )
    document: dict[str, Any] = {
        "up": bool(processes),
        "coordinator": None if link is None else link.address,
        "connected": FLEET in processes
        and connection is not None
        and connection["event"] == Event.CONNECTED,
        "last_answer": tree.last(FLEET, Event.ANSWERED),
        "refusals": len(refusals),
        "last_refusal": refusals[-1] if refusals else None,
        "last_failure": max(failures, key=_time, default=None),
    }
    if as_json:
        shown: dict[str, Any] = {
            name: one.model_dump(mode="json") for name, one in processes.items()
        }
        return {**document, "processes": shown}
    return {**document, "processes": in_words(processes)}


def _time(entry: Entry) -> str:
    return str(entry["time"])


def _children(home: NodeHome) -> tuple[Child, ...]:
    names = (SERVE,) if home.coordinator() is None else (SERVE, FLEET)
    return tuple(Child(name, cloister("node", name, str(home.path))) for name in names)


def _show_up(home: NodeHome, as_json: bool) -> None:
    document = {"name": home.config.name, **what_is_up(home, as_json)}
    show("The node is up", document, as_json)
