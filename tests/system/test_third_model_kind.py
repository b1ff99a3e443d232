"""Another package's model kind trains beside ours; neither node nor coordinator knows of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context

from cloister_client.flower import make_client_app
from cloister_client.histories import History, MemoryHistorySource
from cloister_client.ledger import MemoryLedger
from cloister_client.models import MODEL_KINDS, model_kind
from cloister_client.node import Node
from cloister_client.training import train_round
from cloister_server.checkpoint import RunState
from cloister_server.exchange import Exchange
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.messages import Release
from cloister_shared.model_specs import SPECS, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy
from cloister_shared.signing import SigningKey
from cloister_simulations.backend.in_process import run_in_process

from ..client.learners import (
    SKILLS,
    ConstantNoise,
    made_up_history,
    random_weights,
    small_curriculum,
)
from ..client.training.checks import check_noise, check_sensitivity, make_case
from .skill_rates import SkillRatesKind, SkillRatesSpec

CURRICULUM = small_curriculum()
BUDGET = Budget(epsilon=8.0, delta=1e-5)
ROUNDS = 15
TRUE_RATES = np.linspace(0.1, 0.9, SKILLS)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """What a package's two entry points do."""
    monkeypatch.setitem(SPECS._objects, "skill_rates", SkillRatesSpec)
    monkeypatch.setitem(MODEL_KINDS._objects, "skill_rates", SkillRatesKind)


def make_history(seed: int) -> History:
    history, random = made_up_history(20, seed), np.random.default_rng(seed)
    right = random.random(20) < TRUE_RATES[history.skills[:, 0]]
    return History(history.items, history.skills, right.astype(np.float32), history.when)


def make_plan() -> Plan:
    mechanism = Mechanism(
        noise_multiplier=BUDGET.calibrate(0.5, 2, ROUNDS), clip_norm=0.5, sampling_rate=0.5
    )
    third = ModelPlan(
        spec=SkillRatesSpec.for_curriculum(CURRICULUM, {}),
        rounds=ROUNDS,
        mechanism=mechanism,
        local=LocalTraining(learning_rate=5.0),
    )
    ours = ModelPlan(spec=DktSpec(skills=SKILLS, hidden=3), rounds=2, mechanism=mechanism)
    return Plan(
        run="third",
        curriculum=CURRICULUM.digest,
        models=(third, ours),
        declared_sizes={"elm": 300, "oak": 300},
        quorum=2,
    )


class Consortium:
    """Two institutions in memory; remembers what was installed."""

    def __init__(self) -> None:
        self.installed: dict[tuple[str, str], Weights] = {}
        self.nodes = {name: self._node(name, start) for name, start in (("elm", 0), ("oak", 300))}

    def _node(self, name: str, start: int) -> Node:
        def install(release: Release, weights: Mapping[str, Weights]) -> None:
            self.installed |= {(name, kind): arrays for kind, arrays in weights.items()}

        learners = {str(seed): make_history(seed) for seed in range(start, start + 300)}
        key = SigningKey.generate()
        return Node(
            name=name,
            key=key,
            declared_size=300,
            curriculum=CURRICULUM,
            policy=Policy(budget=BUDGET),
            source=MemoryHistorySource(learners),
            ledger=MemoryLedger(BUDGET, key=key),
            install=install,
        )

    def __call__(self, context: Context) -> Node:
        return self.nodes[str(context.node_config["name"])]


def test_a_third_kind_trains_in_the_same_rounds_and_is_charged_and_released(tmp_path: Path):
    plan, consortium, states = make_plan(), Consortium(), []

    def run(exchange: Exchange, context: Context) -> None:
        weights = {
            model.spec.kind: model.spec.initial_weights(CURRICULUM, 1) for model in plan.models
        }
        states.append(Coordinator(plan, weights, tmp_path).run(exchange))

    names = {number: {"name": name} for number, name in enumerate(consortium.nodes, start=1)}
    run_in_process(make_server_app(run), make_client_app(consortium), names)

    (state,) = states
    assert [record.participants for record in state.records] == [("elm", "oak")] * ROUNDS
    for name, node in consortium.nodes.items():
        spent = node.ledger.spent()["train", "all"]
        assert {event.model for event in spent.events} == {"skill_rates", "dkt"}
        assert spent.epsilon(BUDGET.delta, "rdp") <= BUDGET.epsilon
        assert consortium.installed.keys() >= {(name, "skill_rates"), (name, "dkt")}
    assert_learned(state, plan)


def assert_learned(state: RunState, plan: Plan) -> None:
    """The rates were found, about as well as the noise allows."""
    spec, weights = plan.models[0].spec, state.weights["skill_rates"]
    kind = model_kind(spec)
    scores = kind.score(spec, weights, [make_history(seed) for seed in range(1000, 1100)])
    assert kind.metrics(scores[0].concatenate(scores))["auc"] > 0.7


def test_a_plan_with_a_third_kind_is_the_same_after_its_json():
    plan = make_plan()
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest == plan.digest
    assert isinstance(again.models[0].spec, SkillRatesSpec)


def test_a_third_kind_keeps_the_promises_by_the_same_checks():
    spec = SkillRatesSpec.for_curriculum(CURRICULUM, {})
    case = replace(make_case(), spec=spec, weights=random_weights(spec))
    histories = [made_up_history(size, size) for size in (0, 1, 7, 40)]
    check_sensitivity(train_round, case, histories, ConstantNoise)
    check_noise(train_round, case)


def test_a_kind_that_is_not_installed_is_named_with_those_that_are():
    document = make_plan().model_dump(mode="json")
    document["models"][0]["spec"]["kind"] = "fourth"
    with pytest.raises(ValueError, match=r"'fourth'.*dkt, recommender"):
        Plan.model_validate(document)
