"""``cloister node backup`` and ``cloister node restore``."""

from pathlib import Path
from typing import Annotated

import typer

from cloister_client.arguments import Folder
from cloister_client.custody.backup import back_up
from cloister_client.custody.manifest import Manifest
from cloister_client.custody.restore import restore as restore_home
from cloister_client.home import STORE, NodeHome
from cloister_shared.printing import AsJson, show

_ELSEWHERE = "not included: store_url names a database, which has backups of its own"


def backup(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="The backup to write; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write the whole node into one file: records, keys, ledger. Keep it as safe as the node.

    It holds every learner who was not erased before. The node may run meanwhile.
    """
    manifest = back_up(NodeHome.open(folder), file)
    show("Backed up", {"file": str(file), **_about(manifest)}, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="What `cloister node backup` wrote.")],
    folder: Annotated[Path, typer.Argument(help="The node's new folder: new or empty.")],
    as_json: AsJson = False,
) -> None:
    """Make a node of a backup. Its whole budget counts as spent at first.

    What was released after the backup is unknown to it. The coordinator tells it with a later
    request whether that is nothing: then the budget is again what the backup says, otherwise it
    stays spent for good. What learners asked for after the backup has to be entered again. Run one
    copy of a node only.
    """
    manifest = restore_home(file, folder)
    document = {"folder": str(folder), **_about(manifest), "counts_as_spent": True}
    show("Restored; all counts as spent until the coordinator's receipt", document, as_json)


def _about(manifest: Manifest) -> dict[str, str | int]:
    return {
        "name": manifest.node,
        "ledger_entries": manifest.head.length,
        "store": "included" if STORE in manifest.files else _ELSEWHERE,
    }
