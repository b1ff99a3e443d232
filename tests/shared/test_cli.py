"""The command ends every way it can end with the documented exit code and one sentence."""

import subprocess
import sys

import pytest

from cloister_shared.cli import EXIT_CODES
from cloister_shared.errors import (
    INTERRUPTED_EXIT_CODE,
    BudgetExceededError,
    CloisterError,
    ConfigError,
    DataError,
    LedgerError,
    MessageError,
    PolicyError,
    RunError,
    ServiceError,
)

PROBE = """
import os
import sys
import typer
from cloister_shared import cli, errors

probe = typer.Typer()

@probe.command()
def known(name: str, text: str):
    kind = getattr(errors, name)
    extra = {"PolicyError": ("code",), "BudgetExceededError": (3, 1)}.get(name, ())
    raise kind(text, *extra)

@probe.command()
def defect():
    answers = "RECORD OF A LEARNER"
    raise RuntimeError("unforeseen")

@probe.command()
def interrupt():
    raise KeyboardInterrupt

@probe.command()
def done():
    print("done")

@probe.command()
def setting(name: str):
    print(os.environ[name])

def alone(name: str):
    print("alone with", name)

class Commands(dict):
    def get(self, name):
        if os.environ.get("TELL"):
            print("imported", name)
        if name == "lacking":
            raise ModuleNotFoundError("No module named 'flwr'", name="flwr")
        return self[name]

cli.COMMANDS = Commands(probe=probe, alone=alone, lacking=None)
cli.main()
"""

EXIT_CODE = {
    ConfigError: 3,
    DataError: 4,
    BudgetExceededError: 5,
    RunError: 6,
    LedgerError: 7,
    PolicyError: 8,
    MessageError: 9,
    ServiceError: 10,
}


def cloister(*arguments: str, command: str = "probe") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE, command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_error_has_its_own_documented_exit_code() -> None:
    kinds = set(CloisterError.__subclasses__())
    assert kinds == set(EXIT_CODE)
    for kind, code in EXIT_CODE.items():
        assert kind.exit_code == code
        assert f"· {code} " in EXIT_CODES.replace("\n", " ")
    assert f"{INTERRUPTED_EXIT_CODE} interrupted" in EXIT_CODES


def test_a_known_error_is_one_sentence_and_its_exit_code() -> None:
    result = cloister("known", "BudgetExceededError", "no [red]budget[/red] is left")
    assert result.returncode == 5
    assert result.stderr == "cloister: no [red]budget[/red] is left\n"
    assert result.stdout == ""


def test_a_defect_shows_no_learners_data() -> None:
    result = cloister("defect")
    assert result.returncode == 1
    assert "unforeseen" in result.stderr
    assert "answers = 'RECORD" not in result.stderr


def test_an_interrupted_command_says_how_to_go_on() -> None:
    result = cloister("interrupt")
    assert result.returncode == INTERRUPTED_EXIT_CODE
    assert result.stderr == "cloister: interrupted; run the same command again to resume\n"


@pytest.mark.parametrize(("command", "code"), [("done", 0), ("nothing-like-this", 2)])
def test_done_is_0_and_wrong_usage_is_2(command: str, code: int) -> None:
    assert cloister(command).returncode == code


def test_a_function_is_a_sub_command_as_well_as_a_group_is() -> None:
    assert cloister("oak", command="alone").stdout == "alone with oak\n"


def test_a_command_whose_package_is_missing_says_which_whatever_it_was_asked() -> None:
    result = cloister("--folder", "x", "--json", command="lacking")
    assert result.returncode == 3
    assert "`cloister lacking` needs the package flwr" in result.stderr


def test_what_libraries_read_when_they_are_imported_is_set_before_they_are() -> None:
    assert cloister("setting", "OMP_WAIT_POLICY").stdout == "PASSIVE\n"
    assert cloister("setting", "FLWR_TELEMETRY_ENABLED").stdout == "0\n"


def test_the_users_own_setting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert cloister("setting", "OMP_WAIT_POLICY").stdout == "ACTIVE\n"


@pytest.mark.parametrize("own", ["", "school.example.org"])
def test_no_proxy_hears_what_processes_of_this_machine_say(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", own)
    direct = cloister("setting", "no_proxy").stdout.strip().split(",")
    assert direct == [*filter(None, [own]), "127.0.0.1", "localhost"]


def test_nothing_is_imported_but_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELL", "1")
    assert cloister("done").stdout == "imported probe\ndone\n"
    everything = cloister(command="--help").stdout
    assert all(line in everything for line in ("imported lacking", "imported probe", "audit"))
