"""What personalization needs of the node's store, and no more."""

from collections.abc import Sequence
from typing import Protocol

from cloister_client.histories import History, Interaction, Purpose
from cloister_shared.model_specs import ModelSpec, Weights


class ModelVersion(Protocol):
    """An immutable set of weights that the institution has released to its learners."""

    @property
    def version(self) -> str:
        """Its name, never used twice."""

    @property
    def spec(self) -> ModelSpec:
        """Kind and sizes."""

    @property
    def weights(self) -> Weights:
        """Arrays by name."""


class LearnerStore(Protocol):
    """Histories, carried states and active models of one node."""

    def pseudonym(self, lms_id: str) -> str:
        """The key under which a learner's data are kept."""

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        """Histories of the pseudonyms ``learners``; empty for a learner without answers."""

    def append(self, lms_id: str, interaction: Interaction) -> bool:
        """Keep an answer; False if it is there already, or its learner was erased."""

    def active_version(self, kind: str) -> str | None:
        """The name of the version of ``kind`` that learners are served from."""

    def model_version(self, version: str) -> ModelVersion:
        """A kept version; ``DataError`` if it is not there, or was altered."""

    def fall_back(self, kind: str, version: str, reason: str) -> str | None:
        """Serve the last good version in place of ``version``; its name, if there is one."""

    def load_state(self, learner: str, version: str) -> tuple[int, bytes] | None:
        """Number of answers and bytes that were saved last for this pseudonym and version."""

    def save_state(self, learner: str, version: str, answers: int, blob: bytes) -> None:
        """Keep a learner's state, in place of an older one."""
