"""``cloister audit privacy``: canaries in the real training, beside what is claimed."""

from collections.abc import Mapping
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
from cloister_shared.plan import Plan
from cloister_shared.printing import AsJson, print_json
from cloister_shared.privacy.audit_report import AuditReport, SignedAudit
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.yaml_config import load_yaml

MANY, FEWER = 100_000, 20_000
"""Canaries where every step reads all of them, and where many steps read some."""

Audited = tuple[str, Mechanism, int]
"""A model kind, its mechanism, and how many steps of it."""


def audit_privacy(
    *,
    kind: Annotated[
        str | None, typer.Option(help="Model kind; all that there are if it is not given.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Audit a plan's own mechanisms, all of their rounds: YAML or JSON."),
    ] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="Of the mechanism; 1 by default.")
    ] = None,
    clip_norm: Annotated[float | None, typer.Option(help="0.5 by default.")] = None,
    noise: Annotated[
        str | None, typer.Option(help="gaussian (by default) or discrete_gaussian.")
    ] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="Share that a step draws; 1 by default, the sharpest.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of training; 1 by default.")] = None,
    delta: Annotated[float, typer.Option(help="At which ε is told.")] = 1e-6,
    canaries: Annotated[
        int | None,
        typer.Option(min=1000, help="Made-up learners; 100,000 by default, 20,000 of a sample."),
    ] = None,
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
    given = {
        "noise_multiplier": noise_multiplier,
        "clip_norm": clip_norm,
        "noise": noise,
        "sampling_rate": sampling_rate,
    }
    mechanism = {name: value for name, value in given.items() if value is not None}
    if plan is None:
        audited = _of_mechanism(kind, mechanism, steps or 1)
    elif mechanism or steps:
        raise ConfigError("a plan has its own mechanisms: give --plan or a mechanism, not both")
    else:
        audited = _of_plan(kind, load_yaml(plan, Plan))
    home = NodeHome.open(node) if node else None
    reports = _audit(audited, delta, canaries)
    if home and output:
        _write(output, SignedAudit.sign(reports, home.signing_key()))
    _show(reports, as_json)
    _require(reports)


def _of_mechanism(kind: str | None, given: Mapping[str, object], steps: int) -> list[Audited]:
    usual = {"noise_multiplier": 1.0, "clip_norm": 0.5, "sampling_rate": 1.0}
    try:
        mechanism = Mechanism.model_validate({**usual, **given})
    except ValidationError as error:
        raise ConfigError(f"this mechanism cannot be audited: {describe(error)}") from error
    return [(one, mechanism, steps) for one in ([kind] if kind else CANARIES)]


def _of_plan(kind: str | None, plan: Plan) -> list[Audited]:
    audited = [
        (model.spec.kind, model.mechanism, model.rounds * model.local.steps)
        for model in plan.models
        if model.mechanism.is_private and kind in (None, model.spec.kind)
    ]
    if not audited:
        raise ConfigError("the plan has no such model with noise: there is nothing to audit")
    return audited


def _audit(audited: list[Audited], delta: float, canaries: int | None) -> tuple[AuditReport, ...]:
    # Imported where it is asked for: it brings torch, and every other command starts without.
    from cloister_client.audit.one_run import audit_mechanism  # noqa: PLC0415

    return tuple(
        audit_mechanism(
            kind,
            mechanism,
            steps=steps,
            delta=delta,
            canaries=canaries or (MANY if mechanism.sampling_rate == 1 else FEWER),
        )
        for kind, mechanism, steps in audited
    )


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
    table = Table("model", "steps", "noise", "canaries", "claimed", "at least", "right", "")
    for report in reports:
        table.add_row(
            report.kind,
            str(report.event.steps),
            f"{report.event.noise_multiplier:g} × clip",
            _drawn(report),
            f"{report.claim:.3f}",
            f"{report.lower_bound:.3f}",
            f"{report.correct}/{report.guesses}",
            "holds" if report.holds else "BROKEN",
        )
    first = reports[0]
    heading = (
        f"ε at δ {first.delta:g} that is claimed, and that canaries prove at least, p ≤ {first.p:g}"
    )
    Console().print(heading, table, sep="\n")


def _drawn(report: AuditReport) -> str:
    """How many canaries there were, and which share of them a step drew."""
    rate = report.event.sampling_rate
    return f"{report.canaries:,}" if rate == 1 else f"{report.canaries:,} × {rate:.3g}"


def _require(reports: tuple[AuditReport, ...]) -> None:
    broken = [report.kind for report in reports if not report.holds]
    if broken:
        raise PolicyError(
            f"the audit of {' and '.join(broken)} found more than is claimed: nothing that this "
            "code trains may be released",
            "audit",
        )
