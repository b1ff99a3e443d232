"""Who lives where: the institutions of a simulation, and who trains and who evaluates."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cloister_client.config import declared_size_for
from cloister_client.histories import MemoryHistorySource
from cloister_shared.canonical import canonical_json
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError
from cloister_shared.privacy.ledger_format import Role
from cloister_shared.privacy.noise import KeyedNoise, bernoulli
from cloister_simulations.config import (
    DataConfig,
    FolderData,
    FoldEvaluation,
    SimulationConfig,
    SyntheticData,
)
from cloister_simulations.dataset import Dataset, LearnerRecord, data_directory
from cloister_simulations.evaluation import Evaluator
from cloister_simulations.partition import partition
from cloister_simulations.readers import READERS
from cloister_simulations.synthetic import generate


@dataclass(frozen=True)
class Population:
    """Learners by institution, with one home and one permanent role each."""

    curriculum: Curriculum
    institutions: Mapping[str, Sequence[LearnerRecord]]
    roles: Mapping[str, Role]

    @property
    def declared_sizes(self) -> dict[str, int]:
        """The public N̂ of every institution: its train-role learners, rounded up to a grid."""
        return {name: declared_size_for(len(self.train(name))) for name in self.institutions}

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that learners are in, sorted."""
        records = (one for some in self.institutions.values() for one in some)
        return tuple(sorted({one.group for one in records if one.group is not None}))

    def train(self, *names: str) -> list[LearnerRecord]:
        """Train-role learners of the named institutions, together."""
        return self._with_role("train", names)

    def evaluation(self, *names: str) -> list[LearnerRecord]:
        """Evaluation-role learners of the named institutions, together."""
        return self._with_role("evaluation", names)

    def source(self, *names: str) -> MemoryHistorySource:
        """All learners of the named institutions, with their roles, as one source in memory."""
        records = [one for name in names for one in self.institutions[name]]
        groups = {one.key: one.group for one in records if one.group is not None}
        histories = {one.key: one.history for one in records}
        return MemoryHistorySource(histories, self.roles, groups_of=groups)

    def digest(self) -> str:
        """SHA-256 over who lives where, in which role and group, and what they answered."""
        digest = hashlib.sha256(self.curriculum.digest.encode())
        for name, records in self.institutions.items():
            for one in records:
                group = [] if one.group is None else [one.group]
                digest.update(canonical_json([name, one.key, self.roles[one.key], *group]))
                for array in (one.history.items, one.history.skills, one.history.correct):
                    digest.update(array.tobytes())
        return digest.hexdigest()

    def evaluator(self, predictions: Literal["all", "last"] = "all") -> Evaluator:
        """All evaluation learners, by institution; ``predictions`` of each count."""
        pairs = [(one, name) for name in self.institutions for one in self.evaluation(name)]
        return Evaluator(
            [one.history for one, _ in pairs],
            [name for _, name in pairs],
            predictions,
            [one.group for one, _ in pairs] if self.groups else None,
        )

    def _with_role(self, role: Role, names: Sequence[str]) -> list[LearnerRecord]:
        return [
            one for name in names for one in self.institutions[name] if self.roles[one.key] == role
        ]


def populate(config: SimulationConfig) -> Population:
    """Read or generate the data, give every learner a home and a role.

    Raises ``DataError`` if an institution is left without learners of either role.
    """
    dataset = read_data(config.data, config.seed)
    institutions = partition(dataset, config.partition)
    population = Population(dataset.curriculum, institutions, _roles(config, institutions))
    if "evaluation" not in population.roles.values():
        raise DataError(
            f"no learner of {dataset.name!r} evaluates: mend evaluation's fold or share"
        )
    for name in institutions:
        if not population.train(name) or not population.evaluation(name):
            raise DataError(
                f"institution {name} has {len(population.train(name))} train and "
                f"{len(population.evaluation(name))} evaluation learners; both must be at least 1"
            )
    return population


def read_data(data: DataConfig, seed: int) -> Dataset:
    """The data set of a config."""
    if isinstance(data, SyntheticData):
        return generate(data.generator, seed)
    if isinstance(data, FolderData):
        return READERS[data.source](data.directory)
    return READERS[data.source](data_directory() / data.source)


def _roles(
    config: SimulationConfig, institutions: Mapping[str, Sequence[LearnerRecord]]
) -> dict[str, Role]:
    learners = [one for records in institutions.values() for one in records]
    if isinstance(config.evaluation, FoldEvaluation):
        chosen = [one.fold == config.evaluation.fold for one in learners]
    else:
        draws = KeyedNoise(config.seed, "roles")
        chosen = list(bernoulli(draws, config.evaluation.share, len(learners)))
    return {
        one.key: "evaluation" if evaluates else "train"
        for one, evaluates in zip(learners, chosen, strict=True)
    }
