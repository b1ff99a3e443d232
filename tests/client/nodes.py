"""Nodes over made-up learners in memory, and what is sent to them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from cloister_client.histories import History, HistorySource, MemoryHistorySource, Purpose
from cloister_client.ledger import Ledger, MemoryLedger
from cloister_client.node import Node
from cloister_shared.messages import (
    EvaluateRequest,
    Refusal,
    TrainRequest,
    is_authentic,
    join,
    pack,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy
from cloister_shared.signing import SigningKey

from .learners import made_up_history, random_weights, small_curriculum

CURRICULUM = small_curriculum()
BUDGET = Budget(epsilon=4.0, delta=1e-6)
KEY = SigningKey.generate()
SPECS = {
    "dkt": {"kind": "dkt", "skills": 5, "hidden": 3},
    "recommender": {"kind": "recommender", "items": 12, "factors": 2, "negatives": 2},
}
HISTORIES = {f"learner {n}": made_up_history(n, n) for n in (0, 1, 4, 9)}
MECHANISM = {"noise_multiplier": 4.0, "clip_norm": 0.5, "sampling_rate": 0.5}
METRICS = MetricPlan(every_rounds=2, noise_multiplier=8.0, bins=10)
ROLES = dict.fromkeys(("learner 0", "learner 4", "learner 9"), "evaluation")


def make_plan(**changes: object) -> Plan:
    """Two models, the recommender for one round less; ``changes`` are of the tracer's plan."""
    mechanism = Mechanism(**MECHANISM)
    tracer = {"spec": SPECS["dkt"], "rounds": 3, "mechanism": mechanism, **changes}
    return Plan(
        run="autumn",
        curriculum=CURRICULUM.digest,
        models=(
            ModelPlan.model_validate(tracer),
            ModelPlan(spec=SPECS["recommender"], rounds=2, mechanism=mechanism),
        ),
        declared_sizes={"oak": 50, "elm": 100},
    )


def metric_plan(metrics: MetricPlan | None = METRICS, **changes: object) -> Plan:
    """Three rounds of the tracer, two of the recommender; metrics after rounds 2 and 3."""
    return make_plan(**changes).model_copy(update={"metrics": metrics})


@dataclass
class WatchingSource:
    """Remembers what the ledger held when learners were looked up or read."""

    source: HistorySource
    ledger: Ledger
    seen: list[list[str]] = field(default_factory=list)
    cohorts: list[Collection[str] | None] = field(default_factory=list)

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        self._look()
        self.cohorts.append(cohorts)
        return self.source.learners(purpose, cohorts)

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        self._look()
        return self.source.load(learners, purpose)

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        self._look()
        return self.source.groups(learners, purpose)

    def _look(self) -> None:
        self.seen.append(kinds(self.ledger))


@dataclass(frozen=True)
class FailingSource:
    """Fails with the learner's name in the text, as code below us might."""

    error: Exception

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        return ["ada lovelace"]

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        raise self.error

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        raise self.error


def kinds(ledger: Ledger) -> list[str]:
    return [entry.kind for entry in ledger.export().entries]


def make_node(histories: dict[str, History] | None = None, **changes: object) -> Node:
    ledger = MemoryLedger(BUDGET)
    source = MemoryHistorySource(HISTORIES if histories is None else histories)
    node = Node(
        name="oak",
        key=KEY,
        declared_size=50,
        curriculum=CURRICULUM,
        policy=Policy(budget=BUDGET),
        source=WatchingSource(source, ledger),
        ledger=ledger,
        install=lambda release, weights: None,
    )
    return replace(node, **changes)


def plan_weights(plan: Plan, number: int | None = None) -> Weights:
    models = plan.models if number is None else plan.active(number)
    return join({model.spec.kind: random_weights(model.spec) for model in models})


def request(plan: Plan, number: int = 1) -> bytes:
    return pack(TrainRequest(plan=plan, round=number), plan_weights(plan, number))


def question(plan: Plan, number: int = 2) -> bytes:
    kinds_asked = {model.spec.kind for model in plan.measured(number)}
    weights = {
        name: array
        for name, array in plan_weights(plan).items()
        if name.partition("/")[0] in kinds_asked
    }
    return pack(EvaluateRequest(plan=plan, round=number), weights)


def refusal_of(answer: bytes) -> str:
    header, arrays = unpack(answer, Refusal)
    assert not arrays
    assert is_authentic(header, arrays)
    return header.code
