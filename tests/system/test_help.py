"""Every command explains itself, at once: help waits for no torch and no Flower."""

import json
import subprocess
import sys

from tests.system.simulated import CLOISTER

ASK_ALL = """
import json, sys
import typer
from typer.testing import CliRunner
from cloister_shared.cli import build_app

app = build_app()
asked = {}

def ask(command, words):
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="cloister")
    asked[" ".join(words)] = [result.exit_code, "Usage: cloister" in result.output]
    for name, one in getattr(command, "commands", {}).items():
        ask(one, [*words, name])

ask(typer.main.get_command(app), [])
slow = [name for name in ("torch", "opacus", "sklearn", "flwr", "pandas") if name in sys.modules]
print(json.dumps([asked, slow]))
"""


def test_the_command_shows_its_help() -> None:
    result = subprocess.run([str(CLOISTER), "--help"], capture_output=True, text=True, check=True)
    for word in ("simulate", "node", "coordinator", "demo", "130 interrupted"):
        assert word in result.stdout


def test_every_sub_commands_help_comes_without_the_heavy_libraries() -> None:
    result = subprocess.run(
        [sys.executable, "-c", ASK_ALL], capture_output=True, text=True, check=True, timeout=60
    )
    asked, slow = json.loads(result.stdout)
    assert {
        "",
        "simulate",
        "demo",
        "poc up",
        "node",
        "node import",
        "audit ledger",
        "coordinator rounds",
    } <= asked.keys()
    assert {name for name, answer in asked.items() if answer != [0, True]} == set()
    assert slow == []
