"""A data set as simulations use it: a curriculum, and every learner's history."""

import os
from dataclasses import dataclass
from pathlib import Path

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError


@dataclass(frozen=True)
class LearnerRecord:
    """One learner: ``institution``, published test ``fold`` and ``group`` where there are any."""

    key: str
    history: History
    institution: str | None = None
    fold: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Learners in the data set's own order; their histories index ``curriculum``."""

    name: str
    curriculum: Curriculum
    learners: tuple[LearnerRecord, ...]

    @property
    def answers(self) -> int:
        """Interactions of all learners together."""
        return sum(len(learner.history) for learner in self.learners)


def data_directory() -> Path:
    """Where public data sets lie: ``CLOISTER_DATA``, else ``../shared/data`` of the repository.

    Raises ``DataError`` where neither exists; no data set comes with Cloister.
    """
    repository = Path(__file__).resolve().parents[2]
    default = repository.parent / "shared" / "data"
    directory = Path(os.environ.get("CLOISTER_DATA") or default)
    if not directory.is_dir():
        raise DataError(
            f"no data sets at {directory}: set CLOISTER_DATA to the folder that holds them, "
            "or use a synthetic data set"
        )
    return directory
