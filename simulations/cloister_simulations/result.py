"""The one document in which ``cloister simulate`` says what it did and found.

Its figures are exact, computed on learners' data as no node would ever release them: a simulation
knows all of its data. Only ``private_metrics`` are what nodes did release. A figure that does not
exist (NaN, an infinite ε) is null in the JSON.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.audit_report import AuditReport
from cloister_shared.privacy.figures import Breakdown, PrivateFigures
from cloister_shared.privacy.ledger_format import Role


def _finite_or_none(value: Any) -> Any:
    """``None`` for NaN and infinities, which JSON cannot say; anything else as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Figure = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or None where there is none: the AUC of a single class, an ε without a bound."""

Metrics = dict[str, Figure]
"""Figures by metric name, such as ``auc`` or ``ndcg@10``."""


class Guarantee(Frozen):
    """What the federated arm promises each learner, and why, or why it promises nothing.

    ``epsilon_limit`` and ``delta`` are the nodes' policy. ε never covers what a researcher learned
    by choosing settings on the same data: ``tuning_included`` is always false.
    """

    kind: Literal["learner_level_dp", "none"]
    reason: str
    epsilon_limit: Figure = None
    delta: Figure = None
    tuning_included: Literal[False] = False

    @model_validator(mode="after")
    def _check(self) -> "Guarantee":
        if self.kind == "learner_level_dp" and None in (self.epsilon_limit, self.delta):
            raise ValueError("a guarantee needs an epsilon_limit and a delta")
        return self


class Spend(Frozen):
    """What one learner of a cohort and role has spent; an ε of None is infinite.

    ``epsilon_rdp`` is the guarantee, ``epsilon_pld`` the figure valid for plans fixed in advance.
    """

    role: Role = "train"
    cohort: str = "all"
    epsilon_pld: Figure
    epsilon_rdp: Figure


class NodeResult(Frozen):
    """One institution: its public declared size, its true sizes (simulation only), its spend."""

    name: str
    declared_size: int = Field(ge=1)
    learners_train: int = Field(ge=0)
    learners_evaluation: int = Field(ge=0)
    spend: tuple[Spend, ...] = ()


class RoundResult(Frozen):
    """One exchange; ``rejected`` gives the reason by node, ``metrics`` figures by model kind.

    ``private_metrics`` are what the nodes released after it of their evaluation learners,
    ``private_breakdowns`` the same by group and bin.
    """

    round: int = Field(ge=0)
    seconds: float = Field(ge=0)
    bytes_down: int = Field(default=0, ge=0)
    bytes_up: int = Field(default=0, ge=0)
    participants: tuple[str, ...] = ()
    rejected: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, Metrics] = Field(default_factory=dict)
    private_metrics: dict[str, PrivateFigures] = Field(default_factory=dict)
    private_breakdowns: dict[str, Breakdown] = Field(default_factory=dict)


class Figures(Frozen):
    """Final figures over all evaluation learners, over each institution's and each group's."""

    all: Metrics
    by_institution: dict[str, Metrics] = Field(default_factory=dict)
    by_group: dict[str, Metrics] = Field(default_factory=dict)


class Arm(Frozen):
    """One way of training: ``federated``, ``federated_non_private``, ``pooled``, ``local_only`` …

    ``private`` says whether its training added noise; ``final`` gives figures by model kind.
    """

    name: str
    private: bool
    rounds: tuple[RoundResult, ...] = ()
    final: dict[str, Figures]
    seconds: float = Field(ge=0)
    audit: tuple[AuditReport, ...] = ()
    """What canaries proved of the code that trained it, by model kind."""


class SimulationResult(Frozen):
    """Everything of one simulation: where it ran, on what settings, what came out."""

    schema_version: Literal[1] = 1
    cloister_version: str
    created_at: str
    """ISO 8601 with the time zone."""
    command: str
    config: dict[str, JsonValue]
    config_digest: str
    seeds: dict[str, int]
    machine: dict[str, JsonValue]
    """CPU count and versions of Python and the libraries, by name."""
    wall_clock_s: float = Field(ge=0)
    guarantee: Guarantee
    nodes: tuple[NodeResult, ...]
    arms: tuple[Arm, ...]
    baselines: dict[str, dict[str, Figures]] = Field(default_factory=dict)
    """Figures by model kind, then by baseline."""
    private_baselines: tuple[str, ...] = ()
    """Names of those with noise: each gives every learner the models' (ε, δ) once more."""

    @model_validator(mode="after")
    def _check(self) -> "SimulationResult":
        if self.guarantee.kind == "learner_level_dp":
            limit = self.guarantee.epsilon_limit or 0.0
            if not self.nodes or not all(node.spend for node in self.nodes):
                raise ValueError("a guarantee is claimed, but no node's spend is known")
            over = [
                node.name
                for node in self.nodes
                for spend in node.spend
                if spend.epsilon_rdp is None or spend.epsilon_rdp > limit + 1e-9
            ]
            if over:
                raise ValueError(f"ε ≤ {limit:g} is claimed, more was spent at {over[0]}")
        return self

    @property
    def model_kinds(self) -> list[str]:
        """Every model kind that has figures, in the order of the arms."""
        kinds = [kind for arm in self.arms for kind in arm.final]
        return list(dict.fromkeys([*kinds, *self.baselines]))
