"""Environments are made once, from pinned requirements, or say in a sentence why not."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from cloister_simulations.benchmarks.contenders import ContenderError
from cloister_simulations.benchmarks.environments import (
    cache_directory,
    environment_directory,
    make_environment,
)


def write_wheel(directory: Path) -> None:
    """A package ``tiny`` 1.0 that pip can install without an index."""
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(directory / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", metadata)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", tags)
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")


def test_an_environment_is_made_once_and_one_that_failed_is_made_anew(tmp_path: Path) -> None:
    wheels, cache = tmp_path / "wheels", tmp_path / "cache"
    wheels.mkdir()
    requirements = tmp_path / "peer.txt"
    requirements.write_text(f"--no-index\n--find-links {wheels}\ntiny==1.0\n")

    with pytest.raises(ContenderError, match=r"could not install peer\.txt: .*tiny==1\.0"):
        make_environment(requirements, cache)

    write_wheel(wheels)
    python = make_environment(requirements, cache)
    asked = [python, "-c", "import tiny; print(tiny.ANSWER)"]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "42\n"

    (wheels / "tiny-1.0-py3-none-any.whl").unlink()
    assert make_environment(requirements, cache) == python


def test_other_requirements_are_another_environment(tmp_path: Path) -> None:
    requirements = tmp_path / "peer.txt"
    directories = set()
    for text in ("tiny==1.0\n", "tiny==1.1\n", "tiny==1.0\n"):
        requirements.write_text(text)
        directories.add(environment_directory(requirements, tmp_path))
    assert len(directories) == 2


def test_the_cache_follows_the_desktop_convention(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "cloister" / "bench"
