"""What an operator orders: the file of ``run start``, and the run that is made of it."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from cloister_server.checkpoint import RunState
from cloister_server.directory import Member
from cloister_server.home import CoordinatorHome
from cloister_server.registry import Registry
from cloister_server.run_folder import RunFolder, Wanted
from cloister_shared.compression import Compression
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen
from cloister_shared.kit import Standing
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import Plan
from cloister_shared.planning import (
    Allowance,
    PrivateMetrics,
    Training,
    check_kind,
    make_spec,
    mechanism_of,
    planned,
)
from cloister_shared.privacy.policy import Policy
from cloister_shared.yaml_config import load_yaml

USUAL_DELTA: Final = Policy().budget.delta
"""At which δ a run's ε is told if nobody ordered a budget."""
VersionName = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelOrder(Frozen):
    """One model of a run: ``spec`` holds the options of its kind, sizes are the curriculum's.

    Training starts from public ``initial`` weights, from those of the ``active`` version, or from a
    version of this consortium's registry.
    """

    kind: str
    spec: dict[str, object] = Field(default_factory=dict)
    budget_share: float = Field(default=1.0, gt=0, le=1)
    training: Training
    start: Literal["initial", "active"] | VersionName = "initial"

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        return check_kind(kind)


class RunPrivacy(Allowance):
    """What the run may spend of each learner's budget, and which metrics nodes are asked for."""

    metrics: PrivateMetrics | None = None


class RunOrder(Frozen):
    """Everything about a run but who takes part: those are the nodes approved when it starts.

    ``privacy`` null trains without noise; nodes refuse that unless their policy allows it.
    ``quorum`` null is half of the nodes, rounded up. With ``promote`` nodes serve the finished
    models at once; without, once somebody promotes them.
    """

    run: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    models: tuple[ModelOrder, ...] = Field(min_length=1)
    privacy: RunPrivacy | None
    quorum: int | None = Field(default=None, ge=1)
    deadline_s: float = Field(default=600.0, gt=0)
    compression: Compression = "none"
    seed: int = Field(default=1, ge=0)
    promote: bool = True

    @model_validator(mode="after")
    def _check(self) -> "RunOrder":
        if len({model.kind for model in self.models}) < len(self.models):
            raise ValueError("each model kind stands once")
        if sum(model.budget_share for model in self.models) > 1 + 1e-9:
            raise ValueError("the models' budget_share add up to more than 1")
        return self

    @property
    def parents(self) -> dict[str, str]:
        """The versions from whose weights the run starts, by model kind, once they were named."""
        starts = {model.kind: model.start for model in self.models}
        return {kind: start for kind, start in starts.items() if start not in ("initial", "active")}

    @classmethod
    def of(cls, folder: RunFolder) -> "RunOrder | None":
        """What was ordered of a run; ``None`` if it was made in another way."""
        return load_yaml(folder.order, cls) if folder.order.exists() else None


def place(home: CoordinatorHome, order: RunOrder) -> RunFolder:
    """Make the run, for all nodes approved now, and let it begin when its turn comes.

    Raises ``ConfigError`` if there are too few nodes or the name is taken,
    ``BudgetExceededError`` if the noise that was ordered is too little for the budget.
    """
    sizes = {name: one.declared_size for name, one in home.directory().approved().items()}
    if not sizes:
        raise ConfigError(_nobody(home.directory().members()))
    registry = home.models()
    settled = _with_named_starts(order, registry)
    plan = make_plan(settled, home.curriculum, sizes)
    weights = {
        ordered.kind: _start(ordered, model.spec, home.curriculum, settled.seed, registry)
        for ordered, model in zip(settled.models, plan.models, strict=True)
    }
    document = yaml.safe_dump(settled.model_dump(mode="json"), sort_keys=False)
    folder = RunFolder.make(home.runs, RunState(plan, weights), document)
    folder.want(Wanted.RUNNING)
    return folder


def _nobody(members: Iterable[Member]) -> str:
    """That no node is approved, and how one will be."""
    pending = ", ".join(one.name for one in members if one.standing is Standing.PENDING)
    if pending:
        return f"no node is approved yet; waiting for it: {pending}; see nodes approve"
    return "no node is approved yet; see cloister coordinator invite"


def make_plan(order: RunOrder, curriculum: Curriculum, declared_sizes: Mapping[str, int]) -> Plan:
    """The plan over the nodes of ``declared_sizes``, with the noise that the budget asks for."""
    nodes = len(declared_sizes)
    if order.quorum is not None and order.quorum > nodes:
        raise ConfigError(
            f"a quorum of {order.quorum} was ordered, {nodes} nodes are approved; order a smaller "
            "one, or approve more nodes"
        )
    models, metrics, privacy = [], None, order.privacy
    for one in order.models:
        spec = make_spec(one.kind, one.spec, curriculum)
        if privacy is None:
            models.append(planned(spec, one.training, mechanism_of(one.training, 0.0)))
        else:
            privacy.require(one.kind, one.training, one.budget_share)
            models.append(privacy.model_plan(spec, one.training, one.budget_share))
    if privacy is not None and privacy.metrics is not None:
        metrics = privacy.metric_plan(
            privacy.metrics, (one.training.rounds for one in order.models)
        )
    return Plan(
        run=order.run,
        curriculum=curriculum.digest,
        models=tuple(models),
        declared_sizes=dict(declared_sizes),
        quorum=order.quorum or math.ceil(nodes / 2),
        deadline_s=order.deadline_s,
        metrics=metrics,
        compression=order.compression,
    )


def _with_named_starts(order: RunOrder, registry: Registry) -> RunOrder:
    """The order with the name of the active version wherever a model starts from that."""
    choice = registry.active()
    active = {} if choice is None else choice.models
    models = []
    for model in order.models:
        if model.start == "active" and model.kind not in active:
            raise ConfigError(
                f"no {model.kind} is active yet that the run could start from; order start: initial"
            )
        start = active[model.kind] if model.start == "active" else model.start
        models.append(model.model_copy(update={"start": start}))
    return order.model_copy(update={"models": tuple(models)})


def _start(
    model: ModelOrder, spec: ModelSpec, curriculum: Curriculum, seed: int, registry: Registry
) -> Weights:
    if model.start == "initial":
        return spec.initial_weights(curriculum, seed)
    version = registry.get(model.start)
    if version.manifest.spec != spec:
        raise ConfigError(
            f"the {model.kind} that was ordered is not of the size or kind of the version "
            f"{model.start[:12]} that it is to start from"
        )
    return registry.weights(version)
