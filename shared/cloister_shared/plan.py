"""The plan of a run: all that coordinator and nodes must agree on, nothing about learners."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cloister_shared.canonical import digest
from cloister_shared.compression import Compression
from cloister_shared.frozen import Frozen
from cloister_shared.model_specs import AnySpec
from cloister_shared.privacy.events import MAX_NOISE, MIN_NOISE, NonPrivate, SampledGaussian
from cloister_shared.privacy.figures import OTHER
from cloister_shared.privacy.histograms import Outcome, cells
from cloister_shared.privacy.ledger_format import ModelEvent, Role
from cloister_shared.privacy.mechanism import Mechanism

MAX_LEARNERS = 2**30
"""Declared sizes of a plan add up to no more: sums over learners are exact up to there."""

GroupName = Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9._-]+$")]
"""A public name for a kind of learners, such as an age or a language of instruction."""


def check_groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    """The vocabulary itself; ``ValueError`` if a name stands twice or means no group."""
    if len(set(groups)) < len(groups):
        raise ValueError("each group stands once")
    if OTHER in groups:
        raise ValueError(f"{OTHER!r} is what learners of no group are called; name it otherwise")
    return groups


Groups = Annotated[tuple[GroupName, ...], Field(max_length=20), AfterValidator(check_groups)]
"""A public vocabulary of groups."""


class LocalTraining(Frozen):
    """What a node does in one round: ``steps`` steps of plain or Adam descent on noisy gradients.

    ``max_windows`` limits the windows of ``window`` answers that are drawn of one learner in one
    step (None: all of them). Their gradients are summed before the clip. A learner's loss is the
    mean over their answers; with ``loss_divisor`` it is the sum divided by that public number, so
    that who answered more weighs more, up to the clip.
    """

    steps: int = Field(default=1, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(default=1.0, gt=0, le=1e6)
    window: int = Field(default=200, ge=2)
    max_windows: int | None = Field(default=None, ge=1)
    loss_divisor: float | None = Field(default=None, gt=0)


class ServerOptimizer(Frozen):
    """How the coordinator applies the mean of the nodes' weight deltas.

    ``fedavg`` adds learning_rate · mean; ``fedadam`` is Adam on it: Reddi et al., "Adaptive
    Federated Optimization", 2021, algorithm 2. ``linear`` decay goes to 0 over the model's rounds.
    """

    name: Literal["fedavg", "fedadam"] = "fedavg"
    learning_rate: float = Field(default=1.0, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    stabilizer: float = Field(default=1e-8, gt=0)
    decay: Literal["none", "linear"] = "none"


class ModelPlan(Frozen):
    """How one model is trained in a run."""

    spec: AnySpec
    rounds: int = Field(ge=1, le=100_000)
    mechanism: Mechanism
    local: LocalTraining = LocalTraining()
    server: ServerOptimizer = ServerOptimizer()

    @property
    def event(self) -> ModelEvent:
        """What one round of this model is charged as."""
        return ModelEvent(model=self.spec.kind, event=self.mechanism.event(self.local.steps))


class MetricPlan(Frozen):
    """What nodes release of their evaluation learners: noisy histograms of a model's scores.

    Asked for after every ``every_rounds``-th round and each model's last. ``noise_multiplier`` is
    the noise's standard deviation on a node's sum; one learner moves it by at most 1.

    With ``groups`` there is one histogram for each and one for all other learners, side by side in
    one array of noisy cells: a learner is counted into one of them, so it costs the same. Figures
    of all learners have the noise of all these histograms.
    """

    every_rounds: int = Field(ge=1)
    noise_multiplier: float = Field(ge=MIN_NOISE, le=MAX_NOISE)
    bins: int = Field(default=20, ge=2, le=1000)
    groups: Groups = ()

    def shape(self, outcome: Outcome) -> tuple[int, int]:
        """(histograms, cells) of what a node sends of one model, laid out row by row."""
        return (len(self.groups) + 1, cells(outcome, self.bins))

    def row(self, group: str | None) -> int:
        """The histogram into which a learner of ``group`` is counted; the last is the others'."""
        return self.groups.index(group) if group in self.groups else len(self.groups)

    def event(self, kind: str) -> ModelEvent:
        """What one histogram of one model is charged as: nobody is sampled."""
        event = SampledGaussian(noise_multiplier=self.noise_multiplier, sampling_rate=1, steps=1)
        return ModelEvent(model=f"{kind}/metrics", event=event)


class Plan(Frozen):
    """One federated training job over one or more models.

    Round r (counted from 1) trains every model with ``rounds`` ≥ r, in one exchange and under one
    charge. ``declared_sizes`` are the public N̂ by node; a node trusts none of these settings
    beyond its own policy. ``compression`` is how weights and contributions are sent.

    Two schemas are known: nodes of the release before understand the first, which has no
    ``compression``. A plan that names no schema gets the lowest that says all it holds.
    """

    schema_version: Literal[1, 2] = 1
    run: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    trust: Literal["node"] = "node"
    curriculum: str
    models: tuple[ModelPlan, ...] = Field(min_length=1)
    declared_sizes: dict[str, int] = Field(min_length=1)
    quorum: int = Field(default=1, ge=1)
    deadline_s: float = Field(default=600.0, gt=0)
    metrics: MetricPlan | None = None
    compression: Compression = "none"

    @model_validator(mode="before")
    @classmethod
    def _lowest_schema(cls, document: Any) -> Any:
        if isinstance(document, dict) and "schema_version" not in document:
            new = document.get("compression", "none") != "none"
            return {**document, "schema_version": 2 if new else 1}
        return document

    @model_serializer(mode="wrap")
    def _of_its_schema(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A plan of the first schema is the same bytes in both releases, with the same digest."""
        document: dict[str, Any] = dump(self)
        if self.schema_version == 1:
            del document["compression"]
        return document

    @field_validator("declared_sizes")
    @classmethod
    def _sort(cls, sizes: dict[str, int]) -> dict[str, int]:
        """Equal plans are the same bytes in a message, however a file lists their nodes."""
        return dict(sorted(sizes.items()))

    @model_validator(mode="after")
    def _check(self) -> "Plan":
        kinds = [model.spec.kind for model in self.models]
        if len(set(kinds)) < len(kinds):
            raise ValueError("each model kind stands once in a plan")
        if not all(size >= 1 for size in self.declared_sizes.values()):
            raise ValueError("declared sizes are at least 1")
        if sum(self.declared_sizes.values()) > MAX_LEARNERS:
            raise ValueError(f"declared sizes add up to at most {MAX_LEARNERS}")
        if self.schema_version == 1 and self.compression != "none":
            raise ValueError(f"compression {self.compression!r} needs schema_version 2")
        if self.quorum > len(self.declared_sizes):
            raise ValueError(
                f"quorum {self.quorum} is more than the {len(self.declared_sizes)} nodes"
            )
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        return digest(self.model_dump(mode="json"))

    @property
    def rounds(self) -> int:
        """Rounds of the run: the longest model's."""
        return max(model.rounds for model in self.models)

    @property
    def is_private(self) -> bool:
        """Whether every model's mechanism adds noise."""
        return all(model.mechanism.is_private for model in self.models)

    def active(self, round_number: int) -> tuple[ModelPlan, ...]:
        """The models trained in round ``round_number`` ≥ 1."""
        return tuple(model for model in self.models if model.rounds >= round_number)

    def charge_events(self, round_number: int) -> tuple[ModelEvent, ...]:
        """What a node is to be charged for one round."""
        return tuple(model.event for model in self.active(round_number))

    def measured(self, round_number: int) -> tuple[ModelPlan, ...]:
        """The models of which nodes are asked for metrics after ``round_number`` rounds."""
        if self.metrics is None or round_number < 1:
            return ()
        every = self.metrics.every_rounds
        return tuple(
            model
            for model in self.active(round_number)
            if round_number % every == 0 or round_number == model.rounds
        )

    def metric_events(self, round_number: int) -> tuple[ModelEvent, ...]:
        """What a node is to be charged, in the evaluation role, for one round's metrics."""
        if self.metrics is None:
            return ()
        return tuple(self.metrics.event(model.spec.kind) for model in self.measured(round_number))

    def events_by_round(self, role: Role = "train") -> list[list[SampledGaussian | NonPrivate]]:
        """The events of every round that releases of ``role``: what the whole run costs it."""
        events = self.charge_events if role == "train" else self.metric_events
        rounds = ([one.event for one in events(number)] for number in range(1, self.rounds + 1))
        return [released for released in rounds if released]
