"""Every line of an institution's policy decides something, alone and at the node."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_client.ledger import MemoryLedger
from cloister_client.node import Node
from cloister_shared.errors import PolicyError
from cloister_shared.messages import Contribution, unpack
from cloister_shared.privacy import Budget, Policy
from cloister_shared.privacy.noise import KeyedNoise

from .memorized import CURRICULUM, DKT, everybody, make_home, release, trained, with_limit
from .nodes import BUDGET, kinds, make_node, metric_plan, question, refusal_of, request

PLAN = metric_plan(local={"steps": 3, "window": 100})
"""Noise 4, rate .5, clip .5 of both models; metrics with noise 8; 100 weights or so."""
AT_THE_LIMITS = Policy(
    budget=BUDGET,
    min_noise_multiplier=4.0,
    min_metric_noise_multiplier=8.0,
    max_sampling_rate=0.5,
    max_clip_norm=0.5,
    max_local_steps=3,
    max_parameters=max(model.spec.dimension for model in PLAN.models),
    min_window=100,
    max_window=200,
    min_declared_size=50,
    allow_without_guarantee=True,
)
"""The node declares 50 learners, and its noise is keyed."""

NO_NOISE = {"noise_multiplier": 0.0, "clip_norm": 0.5, "sampling_rate": 0.5}

Case = Callable[[Path], None]


def node_with(policy: Policy) -> Node:
    return make_node(
        policy=policy,
        ledger=MemoryLedger(policy.budget),
        noise=lambda plan, number, kind: KeyedNoise(1, number, kind),
    )


def refused(code: str, **change: Any) -> Case:
    """The plan of which the limits admit everything is refused after ``change`` alone."""

    def case(_: Path) -> None:
        node = node_with(AT_THE_LIMITS.model_copy(update=change))
        assert refusal_of(node.answer_train(request(PLAN))) == code
        assert not node.source.seen, "somebody was read"
        assert not kinds(node.ledger), "somebody was charged"

    return case


def consent_is_asked(folder: Path) -> None:
    eligible = {}
    for consent in ("opt_out", "opt_in"):
        policy = Policy(consent=consent)
        config = NodeConfig(name="oak", declared_size=70, policy=policy)
        home = NodeHome.create(folder / consent, config, CURRICULUM)
        with home.store() as store:
            store.import_interactions(everybody()[:60])
            eligible[consent] = len(store.learners("train")) + len(store.learners("evaluate"))
    assert eligible == {"opt_out": 5, "opt_in": 0}


def a_model_that_tells_is_not_served(folder: Path) -> None:
    home = make_home(folder / "oak")
    with home.store() as store:
        weights = trained(store, DKT, by_heart=True)
        release(home, weights, "limited")
        assert store.active_model("dkt") is None
        release(with_limit(home, None), weights, "unlimited")
        assert store.active_model("dkt") is not None


ENFORCED: dict[str, Case] = {
    "budget": refused("budget", budget=Budget(epsilon=0.1, delta=1e-6)),
    "require_secure_aggregation": refused("secure_aggregation", require_secure_aggregation=True),
    "min_noise_multiplier": refused("policy", min_noise_multiplier=4.01),
    "min_metric_noise_multiplier": refused("policy", min_metric_noise_multiplier=8.01),
    "max_sampling_rate": refused("policy", max_sampling_rate=0.49),
    "max_clip_norm": refused("policy", max_clip_norm=0.49),
    "max_local_steps": refused("policy", max_local_steps=2),
    "max_parameters": refused("policy", max_parameters=AT_THE_LIMITS.max_parameters - 1),
    "min_window": refused("policy", min_window=101),
    "max_window": refused("policy", max_window=199),
    "min_declared_size": refused("declared_size_floor", min_declared_size=51),
    "max_membership_advantage": a_model_that_tells_is_not_served,
    "consent": consent_is_asked,
    "allow_without_guarantee": refused("noise", allow_without_guarantee=False),
}


def test_at_every_limit_the_plan_is_admitted() -> None:
    unpack(node_with(AT_THE_LIMITS).answer_train(request(PLAN)), Contribution)


@pytest.mark.parametrize("field", Policy.model_fields)
def test_every_field_of_the_policy_is_enforced_at_the_node_by_itself(
    field: str, tmp_path: Path
) -> None:
    """A field without a case here decides nothing, or nobody has shown that it does."""
    ENFORCED[field](tmp_path)


def test_secure_aggregation_is_required_of_metrics_too() -> None:
    node = node_with(AT_THE_LIMITS.model_copy(update={"require_secure_aggregation": True}))
    assert refusal_of(node.answer_evaluate(question(PLAN))) == "secure_aggregation"


def test_a_plan_without_noise_cannot_exhaust_memory_either() -> None:
    """A rehearsal's policy allows no noise; a model of any size it does not."""
    plan = metric_plan(None, mechanism=NO_NOISE, local={"window": 100})
    policy = AT_THE_LIMITS.model_copy(update={"max_parameters": 10})
    with pytest.raises(PolicyError, match=r"dkt parameters \d+ must be <= 10"):
        node_with(policy).check_plan(plan)
