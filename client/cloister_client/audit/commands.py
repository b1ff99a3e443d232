"""``cloister audit privacy``: canaries in the real training, beside what is claimed."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from cloister_client.audit.canaries import CANARIES
from cloister_client.home import NodeHome
from cloister_shared.errors import ConfigError, PolicyError
from cloister_shared.frozen import describe
from cloister_shared.printing import AsJson, print_json
from cloister_shared.privacy.audit_report import AuditReport, SignedAudit
from cloister_shared.privacy.mechanism import Mechanism


def audit_privacy(
    *,
    kind: Annotated[
        str | None, typer.Option(help="Model kind; all that there are if it is not given.")
    ] = None,
    noise_multiplier: Annotated[float, typer.Option(help="As in the plan.")] = 1.0,
    clip_norm: Annotated[float, typer.Option(help="As in the plan.")] = 0.5,
    noise: Annotated[str, typer.Option(help="gaussian or discrete_gaussian.")] = "gaussian",
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 1,
    delta: Annotated[float, typer.Option(help="At which ε is told.")] = 1e-6,
    canaries: Annotated[int, typer.Option(min=1000, help="Made-up learners.")] = 100_000,
    node: Annotated[
        Path | None, typer.Option(help="A node's folder, with whose key the report is signed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the signed report goes; must not exist.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try to tell from one round's weights which canaries took part; no learner's data is read.

    Shows the ε that the attack proves (wrong once in 1000 times at most) beside the one claimed.
    Ends with 8 if it proves more than is claimed.
    """
    if (node is None) != (output is None):
        raise ConfigError("a report is signed and written with both --node and --output")
    mechanism = _mechanism(noise_multiplier, clip_norm, noise)
    home = NodeHome.open(node) if node else None
    # Imported where it is asked for: it brings torch, and every other command starts without.
    from cloister_client.audit.one_run import audit_mechanism  # noqa: PLC0415

    reports = tuple(
        audit_mechanism(one, mechanism, steps=steps, delta=delta, canaries=canaries)
        for one in ([kind] if kind else CANARIES)
    )
    if home and output:
        _write(output, SignedAudit.sign(reports, home.signing_key()))
    _show(reports, as_json)
    _require(reports)


def _mechanism(noise_multiplier: float, clip_norm: float, noise: str) -> Mechanism:
    given = {"noise_multiplier": noise_multiplier, "clip_norm": clip_norm, "noise": noise}
    try:
        return Mechanism.model_validate({**given, "sampling_rate": 1.0})
    except ValidationError as error:
        raise ConfigError(f"this mechanism cannot be audited: {describe(error)}") from error


def _write(file: Path, audit: SignedAudit) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(audit.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def _show(reports: tuple[AuditReport, ...], as_json: bool) -> None:
    if as_json:
        print_json({"reports": [report.model_dump(mode="json") for report in reports]})
        return
    table = Table("model", "ε claimed", "ε found at least", "right guesses", "canaries", "")
    for report in reports:
        table.add_row(
            report.kind,
            f"{report.claim:.3f}",
            f"{report.lower_bound:.3f}",
            f"{report.correct} of {report.guesses}",
            str(report.canaries),
            "holds" if report.holds else "BROKEN",
        )
    first = reports[0]
    Console().print(
        f"{first.event.steps} step(s) of noise multiplier {first.event.noise_multiplier:g} "
        f"({first.noise}), every canary in every step; δ {first.delta:g}, p ≤ {first.p:g}",
        table,
        sep="\n",
    )


def _require(reports: tuple[AuditReport, ...]) -> None:
    broken = [report.kind for report in reports if not report.holds]
    if broken:
        raise PolicyError(
            f"the audit of {' and '.join(broken)} found more than is claimed: nothing that this "
            "code trains may be released",
            "audit",
        )
