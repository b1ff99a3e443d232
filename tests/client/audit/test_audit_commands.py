"""``cloister audit privacy`` as an operator types it."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_client.home import NodeHome
from cloister_shared.cli import build_app
from cloister_shared.errors import CloisterError, ConfigError, PolicyError
from cloister_shared.privacy import release
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
    assert "ε claimed" in table
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


@pytest.mark.parametrize(
    "mistaken",
    [
        ("--node", "somewhere"),
        ("--output", "somewhere"),
        ("--noise", "laplace"),
        ("--noise-multiplier", "-1"),
        ("--noise-multiplier", "0"),
        ("--kind", "essays"),
    ],
)
def test_a_mistake_is_one_sentence_and_ends_with_3(mistaken):
    error = error_of(audit(*FEW, *mistaken))
    assert isinstance(error, ConfigError)
    assert "\n" not in str(error)
