"""``cloister coordinator invite`` and ``nodes …``: who takes part."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cloister_server.arguments import Folder, Node
from cloister_server.directory import Member
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_server.overview import NodeView, nodes_of
from cloister_shared.asking import Fingerprint, ask_fingerprint
from cloister_shared.errors import ConfigError, PolicyError
from cloister_shared.fingerprints import require_fingerprint
from cloister_shared.journal import Event
from cloister_shared.kit import PublicName, SignedKit
from cloister_shared.printing import AsJson, print_json, show
from cloister_shared.secret_files import write_secret

nodes = typer.Typer(help="The consortium's nodes.", no_args_is_help=True)


def invite(
    folder: Folder,
    name: Node,
    output: Annotated[
        Path | None, typer.Option(help="Where to write the kit; default: NAME.kit here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a startup kit for a school; it can be used once.

    Send it by a way that only the school reads. Read the fingerprint to its administrator by
    telephone: that is what they know you by.
    """
    _require_name(name)
    home = CoordinatorHome.open(folder)
    file = output or Path(f"{name}.kit")
    if file.exists():
        raise ConfigError(f"{file} exists; delete it, or name another file with --output")
    signed = Invitations(home).issue(name)
    _write(file, signed)
    home.journal().write(Event.INVITED, node=name)
    document = {
        "kit": str(file),
        "node": name,
        "expires": f"{signed.kit.expires:%Y-%m-%d %H:%M} UTC",
        "coordinator_fingerprint": home.fingerprint,
    }
    show("A kit was made", document, as_json)


@nodes.command("list")
def list_nodes(folder: Folder, as_json: AsJson = False) -> None:
    """Show who takes part, who waits to be approved, and whose kit was used more than once.

    Also how long each node's privacy ledger was when it was seen last, whose was put back from a
    backup and waits for its receipt, and who has not got the active models yet.
    """
    home = CoordinatorHome.open(folder)
    invitations = Invitations(home)
    joined = [{**_document(one.member, invitations), **_seen(one)} for one in nodes_of(home)]
    invited = {
        name: f"{expires:%Y-%m-%d %H:%M} UTC" for name, expires in invitations.open().items()
    }
    if as_json:
        print_json({"nodes": joined, "invited": invited})
        return
    if joined:
        _print_nodes(joined)
    else:
        Console().print("No node has joined yet.")
    for name, expires in sorted(invited.items()):
        Console().print(f"{name} was invited; its kit is valid until {expires}", markup=False)


@nodes.command()
def approve(
    folder: Folder, name: Node, fingerprint: Fingerprint = None, as_json: AsJson = False
) -> None:
    """Let a node take part that has joined, once its fingerprint was compared."""
    home = CoordinatorHome.open(folder)
    directory = home.directory()
    member = directory.get(name)
    if member is None:
        raise PolicyError(
            f"no node called {name} has joined; see cloister coordinator nodes list", "node"
        )
    whose = f"the node {name}"
    require_fingerprint(ask_fingerprint(fingerprint, whose), member.fingerprint, whose)
    approved = directory.approve(name)
    keys = approved.fingerprint.replace(" ", "-")
    home.journal().write(Event.APPROVED, node=name, fingerprint=keys)
    show("Approved", _document(approved, Invitations(home)), as_json)


@nodes.command()
def revoke(folder: Folder, name: Node, as_json: AsJson = False) -> None:
    """Shut a node out, at once, also while a run is on; it may be invited again."""
    home = CoordinatorHome.open(folder)
    revoked = home.directory().revoke(name)
    home.journal().write(Event.REVOKED, node=name)
    show("Revoked", _document(revoked, Invitations(home)), as_json)


def _require_name(name: str) -> None:
    try:
        TypeAdapter(PublicName).validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"{name!r} cannot be a node's name; use up to 64 letters, digits, dots, hyphens and "
            "underscores"
        ) from error


def _write(file: Path, signed: SignedKit) -> None:
    try:
        write_secret(file, signed.model_dump_json(indent=1).encode() + os.linesep.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def _document(member: Member, invitations: Invitations) -> dict[str, Any]:
    uses = [use for kit in invitations.uses(member.name) if len(kit) > 1 for use in kit]
    return {
        "name": member.name,
        "standing": member.standing.value,
        "since": f"{member.since:%Y-%m-%d %H:%M} UTC",
        "declared_size": member.declared_size,
        "release": member.release,
        "fingerprint": member.fingerprint,
        "kit_used_more_than_once": [
            f"{use.at:%Y-%m-%d %H:%M} UTC from {use.address} with {use.fingerprint}" for use in uses
        ],
    }


def _seen(node: NodeView) -> dict[str, Any]:
    """What the coordinator noticed of a node in its runs."""
    return {
        "ledger_entries": node.entries,
        "waits_for_a_receipt": node.restoring,
        "models_missing": list(node.missing),
        "models_refused": node.refused,
    }


def _print_nodes(documents: list[dict[str, Any]]) -> None:
    columns = ("name", "standing", "since", "declared size", "release", "ledger entries")
    table = Table(*columns, Column("fingerprint", overflow="fold"))
    for one in documents:
        cells = (one[name.replace(" ", "_")] for name in (*columns, "fingerprint"))
        table.add_row(*("–" if cell is None else escape(str(cell)) for cell in cells))
    console = Console()
    console.print(table)
    for one in documents:
        if one["waits_for_a_receipt"]:
            console.print(
                f"{one['name']} was restored from a backup; its ledger counts as spent until the "
                "next run brings its receipt",
                style="yellow",
                markup=False,
            )
        for kind, code in one["models_refused"].items():
            console.print(f"{one['name']} refused the active {kind}: {code}", markup=False)
        for use in one["kit_used_more_than_once"]:
            console.print(f"The kit of {one['name']} was used: {use}", style="red", markup=False)
