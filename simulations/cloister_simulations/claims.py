"""What a simulation's directory was made for: notes by which a later call knows its own."""

from pathlib import Path

from cloister_shared.durable import write_durably
from cloister_shared.errors import ConfigError
from cloister_simulations.config import SimulationConfig

SETTINGS, DATA = "settings.json", "data.sha256"
NODES_DIRECTORY = "nodes"
"""Where a simulation's directory has the homes of its nodes."""


def claim_directory(directory: Path, config: SimulationConfig) -> None:
    """Make the directory and note its settings; ``ConfigError`` if it was made for others.

    A plan says nothing about data, seed or evaluation: without the note, a checkpoint would be
    taken for the result of settings that it never saw. Arms and baselines may be added.
    """
    settings = config.model_dump_json(exclude={"arms", "baselines", "private_baselines"}, indent=1)
    _claim(directory, SETTINGS, settings, "settings (or of another version)")


def claim_data(directory: Path, digest: str) -> None:
    """Note the digest of the data; ``ConfigError`` if the directory was made for other data."""
    _claim(directory, DATA, digest, "data")


def _claim(directory: Path, name: str, content: str, what: str) -> None:
    note = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            write_durably(note, content.encode())
        kept = note.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot keep work in {directory}: {error.strerror}") from error
    if kept != content:
        raise ConfigError(
            f"{directory} holds a simulation with other {what}; give this one another name or "
            "another --work, or remove that folder"
        )
