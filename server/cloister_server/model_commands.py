"""``cloister coordinator models …``: versions, where they come from, which are served."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloister_server.arguments import Folder
from cloister_server.delivery import Deliveries
from cloister_server.home import CoordinatorHome
from cloister_server.registry import Choice, Version
from cloister_shared.kit import Standing
from cloister_shared.model_manifest import pseudonym
from cloister_shared.printing import AsJson, print_json, show

models = typer.Typer(help="The consortium's model versions.", no_args_is_help=True)

VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, or how it begins.")]


@models.command("list")
def list_models(folder: Folder, as_json: AsJson = False) -> None:
    """Show all versions, the oldest first, and which of them nodes are to serve."""
    home = CoordinatorHome.open(folder)
    registry = home.models()
    versions, choice = registry.versions(), registry.active()
    if as_json:
        print_json({"models": [_line(one, choice) for one in versions]})
        return
    table = Table("version", "model", "run", "rounds", "ε", "made", "")
    for one in versions:
        line = _line(one, choice)
        table.add_row(
            line["version"][:12],
            line["model"],
            escape(line["run"]),
            str(line["rounds"]),
            "∞" if line["epsilon"] is None else f"{line['epsilon']:.3f}",
            line["made"],
            "active" if line["active"] else "",
        )
    Console().print(table)


@models.command("show")
def show_model(folder: Folder, version: VersionName, as_json: AsJson = False) -> None:
    """Verify a version and show its lineage, and which nodes have it."""
    home = CoordinatorHome.open(folder)
    registry = home.models()
    found, choice = registry.get(version), registry.active()
    registry.weights(found)
    manifest, claim = found.manifest, found.manifest.claim
    document = {
        **_line(found, choice),
        "plan": manifest.plan,
        "weights_sha256": manifest.weights,
        "parameters": manifest.spec.dimension,
        "participants": list(manifest.participants),
        "parent": manifest.parent or "none: public initial weights",
        "epsilon_pld": None if claim is None else claim.epsilon_pld,
        "delta": None if claim is None else claim.delta,
        "audit_sha256": manifest.audit or "none",
        "signed_by": found.signed.key,
        "pseudonyms": _names(home, manifest.participants),
    }
    show("The signature fits", document, as_json)


@models.command()
def promote(
    folder: Folder,
    version: Annotated[list[str], typer.Argument(metavar="VERSION...", help="One of a kind.")],
    as_json: AsJson = False,
) -> None:
    """Let all nodes serve these versions, in place of the active ones of their kinds.

    Promoting an active version once more sends it to all nodes once more.
    """
    home = CoordinatorHome.open(folder)
    registry = home.models()
    wanted = {registry.get(name).manifest.version for name in version}
    choice = registry.promote(wanted)
    Deliveries(home).forget(wanted)
    show("Nodes get these models", _served(home, choice), as_json)


@models.command()
def rollback(folder: Folder, as_json: AsJson = False) -> None:
    """Let all nodes serve again what they served before the last promotion."""
    home = CoordinatorHome.open(folder)
    show("Nodes go back to these models", _served(home, home.models().rollback()), as_json)


def _line(version: Version, choice: Choice | None) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "version": manifest.version,
        "model": manifest.kind,
        "run": manifest.run,
        "rounds": manifest.round,
        "epsilon": None if manifest.claim is None else manifest.claim.epsilon,
        "made": f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        "active": choice is not None and manifest.version in choice.models.values(),
    }


def _names(home: CoordinatorHome, participants: tuple[str, ...]) -> dict[str, str]:
    """The operator alone is told whose pseudonyms these are."""
    members = {pseudonym(one.signing_key): one.name for one in home.directory().members()}
    return {one: members.get(one, "no member") for one in participants}


def _served(home: CoordinatorHome, choice: Choice) -> dict[str, Any]:
    deliveries = Deliveries(home)
    waiting = [
        one.name
        for one in home.directory().members()
        if one.standing is Standing.APPROVED and deliveries.missing(one.name, choice)
    ]
    return {**choice.models, "nodes_that_get_them_now_or_when_they_come_back": waiting}
