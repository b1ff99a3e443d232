"""A node's noise is fresh and all that it releases is composed; nodes that break this are caught.

Each check takes what makes a node, and raises ``AssertionError``: the real node passes, and each
deliberately broken one fails its own.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from cloister_client.histories import MemoryHistorySource
from cloister_client.ledger import MemoryLedger
from cloister_client.node import Node
from cloister_shared.messages import Contribution, MetricReport, Refusal, split, unpack
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, KeyedNoise, Mechanism, Policy, epsilon
from cloister_shared.privacy.accounting import cost
from cloister_shared.signing import SigningKey

from .learners import small_curriculum
from .nodes import metric_plan, question, request

MakeNode = Callable[[], Node]

CURRICULUM = small_curriculum()
BUDGET = Budget(epsilon=4.0, delta=1e-6)
KEY = SigningKey.generate()
MECHANISM = Mechanism(noise_multiplier=4.0, clip_norm=0.5, sampling_rate=0.5)
UNLIKELY = 1e-7


def make_plan(rounds: int = 3) -> Plan:
    specs = (
        {"kind": "dkt", "skills": 5, "hidden": 16},
        {"kind": "recommender", "items": 12, "factors": 40, "negatives": 2},
    )
    return Plan(
        run="autumn",
        curriculum=CURRICULUM.digest,
        models=tuple(
            ModelPlan.model_validate({"spec": spec, "rounds": rounds, "mechanism": MECHANISM})
            for spec in specs
        ),
        declared_sizes={"oak": 50},
    )


def make_node() -> Node:
    """One without learners: it sends noise alone. Each call is a restart, or another node."""
    return Node(
        name="oak",
        key=KEY,
        declared_size=50,
        curriculum=CURRICULUM,
        policy=Policy(budget=BUDGET),
        source=MemoryHistorySource({}),
        ledger=MemoryLedger(BUDGET),
        install=lambda release, weights: None,
    )


def check_fresh_noise(make: MakeNode) -> None:
    """Over rounds, models, restarts and nodes no two releases share noise or add up to a scale.

    The squares of two releases' sum and of their difference both have twice the variance of one.
    """
    plan, first, restarted = make_plan(), make(), make()
    releases = [
        array
        for node in (first, restarted)
        for number in (1, 2, 3)
        for array in _standardized(node, plan, number)
    ]
    assert len(releases) == 12
    for one, other in combinations(releases, 2):
        size = min(len(one), len(other))
        low, high = stats.chi2.ppf([UNLIKELY, 1 - UNLIKELY], size)
        for sign in (1, -1):
            squares = float(np.sum((one[:size] + sign * other[:size]) ** 2)) / 2
            assert low < squares < high, "two releases have noise in common"


def check_every_release_is_composed(make: MakeNode) -> None:
    """What the ledger says is spent is the price of all contributions together, up to the limit."""
    node, plan = make(), make_plan(rounds=1)
    received = 0
    while True:
        one = plan.model_copy(update={"run": f"run-{received}"})
        header, _ = unpack(node.answer_train(request(one)), Contribution, Refusal)
        if isinstance(header, Refusal):
            break
        received += 1
        events = [event.event for event in plan.charge_events(1)] * received
        total = epsilon(events, BUDGET.delta, order=BUDGET.order)
        assert total <= BUDGET.epsilon, f"{received} releases cost ε {total:.3g}"
        spent = BUDGET.limit - node.ledger.remaining("train", "all")
        assert spent >= cost(events, BUDGET.order), f"{received} releases are not all charged"
    assert header.code == "budget"
    assert received > 1


def check_metrics_are_charged(make: MakeNode) -> None:
    """A report has its price in the ledger, for those whom it is of."""
    node, plan = make(), metric_plan()
    header, _ = unpack(node.answer_evaluate(question(plan)), MetricReport)
    events = [event.event for event in plan.metric_events(header.round)]
    spent = BUDGET.limit - node.ledger.remaining("evaluation", "all")
    assert spent >= cost(events, BUDGET.order), "a report is not charged"


def _standardized(node: Node, plan: Plan, number: int) -> list[np.ndarray]:
    """What each model's release is in deviations of its noise."""
    _, arrays = unpack(node.answer_train(request(plan, number)), Contribution)
    deviation = MECHANISM.noise_multiplier * MECHANISM.clip_norm / (MECHANISM.sampling_rate * 50)
    return [
        np.concatenate([array.ravel() for array in delta.values()]).astype(np.float64) / deviation
        for delta in split(arrays).values()
    ]


class ClaimedNoise(KeyedNoise):
    """Reproducible noise that says of itself that it is not."""

    has_guarantee = True


def seeded(*labels: str) -> MakeNode:
    """A node that seeds its noise from those of ``labels``: run, round, kind."""

    def noise(plan: Plan, number: int, kind: str) -> ClaimedNoise:
        known = {"run": plan.run, "round": number, "kind": kind}
        return ClaimedNoise(7, *(known[label] for label in labels))

    return lambda: replace(make_node(), noise=noise)


def one_stream_a_node() -> Node:
    """Seeded once at its start, and not again: fresh until it starts again."""
    stream = ClaimedNoise(7)
    return replace(make_node(), noise=lambda plan, number, kind: stream)


class EngineARound(Node):
    """Accounts for every round by itself: a new ledger each, which has spent nothing yet."""

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        object.__setattr__(self, "ledger", MemoryLedger(BUDGET))
        return super().answer_train(message, receipts)


def engine_a_round() -> Node:
    return EngineARound(**vars(make_node()))


class UnchargedMetrics(Node):
    """Answers what it is asked about evaluation learners beside its ledger."""

    def answer_evaluate(self, message: bytes, receipts: bytes = b"") -> bytes:
        return replace(make_node(), source=self.source).answer_evaluate(message, receipts)


def uncharged_metrics() -> Node:
    return UnchargedMetrics(**vars(make_node()))


def test_a_nodes_noise_is_fresh_in_every_round_and_after_every_restart():
    check_fresh_noise(make_node)


def test_all_that_a_node_releases_is_composed():
    check_every_release_is_composed(make_node)


def test_metrics_are_charged():
    check_metrics_are_charged(make_node)


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (seeded("run", "round", "kind"), check_fresh_noise),
        (seeded("round"), check_fresh_noise),
        (seeded(), check_fresh_noise),
        (one_stream_a_node, check_fresh_noise),
        (engine_a_round, check_every_release_is_composed),
        (uncharged_metrics, check_metrics_are_charged),
    ],
    ids=[
        "a seed per run, round and model",
        "a seed per round",
        "one seed for all",
        "a seed per start",
        "an accounting engine per round",
        "metrics uncharged",
    ],
)
def test_a_node_that_breaks_this_is_caught(make, check):
    with pytest.raises(AssertionError):
        check(make)
