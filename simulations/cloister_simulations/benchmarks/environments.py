"""Environments of their own for the benchmarks' peers, made once and kept in a cache."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cloister_simulations.benchmarks.contenders import ContenderError

_READY = ".ready"


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/cloister/bench``, by default in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cloister" / "bench"


def environment_directory(requirements: Path, cache: Path) -> Path:
    """Where the environment lies: other requirements are another directory."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    return cache / f"{requirements.stem}-{digest}"


def make_environment(requirements: Path, cache: Path) -> Path:
    """The Python of the environment that holds ``requirements``; made if it is not in ``cache``.

    One that was not finished is made anew. Raises ``ContenderError`` where pip cannot install them,
    as without a network.
    """
    directory = environment_directory(requirements, cache)
    python = directory / "bin" / "python"
    if not ((directory / _READY).exists() and python.exists()):
        _make(directory, requirements)
    return python


def _make(directory: Path, requirements: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(directory)], "an environment could not be made")
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run(
        [*pip, "install", "--quiet", "--requirement", str(requirements)],
        f"pip could not install {requirements.name}",
    )
    (directory / _READY).touch()


def _run(command: list[str], failure: str) -> None:
    finished = subprocess.run(  # noqa: S603 - our own command line
        command, check=False, capture_output=True, text=True
    )
    if finished.returncode:
        lines = (finished.stdout + finished.stderr).strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise ContenderError(f"{failure}: {errors[-1]}")
