"""An arm's audit: the code that trained it is attacked before its run counts as done."""

from pathlib import Path

from cloister_client.audit.commands import MANY
from cloister_client.audit.one_run import audit_mechanism
from cloister_server.release_gate import require_audit
from cloister_shared.durable import write_durably
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.audit_report import AuditReport, SignedAudit
from cloister_simulations.nodes import SimulatedNodes
from cloister_simulations.progress import Reporter

AUDIT = "audit.json"
"""Where an arm's folder has its signed report, beside the checkpoint."""


def audit_arm(
    plan: Plan, nodes: SimulatedNodes, file: Path, delta: float, reporter: Reporter
) -> tuple[AuditReport, ...]:
    """What an audit of the plan's models with noise found; made once, and kept in ``file``.

    Signed by one of the nodes. Raises ``PolicyError`` where a coordinator would release nothing:
    then too the report is kept, and the audit is not made again until it is removed.
    """
    keys = [nodes.node(name).key for name in nodes.names]
    if not file.exists():
        reports = _reports(plan, delta, reporter)
        signed = SignedAudit.sign(reports, keys[0]).model_dump_json(indent=1)
        write_durably(file, signed.encode())
    require_audit(plan, file, {key.public for key in keys})
    return SignedAudit.model_validate_json(file.read_bytes()).reports


def _reports(plan: Plan, delta: float, reporter: Reporter) -> tuple[AuditReport, ...]:
    private = [model for model in plan.models if model.mechanism.is_private]
    reporter.begin(f"audit {plan.run}", len(private))
    reports = []
    for number, model in enumerate(private, start=1):
        reports.append(_report(model, delta))
        reporter.reach(number)
    return tuple(reports)


def _report(model: ModelPlan, delta: float) -> AuditReport:
    """Where the audit is sharpest: one step on all canaries, with noise of multiplier 1."""
    sharpest = model.mechanism.model_copy(update={"noise_multiplier": 1.0, "sampling_rate": 1.0})
    return audit_mechanism(model.spec.kind, sharpest, steps=1, delta=delta, canaries=MANY)
