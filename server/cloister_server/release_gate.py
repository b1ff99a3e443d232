"""What must be there before finished models are released: the report of an audit that holds."""

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from cloister_shared import __version__
from cloister_shared.errors import PolicyError
from cloister_shared.plan import Plan
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.audit_report import (
    SHARP_CANARIES,
    SHARP_NOISE,
    AuditReport,
    SignedAudit,
)

_ROUNDED = 1.001
"""By how much a claim may exceed what its event costs: reports may be rounded."""
HOW = (
    "run `cloister audit privacy --node DIR --output FILE` at a node, then `cloister coordinator "
    "run resume DIR NAME --audit FILE`"
)


def require_audit(plan: Plan, file: Path, keys: Collection[str]) -> None:
    """Raise ``PolicyError`` unless ``file`` has a report that holds for each private model.

    Of this version of the code and the plan's kind of noise, signed with one of ``keys``: those of
    nodes that took part. Nothing is asked of models that promise no privacy.
    """
    private = [model for model in plan.models if model.mechanism.is_private]
    if not private:
        return
    reports = _read(file, keys)
    for model in private:
        _require_one(reports, model.spec.kind, model.mechanism.noise)


def _read(file: Path, keys: Collection[str]) -> tuple[AuditReport, ...]:
    try:
        audit = SignedAudit.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise _refused(f"there is no audit's report {file}; {HOW}") from error
    except (OSError, ValidationError) as error:
        raise _refused(f"{file} cannot be read as an audit's report; {HOW}") from error
    if not audit.is_authentic:
        raise _refused(f"the signature of {file} does not fit: it was altered; {HOW}")
    if audit.key not in keys:
        raise _refused(f"{file} is not signed by a node that took part in a run here; {HOW}")
    return audit.reports


def _require_one(reports: tuple[AuditReport, ...], kind: str, noise: str) -> None:
    found = [one for one in reports if (one.kind, one.noise) == (kind, noise)]
    # A sample, much noise, or few canaries hide much of what an audit could see.
    if not any(one.code_version == __version__ and one.is_sharp for one in found):
        raise _refused(
            f"no report on {kind} with {noise} noise, of a multiplier up to {SHARP_NOISE:g}, on "
            f"all of at least {SHARP_CANARIES:,} canaries, by version {__version__}; {HOW}"
        )
    if not all(one.holds for one in found):
        raise _refused(f"the audit of {kind} proved more than is claimed: find out why first")
    if not all(_is_priced(one) for one in found):
        raise _refused(f"the report on {kind} claims more than its event costs; {HOW}")


def _is_priced(report: AuditReport) -> bool:
    """Whether the claim that nothing was found against is that of the event."""
    return report.claim <= _ROUNDED * epsilon([report.event], report.delta, "pld")


def _refused(reason: str) -> PolicyError:
    return PolicyError(f"the models are not released: {reason}", "audit")
