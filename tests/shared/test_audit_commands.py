"""``cloister audit ledger`` as an auditor types it, who has a file and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_shared.cli import build_app
from cloister_shared.errors import CloisterError, DataError, LedgerError
from cloister_shared.privacy import LedgerExport
from cloister_shared.signing import SigningKey

from .privacy.exports import BUDGET, KEY, RESTORE, WITNESS, attempt, charge, export_of, lift

PRICE = charge(1).cost(BUDGET.order)


def audit(*arguments: str | Path) -> Result:
    words = ["audit", "ledger", *map(str, arguments)]
    return CliRunner().invoke(build_app(), words, env={"COLUMNS": "160"})


def error_of(result: Result) -> CloisterError:
    assert isinstance(result.exception, CloisterError)
    return result.exception


@pytest.fixture
def export() -> LedgerExport:
    return export_of([*attempt(charge(1)), *attempt(charge(2))])


@pytest.fixture
def file(tmp_path: Path, export: LedgerExport) -> Path:
    path = tmp_path / "ledger.json"
    path.write_text(export.model_dump_json(indent=1))
    return path


def test_an_auditor_is_told_what_was_spent_by_group_and_by_run(file: Path) -> None:
    document = json.loads(audit(file, "--json").stdout)
    assert document["epsilon_limit"] == 4.0
    spent = {(one["role"], one["cohort"]): one["spent_micro_rdp"] for one in document["groups"]}
    assert spent == {("train", "autumn"): 2 * PRICE, ("train", "spring"): 2 * PRICE}
    assert {one["charges"] for one in document["runs"]} == {2}
    for word in ("autumn", "spring", "Limit: ε 4 at δ 1e-06", KEY.public):
        assert word in audit(file).stdout


def test_an_auditor_sees_that_a_restored_ledger_counts_as_spent(tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    file.write_text(export_of([*attempt(charge(1)), RESTORE]).model_dump_json())
    document = json.loads(audit(file, "--json").stdout)
    assert document["restored"]
    assert {one["remaining_micro_rdp"] for one in document["groups"]} == {0}
    assert "Restored from a backup: all counts as spent" in audit(file).stdout


def test_an_auditor_sees_whose_word_a_restored_ledger_rests_on(tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    steps = [*attempt(charge(1)), RESTORE, lift(seen=2, restored=3)]
    file.write_text(export_of(steps).model_dump_json())
    document = json.loads(audit(file, "--json").stdout)
    assert not document["restored"]
    assert document["restores_lifted_by"] == [WITNESS.public]
    assert {one["spent_micro_rdp"] for one in document["groups"]} == {PRICE}
    assert WITNESS.public in audit(file).stdout


def test_an_auditor_who_knows_the_nodes_key_sees_whether_the_ledger_is_theirs(file: Path) -> None:
    assert json.loads(audit(file, "--key", KEY.public, "--json").stdout)["key"] == KEY.public
    assert audit(file, "--key", KEY.public.upper()).exit_code == 0
    error = error_of(audit(file, "--key", SigningKey.generate().public))
    assert isinstance(error, LedgerError)
    assert KEY.public in str(error)


def test_a_ledger_whose_head_another_signed_is_a_ledger_error(tmp_path: Path) -> None:
    path = tmp_path / "forged.json"
    forged = export_of(attempt(charge(1)), key=SigningKey.generate())
    path.write_text(forged.model_dump_json())
    assert "not signed with the ledger's key" in str(error_of(audit(path)))


def test_a_ledger_that_does_not_hold_together_is_a_ledger_error(
    file: Path, export: LedgerExport
) -> None:
    cut = export.model_copy(update={"entries": export.entries[:-1]})
    file.write_text(cut.model_dump_json())
    error = error_of(audit(file))
    assert isinstance(error, LedgerError)
    assert error.exit_code == 7


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff\xfe"])
def test_a_file_that_is_no_export_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "letter.json"
    if content is not None:
        path.write_bytes(content)
    error = error_of(audit(path))
    assert isinstance(error, DataError)
    assert "letter.json" in str(error)
    assert error.exit_code == 4


ABSENT = [
    *(f"cloister_{role}" for role in ("client", "server", "simulations")),
    *("torch", "opacus", "flwr", "sqlalchemy", "alembic", "fastapi", "sklearn", "matplotlib"),
]


def audit_alone(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """``cloister audit`` where neither our other packages nor what only those use can be had."""
    asked = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "from cloister_shared.cli import main\n"
        f"sys.argv = ['cloister', 'audit', *{arguments!r}]\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=False
    )


def test_an_auditor_needs_nothing_of_a_node_nor_of_a_coordinator(file: Path) -> None:
    done = audit_alone("ledger", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] == 6


def test_an_audit_that_needs_a_node_says_what_to_install() -> None:
    done = audit_alone("privacy", "--kind", "dkt")
    assert done.returncode == 3
    assert "`cloister audit privacy` needs the package cloister_client" in done.stderr
