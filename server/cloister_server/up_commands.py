"""``cloister coordinator up``, ``down``, ``status``, and the processes that they keep.

A coordinator is one process tree: the link, which nodes reach, the runner, which does the rounds,
and the console, which shows them.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from cloister_server.arguments import Folder
from cloister_server.home import LOGS, RUNNING, CoordinatorHome
from cloister_server.run_folder import RunFolder
from cloister_shared.journal import Event, Journal
from cloister_shared.printing import AsJson, show
from cloister_shared.process_tree import ProcessTree, cloister, in_words
from cloister_shared.supervision import Child

LINK, RUNNER, CONSOLE = "link", "runner", "console"
_SMALL_HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
"""For link and runner: memory of large bodies goes back to the system at once."""
Background = Annotated[
    bool, typer.Option("--background", help="Return once everything is ready, and go on.")
]


def up(folder: Folder, background: Background = False, as_json: AsJson = False) -> None:
    """Be there for the nodes and do the runs, until `cloister coordinator down` or Ctrl-C."""
    home = CoordinatorHome.open(folder)
    tree = tree_of(home.path)
    if background:
        tree.run_in_background(("coordinator", "up", str(folder)))
        show("The coordinator is up", what_is_up(home, as_json), as_json)
    else:
        tree.run(_children(home))


def down(folder: Folder, as_json: AsJson = False) -> None:
    """End the coordinator's processes, wherever they are: its runs go on at the next `up`."""
    # Nothing of the home is opened: whatever is broken in it, what runs over it can be ended.
    document = {"folder": str(folder), "was_up": tree_of(folder).stop()}
    show("The coordinator is down", document, as_json)


def status(folder: Folder, as_json: AsJson = False) -> None:
    """Say what of the coordinator is up, how its runs stand, and what was refused last."""
    show("Coordinator", what_is_up(CoordinatorHome.open(folder), as_json), as_json)


def link(folder: Folder) -> None:
    """Listen to nodes, in this process; `up` keeps it up together with the runner."""
    from cloister_server.join_route import join_app  # noqa: PLC0415 - a server, only here
    from cloister_server.link import serve_link  # noqa: PLC0415

    home = CoordinatorHome.open(folder)
    journal = Journal(tree_of(home.path).journal(LINK))

    def told(reason: str, peer: str, count: int) -> None:
        journal.write(Event.SHUT_OUT, code=reason, address=peer, count=count)

    address = f"{home.config.listen}:{home.config.port}"
    serve_link(home, join_app(home), told, lambda: _ready(journal, LINK, address))


def runner(folder: Folder) -> None:
    """Do the runs that are wanted, in this process; `up` keeps it up together with the link."""
    from cloister_server.runner import Runner  # noqa: PLC0415 - Flower, only here

    home = CoordinatorHome.open(folder)
    journal = Journal(tree_of(home.path).journal(RUNNER))
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("cloister_server").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _exit)
    _ready(journal, RUNNER)
    Runner(home, journal).run()


def console(folder: Folder) -> None:
    """Show the status page and metrics on loopback, in this process; `up` keeps it up."""
    from cloister_server.console.app import serve_console  # noqa: PLC0415 - a server, only here

    home = CoordinatorHome.open(folder)
    journal = Journal(tree_of(home.path).journal(CONSOLE))
    serve_console(home, lambda address: _ready(journal, CONSOLE, address))


def tree_of(folder: Path) -> ProcessTree:
    """The processes over the home in ``folder``."""
    return ProcessTree(folder / RUNNING, folder / LOGS)


def what_is_up(home: CoordinatorHome, as_json: bool) -> dict[str, Any]:
    """The coordinator's processes, its runs, and the last of what was done and refused."""
    tree = tree_of(home.path)
    processes = tree.processes()
    refusals = tree.entries(RUNNER, Event.REPLY_REFUSED)
    shut_out = tree.entries(LINK, Event.SHUT_OUT)
    document: dict[str, Any] = {
        "consortium": home.config.consortium,
        "up": bool(processes),
        "address": f"{home.config.address}:{home.config.port}",
        "approved_nodes": sorted(home.directory().approved()),
        "runs": {one.name: one.status.phase.value for one in RunFolder.all(home.runs)},
        "last_round": tree.last(RUNNER, Event.ROUND),
        "replies_refused": len(refusals),
        "last_reply_refused": refusals[-1] if refusals else None,
        "peers_shut_out": len(shut_out),
        "last_peer_shut_out": shut_out[-1] if shut_out else None,
        "last_failure": tree.last("supervisor", Event.CHILD_ENDED),
    }
    shown: dict[str, Any] = (
        {name: one.model_dump(mode="json") for name, one in processes.items()}
        if as_json
        else dict(in_words(processes))
    )
    return {**document, "processes": shown}


def _children(home: CoordinatorHome) -> tuple[Child, ...]:
    folder = str(home.path)
    return (
        Child(LINK, cloister("coordinator", LINK, folder), environment=_SMALL_HEAP),
        Child(RUNNER, cloister("coordinator", RUNNER, folder), environment=_SMALL_HEAP),
        Child(CONSOLE, cloister("coordinator", CONSOLE, folder), nice=5),
    )


def _ready(journal: Journal, process: str, address: str = "") -> None:
    fields = {"address": address} if address else {}
    journal.write(Event.READY, process=process, pid=os.getpid(), **fields)


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
