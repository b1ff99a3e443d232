"""Whatever is interleaved, a ledger's ε is that of everything together, by role."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import MemoryHistorySource
from cloister_client.node import Node
from cloister_shared.plan import Plan
from cloister_shared.privacy import epsilon, verify_ledger
from cloister_shared.privacy.ledger_format import LedgerExport

from .nodes import (
    BUDGET,
    HISTORIES,
    MECHANISM,
    ROLES,
    FailingSource,
    make_node,
    make_plan,
    metric_plan,
    question,
    request,
)


def train(node: Node, run: str) -> None:
    """A round of both models."""
    node.answer_train(request(named(make_plan(), run)))


def tune(node: Node, run: str) -> None:
    """A round of the tracer alone, with other settings."""
    plan = make_plan(mechanism={**MECHANISM, "noise_multiplier": 6, "sampling_rate": 0.25})
    node.answer_train(request(named(plan.model_copy(update={"models": plan.models[:1]}), run)))


def measure(node: Node, run: str) -> None:
    """Metrics of both models."""
    node.answer_evaluate(question(named(metric_plan(), run)))


def crash(node: Node, run: str) -> None:
    """A round that ends when learners are read."""
    failing = replace(node, source=FailingSource(KeyError("ada")))
    with pytest.raises(KeyError):
        train(failing, run)


def named(plan: Plan, run: str) -> Plan:
    return plan.model_copy(update={"run": run})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([train, tune, measure, crash]), min_size=2, max_size=8))
def test_the_ledgers_epsilon_covers_all_that_was_interleaved(
    actions: list[Callable[[Node, str], None]],
) -> None:
    node = make_node(source=MemoryHistorySource(HISTORIES, ROLES))
    for number, action in enumerate(actions):
        action(node, f"run-{number}")
    export = LedgerExport.model_validate_json(node.ledger.export().model_dump_json())
    reserved = [entry for entry in export.entries if entry.kind == "RESERVE"]
    assert len(reserved) == len(actions)
    for (role, _), spent in verify_ledger(export).items():
        charges = [one.charge for one in reserved if one.charge.role == role]
        assert spent.micro == sum(one.cost for one in reserved if one.charge.role == role)
        events = [event for charge in charges for event in charge.events]
        together = epsilon([one.event for one in events], BUDGET.delta, "pld")
        assert BUDGET.epsilon >= spent.epsilon(BUDGET.delta, order=BUDGET.order) >= together
        models = {one.model for one in events}
        apart = [
            epsilon([one.event for one in events if one.model == model], BUDGET.delta, "pld")
            for model in models
        ]
        assert len(models) == 1 or together > max(apart)
