"""``cloister audit privacy`` as an operator types it."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_client.home import NodeHome
from cloister_shared.cli import build_app
from cloister_shared.errors import CloisterError, ConfigError, PolicyError
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy import Mechanism, SampledGaussian, release
from cloister_shared.privacy.audit_report import AuditReport, SignedAudit

FEW = ("--kind", "dkt", "--noise-multiplier", "2", "--canaries", "20000")


def audit(*arguments: str | Path) -> Result:
    words = ["audit", "privacy", *map(str, arguments)]
    return CliRunner().invoke(build_app(), words, env={"COLUMNS": "160"})


def error_of(result: Result) -> CloisterError:
    assert isinstance(result.exception, CloisterError)
    return result.exception


@pytest.fixture
def home(tmp_path: Path, node_config, curriculum) -> NodeHome:
    return NodeHome.create(tmp_path / "node", node_config, curriculum)


def test_what_is_found_stands_beside_what_is_claimed():
    (found,) = json.loads(audit(*FEW, "--json").stdout)["reports"]
    report = AuditReport.model_validate(found)
    assert report.holds
    assert (report.kind, report.canaries, report.p) == ("dkt", 20_000, 1e-3)
    table = audit(*FEW).stdout
    assert "ε at δ 1e-06 that is claimed" in table
    assert f"{report.claim:.3f}" in table


def test_a_report_is_signed_by_the_node_and_no_word_of_it_can_be_changed(home, tmp_path):
    file = tmp_path / "audit.json"
    assert audit(*FEW, "--node", home.path, "--output", file).exit_code == 0
    signed = SignedAudit.model_validate_json(file.read_bytes())
    assert signed.key == home.signing_key().public
    assert signed.is_authentic
    better = signed.reports[0].model_copy(update={"lower_bound": 0.0})
    assert not signed.model_copy(update={"reports": (better,)}).is_authentic
    again = audit(*FEW, "--node", home.path, "--output", file)
    assert isinstance(error_of(again), ConfigError)
    assert SignedAudit.model_validate_json(file.read_bytes()) == signed


def test_with_the_noise_off_the_audit_fails_and_its_report_says_why(home, tmp_path, monkeypatch):
    honest = release.gaussian
    monkeypatch.setattr(release, "gaussian", lambda source, count: 0 * honest(source, count))
    file = tmp_path / "audit.json"
    result = audit(*FEW, "--node", home.path, "--output", file)
    error = error_of(result)
    assert isinstance(error, PolicyError)
    assert error.exit_code == 8
    assert "BROKEN" in result.stdout
    (report,) = SignedAudit.model_validate_json(file.read_bytes()).reports
    assert report.lower_bound > report.claim


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """Ten rounds of a private tracer, and a recommender without noise."""
    tracer = ModelPlan(
        spec=DktSpec(skills=4, hidden=2),
        rounds=10,
        mechanism=Mechanism(noise_multiplier=1.5, clip_norm=0.5, sampling_rate=0.2),
        local=LocalTraining(steps=2),
    )
    recommender = ModelPlan(
        spec=RecommenderSpec(items=3, factors=2),
        rounds=10,
        mechanism=Mechanism(noise_multiplier=0, clip_norm=0.5, sampling_rate=0.2),
    )
    plan = Plan(
        run="next", curriculum="c", models=(tracer, recommender), declared_sizes={"school-a": 50}
    )
    file = tmp_path / "plan.json"
    file.write_text(plan.model_dump_json())
    return file


def test_of_a_plan_the_private_models_own_mechanisms_are_audited(plan_file):
    (found,) = json.loads(audit("--plan", plan_file, "--json").stdout)["reports"]
    report = AuditReport.model_validate(found)
    assert report.kind == "dkt"
    assert report.event == SampledGaussian(noise_multiplier=1.5, sampling_rate=0.2, steps=20)
    assert report.canaries == 20_000
    assert report.holds


@pytest.mark.parametrize("further", [("--steps", "3"), ("--clip-norm", "1"), ("--kind", "essays")])
def test_a_plan_says_itself_what_is_audited(plan_file, further):
    assert isinstance(error_of(audit("--plan", plan_file, *further)), ConfigError)


@pytest.mark.parametrize(
    "mistaken",
    [
        ("--node", "somewhere"),
        ("--output", "somewhere"),
        ("--noise", "laplace"),
        ("--noise-multiplier", "-1"),
        ("--noise-multiplier", "0"),
        ("--kind", "essays"),
        ("--sampling-rate", "0"),
        ("--sampling-rate", "1.5"),
        ("--noise-multiplier", "0.1"),
        ("--plan", "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_sentence_and_ends_with_3(mistaken):
    error = error_of(audit(*FEW, *mistaken))
    assert isinstance(error, ConfigError)
    assert "\n" not in str(error)
