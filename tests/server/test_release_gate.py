"""No private model is released without the report of an audit that found nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister_server.release_gate import require_audit
from cloister_shared import __version__
from cloister_shared.errors import PolicyError
from cloister_shared.plan import Plan
from cloister_shared.privacy.audit_report import AuditReport, SignedAudit
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.signing import SigningKey

KEY = SigningKey.generate()
KEYS = {KEY.public}
SAMPLED = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1)
DROWNED = SampledGaussian(noise_multiplier=50.0, sampling_rate=1.0, steps=1)


def report(audited: str, **changes: object) -> AuditReport:
    """One that holds."""
    document = {
        "kind": audited,
        "event": SampledGaussian(noise_multiplier=1.0, sampling_rate=1.0, steps=1),
        "clip_norm": 0.5,
        "noise": "gaussian",
        "delta": 1e-6,
        "claim": 4.887,
        "lower_bound": 2.9,
        "p": 1e-3,
        "canaries": 100_000,
        "guesses": 2000,
        "correct": 1897,
        "code_version": __version__,
    }
    return AuditReport.model_validate({**document, **changes})


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*reports: AuditReport, key: SigningKey = KEY) -> Path:
        file = tmp_path / "audit.json"
        file.write_text(SignedAudit.sign(reports, key).model_dump_json())
        return file

    return write


def test_reports_that_hold_for_every_model_open_the_gate(plan: Plan, write: Write) -> None:
    require_audit(plan, write(report("dkt"), report("recommender")), KEYS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lower_bound": 5.0}, "proved more"),
        ({"code_version": "0.0.9"}, "no report on dkt"),
        ({"noise": "discrete_gaussian"}, "no report on dkt"),
        ({"kind": "essays"}, "no report on dkt"),
        ({"event": SAMPLED}, "on all of at least 100,000 canaries"),
        ({"event": DROWNED, "claim": 0.07, "lower_bound": 0.0}, "of a multiplier up to 2"),
        ({"canaries": 20_000}, "at least 100,000 canaries"),
        ({"claim": 40.0, "lower_bound": 39.0}, "claims more than its event costs"),
    ],
)
def test_a_report_of_something_else_or_that_found_something_keeps_it_shut(
    change: dict[str, object], said: str, plan: Plan, write: Write
) -> None:
    file = write(report("dkt", **change), report("recommender"))
    with pytest.raises(PolicyError, match=said) as error:
        require_audit(plan, file, KEYS)
    assert error.value.code == "audit"
    assert "\n" not in str(error.value)


def test_a_better_report_beside_one_that_found_something_does_not_open_it(
    plan: Plan, write: Write
) -> None:
    found = report("dkt", lower_bound=5.0)
    with pytest.raises(PolicyError, match="proved more"):
        require_audit(plan, write(found, report("dkt"), report("recommender")), KEYS)


def test_a_missing_broken_altered_or_foreign_report_keeps_it_shut(
    plan: Plan, write: Write, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="there is no audit's report"):
        require_audit(plan, tmp_path / "nothing.json", KEYS)
    file = write(report("dkt"), report("recommender"), key=SigningKey.generate())
    with pytest.raises(PolicyError, match="not signed by a node"):
        require_audit(plan, file, KEYS)
    file = write(report("dkt", lower_bound=5.0), report("recommender"))
    file.write_text(file.read_text().replace("5.0", "1.0"))
    with pytest.raises(PolicyError, match="altered"):
        require_audit(plan, file, KEYS)
    file.write_text("{}")
    with pytest.raises(PolicyError, match="cannot be read"):
        require_audit(plan, file, KEYS)


@pytest.mark.parametrize(
    ("found", "forged"),
    [
        ('"delta":1e-6', '"delta":0.9'),
        ('"p":0.001', '"p":0.5'),
        ('"correct":1897', '"correct":2001'),
    ],
)
def test_a_report_in_which_whatever_was_found_would_hold_is_none(
    found: str, forged: str, plan: Plan, write: Write
) -> None:
    file = write(report("dkt"), report("recommender"))
    text = file.read_text()
    assert found in text
    file.write_text(text.replace(found, forged))
    with pytest.raises(PolicyError, match="cannot be read"):
        require_audit(plan, file, KEYS)


def test_nothing_is_asked_of_a_plan_that_promises_no_privacy(plan: Plan, tmp_path: Path) -> None:
    models = [model.model_dump() for model in plan.models]
    for model in models:
        model["mechanism"]["noise_multiplier"] = 0.0
    plain = Plan.model_validate({**plan.model_dump(), "models": models})
    require_audit(plain, tmp_path / "nothing.json", KEYS)
