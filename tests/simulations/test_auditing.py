"""Simulations in which private arms are audited: a report beside the checkpoint, or no result."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister_shared.errors import PolicyError
from cloister_shared.privacy import release
from cloister_shared.privacy.audit_report import SignedAudit
from cloister_simulations import auditing
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.nodes import simulated_key
from cloister_simulations.progress import Silent
from cloister_simulations.result import SimulationResult

MakeConfig = Callable[..., SimulationConfig]
AUDITED = {"budget": {"epsilon": 8.0, "delta": 1e-5}, "noise": "keyed", "audit": True}


def run(config: SimulationConfig, directory: Path) -> SimulationResult:
    return run_simulation(config, directory, Silent(), "cloister simulate")


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> SimulationConfig:
    return make_config(
        privacy=AUDITED, arms=["federated", "federated_non_private"], baselines=False
    )


def test_arms_with_noise_have_a_signed_report_and_others_none(
    config: SimulationConfig, tmp_path: Path
) -> None:
    private, plain = run(config, tmp_path).arms
    assert plain.audit == ()
    assert not (tmp_path / "federated_non_private" / "audit.json").exists()
    signed = SignedAudit.model_validate_json((tmp_path / "federated" / "audit.json").read_bytes())
    assert signed.is_authentic
    assert signed.reports == private.audit
    (report,) = private.audit
    assert (report.kind, report.event.sampling_rate, report.delta) == ("dkt", 1.0, 1e-5)
    assert 0 < report.lower_bound <= report.claim


def test_a_run_that_resumes_keeps_its_report(config: SimulationConfig, tmp_path: Path) -> None:
    first = run(config, tmp_path)
    assert run(config, tmp_path).arms[0].audit == first.arms[0].audit


def test_code_that_breaks_its_promise_ends_the_run_and_another_try_does_not_help(
    config: SimulationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = release.gaussian
    with monkeypatch.context() as broken:
        broken.setattr(release, "gaussian", lambda source, count: 0 * honest(source, count))
        with pytest.raises(PolicyError, match="proved more than is claimed"):
            run(config, tmp_path)
    with pytest.raises(PolicyError, match="proved more than is claimed"):
        run(config, tmp_path)


def test_a_report_that_no_node_signed_does_not_do(config: SimulationConfig, tmp_path: Path) -> None:
    run(config, tmp_path)
    file = tmp_path / "federated" / auditing.AUDIT
    signed = SignedAudit.model_validate_json(file.read_bytes())
    file.write_text(SignedAudit.sign(signed.reports, simulated_key("a stranger")).model_dump_json())
    with pytest.raises(PolicyError, match="not signed by a node"):
        run(config, tmp_path)


def test_nothing_is_audited_unless_it_is_asked_for(make_config: MakeConfig, tmp_path: Path) -> None:
    quiet = make_config(privacy={**AUDITED, "audit": False}, arms=["federated"], baselines=False)
    (arm,) = run(quiet, tmp_path).arms
    assert arm.audit == ()
    assert not (tmp_path / "federated" / auditing.AUDIT).exists()
