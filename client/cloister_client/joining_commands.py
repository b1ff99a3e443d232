"""``cloister node join`` and ``preflight``: into a consortium, and what is still in the way."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_client.joining import join as join_consortium
from cloister_client.preflight import Finding
from cloister_client.preflight import preflight as examine
from cloister_shared.asking import Fingerprint, ask_fingerprint
from cloister_shared.errors import ServiceError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.kit import SignedKit
from cloister_shared.printing import AsJson, print_json, show


def join(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The file that the operator sent.")],
    folder: Folder,
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="The node's settings, a YAML file; for a folder that is no node yet."),
    ] = None,
    fingerprint: Fingerprint = None,
    as_json: AsJson = False,
) -> None:
    """Join a consortium with a kit; the node is made first if there is none in DIR.

    Its private keys are made here and stay here. Call the operator: they read you the coordinator's
    fingerprint, and you read them this node's.
    """
    signed = SignedKit.load(kit)
    signed.require_in_time()
    read_out = ask_fingerprint(fingerprint, "the coordinator")
    answer = join_consortium(signed, read_out, folder, config)
    home = NodeHome.open(folder)
    document = {
        "node": answer.node,
        "consortium": answer.consortium,
        "standing": answer.standing.value,
        "fingerprint_of_this_node": node_fingerprint(
            home.signing_key().public, home.transport_public_key()
        ),
        "coordinator": f"{signed.kit.host}:{signed.kit.port}",
    }
    show("Joined; now read this node's fingerprint to the operator", document, as_json)


def preflight(folder: Folder, as_json: AsJson = False) -> None:
    """Check all that a node needs to take part: problem by problem, and what to do about each."""
    findings = examine(folder)
    problems = [one.check for one in findings if one.problem]
    if as_json:
        checks = [one.model_dump(mode="json") for one in findings]
        print_json({"ready": not problems, "checks": checks})
    else:
        _print(findings)
    if problems:
        raise ServiceError(
            f"this node cannot take part yet: {', '.join(problems)}; do what the table says and "
            "run preflight again"
        )


def _print(findings: list[Finding]) -> None:
    table = Table("check", "problem", "what to do")
    for one in findings:
        table.add_row(one.check, escape(one.problem) or "none", escape(one.fix))
    Console().print(table)
