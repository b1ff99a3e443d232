"""The file that describes a simulation: data, homes, models, privacy, and what to compare with."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cloister_shared.compression import Compression
from cloister_shared.frozen import Frozen
from cloister_shared.planning import PrivateMetrics, Training, check_kind
from cloister_shared.privacy.budget import Budget
from cloister_shared.yaml_config import load_yaml
from cloister_simulations.partition import PartitionConfig
from cloister_simulations.synthetic import SyntheticSchools

ArmName = Literal["federated", "federated_non_private", "local_only", "pooled", "pooled_private"]
PRIVATE_ARMS: frozenset[ArmName] = frozenset({"federated", "pooled_private"})


class SyntheticData(Frozen):
    """Schools that the generator makes."""

    source: Literal["synthetic"]
    generator: SyntheticSchools = SyntheticSchools()


class PublicData(Frozen):
    """A public data set from the data directory, by the name of its reader."""

    source: Literal[
        "assistments2009",
        "assistments2015",
        "assistments2017",
        "assistments2017_original",
        "mooccubex",
        "movielens100k",
        "movielens1m",
        "oulad",
    ]


class FolderData(Frozen):
    """A folder of one's own in a known form: a CSV table, or the lists of pyKT.

    What such a folder holds is said in ``readers.tidy_csv`` and ``readers.pykt``.
    """

    source: Literal["table", "pykt"]
    directory: Path


DataConfig = Annotated[SyntheticData | PublicData | FolderData, Field(discriminator="source")]


class _Evaluation(Frozen):
    """Which predictions count: all, or each learner's last, where data hold that one out."""

    predictions: Literal["all", "last"] = "all"


class FoldEvaluation(_Evaluation):
    """Evaluation learners are those of one published fold."""

    fold: int


class ShareEvaluation(_Evaluation):
    """Evaluation learners are drawn at random, ``share`` of all."""

    share: float = Field(default=0.2, gt=0, lt=1)


class Pretraining(Frozen):
    """Start from weights trained on public synthetic answers; costs no learner any privacy.

    The answers come from item response models with widely drawn parameters that know nothing of
    the curriculum but its number of skills.
    """

    learners: int = Field(default=2000, ge=1)
    answers: int = Field(default=100, ge=2)
    steps: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    wide_only: bool = False
    """Start the wide part of a wide-and-deep tracer only; its LSTM's read-out starts at zero. So
    few noisy steps need not undo what the LSTM took from answers that are no school's."""


class ModelConfig(Frozen):
    """One model of the run: ``spec`` holds the options of its kind, sizes are the curriculum's."""

    kind: str
    spec: dict[str, Any] = Field(default_factory=dict)
    budget_share: float = Field(default=1.0, gt=0, le=1)
    private: Training
    non_private: Training
    pretraining: Pretraining | None = None

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        return check_kind(kind)


class SimulationPrivacy(Frozen):
    """The nodes' budget; ``keyed`` noise can be reproduced and carries no guarantee.

    A crash between a charge and its reply is never refunded: calibration leaves ``spare_rounds``
    rounds for such, without which one crash would leave a node unable to pay for the last round.
    """

    budget: Budget
    noise: Literal["system", "keyed"] = "system"
    spare_rounds: int = Field(default=1, ge=0)
    metrics: PrivateMetrics | None = None
    audit: bool = False
    """Attack the code with canaries before an arm with noise counts as done: seconds an arm."""


class SimulationConfig(Frozen):
    """Everything that a simulation depends on, besides the code."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)
    seed: int = Field(default=1, ge=0)
    data: DataConfig
    partition: PartitionConfig
    evaluation: FoldEvaluation | ShareEvaluation = ShareEvaluation()
    models: tuple[ModelConfig, ...]
    privacy: SimulationPrivacy
    arms: tuple[ArmName, ...] = Field(
        default=("federated", "federated_non_private", "local_only", "pooled"), min_length=1
    )
    baselines: bool = True
    private_baselines: bool = True
    """Baselines under the models' own budget; they stand beside private arms only."""
    storage: Literal["memory", "disk"] = "memory"
    backend: Literal["in_process", "ray"] = "in_process"
    together: bool = False
    """Train the institutions of the federated arm without noise together, as a fleet."""
    compression: Compression = "none"
    """How weights and contributions are sent, in all arms."""
    quorum_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the institutions that must contribute to a round."""
    deadline_s: float = Field(default=600.0, gt=0)
    evaluate_every_rounds: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "SimulationConfig":
        problems = []
        if not self.models:
            problems.append("at least one model is needed")
        if sum(model.budget_share for model in self.models) > 1 + 1e-9:
            problems.append("the models' budget_share add up to more than 1")
        if len({model.kind for model in self.models}) < len(self.models):
            problems.append("each model kind stands once")
        if self.backend == "ray" and self.storage != "disk":
            problems.append("the ray backend needs storage: disk, its nodes are processes")
        if self.together and self.compression != "none":
            problems.append("institutions that train together send nothing to compress")
        if self.privacy.metrics and self.evaluation.predictions == "last":
            problems.append("private metrics count all predictions, not each learner's last")
        if len(set(self.arms)) < len(self.arms):
            problems.append("each arm stands once")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_config(path: Path) -> SimulationConfig:
    """Read a simulation's file; raises ``ConfigError`` that lists every mistake."""
    return load_yaml(path, SimulationConfig)
