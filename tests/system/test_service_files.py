"""What systemd and Docker are given fits the repository and the commands that there are."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cloister_client.config import NodeConfig
from cloister_server.config import CoordinatorConfig
from cloister_shared.cli import build_app

ROOT = Path(__file__).parents[2]
IMAGES = [ROOT / "client/Dockerfile", ROOT / "server/Dockerfile"]
UNITS = [ROOT / "client/cloister-node.service", ROOT / "server/cloister-coordinator.service"]
RUN = re.compile(r"^#.*?(?:cloister-node|cloister-coordinator) (\w+) ", re.MULTILINE)


def instructions(dockerfile: Path) -> list[list[str]]:
    """Its lines as words, continued ones joined, without comments."""
    text = "\n".join(
        line for line in dockerfile.read_text().splitlines() if not line.startswith("#")
    )
    return [line.split() for line in text.replace("\\\n", " ").splitlines() if line]


def has_command(*words: str) -> bool:
    """Whether ``cloister`` knows this sub-command."""
    command = get_command(build_app())
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return False
    return True


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.parent.name)
def test_what_an_image_copies_is_there_and_is_sent(dockerfile: Path) -> None:
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for words in instructions(dockerfile)
        if words[0] == "COPY" and not words[1].startswith("--from")
        for source in words[1:-1]
    ]
    assert copied
    assert set(copied) <= set(sent)
    assert all((ROOT / source).exists() for source in copied)


def test_nothing_but_the_packages_goes_into_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    assert not {"!out", "!tests", "!.git", "!.venv"} & set(lines)


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.parent.name)
def test_an_image_starts_a_command_that_there_is(dockerfile: Path) -> None:
    told = {words[0]: " ".join(words[1:]) for words in instructions(dockerfile)}
    (executable, role), (command, _) = (
        re.findall(r'"([^"]+)"', told[name]) for name in ("ENTRYPOINT", "CMD")
    )
    assert Path(executable).name == "cloister"
    assert has_command(role, command)
    assert all(has_command(role, word) for word in RUN.findall(dockerfile.read_text()))
    assert told["USER"] == "cloister"


def test_images_publish_the_ports_of_the_configs() -> None:
    exposed = [
        int(words[1]) for image in IMAGES for words in instructions(image) if words[0] == "EXPOSE"
    ]
    node = NodeConfig(name="oak", declared_size=50)
    coordinator = CoordinatorConfig(consortium="north", address="127.0.0.1")
    assert exposed == [node.serving.port, coordinator.port]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_there_is(unit: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
    executable, role, command, folder = shlex.split(line)
    assert Path(executable).name == "cloister"
    assert has_command(role, command)
    assert CliRunner().invoke(build_app(), [role, command, folder]).exit_code != 2


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_a_unit(unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    found = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in found.stderr.splitlines() if unit.name in line]
    assert all("is not executable: No such file" in line for line in complaints)
