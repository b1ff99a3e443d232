"""What a node does not take part in: nobody is read, nothing is charged, a fixed word leaves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.node import refusal_code
from cloister_shared.errors import (
    BudgetExceededError,
    ConfigError,
    DataError,
    LedgerError,
    MessageError,
    PolicyError,
)
from cloister_shared.messages import (
    Contribution,
    Receipt,
    TrainRequest,
    pack,
    unpack,
)
from cloister_shared.privacy import KeyedNoise, Policy

from .learners import small_curriculum
from .nodes import (
    BUDGET,
    MECHANISM,
    SPECS,
    kinds,
    make_node,
    make_plan,
    plan_weights,
    refusal_of,
    request,
)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0.4}}, "policy"),
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0}}, "policy"),
        ({"mechanism": {**MECHANISM, "sampling_rate": 0.6}}, "policy"),
        ({"mechanism": {**MECHANISM, "clip_norm": 11}}, "policy"),
        ({"local": {"steps": 101}}, "policy"),
        ({"local": {"steps": 10**300}}, "policy"),
        ({"rounds": 10_000}, "budget"),
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0.5}, "rounds": 50}, "budget"),
        ({"spec": {**SPECS["dkt"], "skills": 4}}, "message"),
        ({"spec": {**SPECS["dkt"], "skills": 6}}, "message"),
    ],
)
def test_a_plan_that_is_not_allowed_reads_nobody_and_costs_nothing(changes, code):
    node = make_node()
    assert refusal_of(node.answer_train(request(make_plan(**changes)))) == code
    assert not node.source.seen
    assert not kinds(node.ledger)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"curriculum": small_curriculum("another")}, "curriculum"),
        ({"declared_size": 60}, "declared_size"),
        ({"name": "ash"}, "declared_size"),
        ({"policy": Policy(budget=BUDGET, min_declared_size=51)}, "declared_size_floor"),
        ({"noise": lambda plan, number, kind: KeyedNoise(1)}, "noise"),
    ],
)
def test_a_node_that_does_not_take_part_reads_nobody_and_is_charged_nothing(changes, code):
    node = make_node(**changes)
    assert refusal_of(node.answer_train(request(make_plan()))) == code
    assert not node.source.seen
    assert not kinds(node.ledger)


def test_keyed_noise_is_for_nodes_whose_policy_allows_it():
    policy = Policy(budget=BUDGET, allow_without_guarantee=True)
    node = make_node(policy=policy, noise=lambda plan, number, kind: KeyedNoise(1, number, kind))
    unpack(node.answer_train(request(make_plan())), Contribution)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {**SPECS["dkt"], "skills": 2}},
        {"mechanism": {**MECHANISM, "noise_multiplier": 0.4}},
        {"local": {"steps": 101}},
    ],
    ids=["a smaller spec", "less noise", "more steps"],
)
def test_a_plan_cannot_be_swapped_for_another_of_the_same_run(changes):
    """A spec with fewer skills than learners answer to would crash for some learners only."""
    node = make_node()
    node.answer_train(request(make_plan()))
    reads, entries = len(node.source.seen), kinds(node.ledger)
    assert refusal_of(node.answer_train(request(make_plan(**changes), 2))) in ("message", "policy")
    assert (len(node.source.seen), kinds(node.ledger)) == (reads, entries)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"garbage",
        pack(Receipt(plan="", round=1, node="oak")),
        pack(TrainRequest(plan=make_plan(), round=1)),
        pack(TrainRequest(plan=make_plan(), round=3), plan_weights(make_plan())),
        pack(TrainRequest(plan=make_plan(), round=4)),
        pack(TrainRequest(plan=make_plan(), round=4), plan_weights(make_plan())),
        pack(TrainRequest(plan=make_plan(), round=1), {"loose": np.zeros(1, dtype=np.float32)}),
        pack(
            TrainRequest(plan=make_plan(), round=1),
            {name: array[:1] for name, array in plan_weights(make_plan()).items()},
        ),
        pack(
            TrainRequest(plan=make_plan(), round=1),
            {name: array * np.nan for name, array in plan_weights(make_plan()).items()},
        ),
    ],
    ids=[
        "nothing",
        "garbage",
        "another message",
        "no arrays",
        "a model whose rounds are over",
        "a round after the last",
        "a round after the last, with arrays",
        "an array of no model",
        "other shapes",
        "not a number",
    ],
)
def test_a_message_of_another_form_reads_nobody_and_costs_nothing(message):
    node = make_node()
    assert refusal_of(node.answer_train(message)) == "message"
    assert not node.source.seen
    assert not kinds(node.ledger)


VALID = request(make_plan())
NOT_TAKING_PART = make_node(declared_size=51)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.integers(0, len(VALID)).map(lambda end: VALID[:end]),
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)).map(
            lambda change: VALID[: change[0]] + bytes([change[1]]) + VALID[change[0] + 1 :]
        ),
    )
)
def test_whatever_the_bytes_are_the_answer_is_a_refusal_without_text(message):
    for answer in (NOT_TAKING_PART.answer_train(message), NOT_TAKING_PART.answer_release(message)):
        assert refusal_of(answer) in ("message", "declared_size", "curriculum")
        assert len(answer) < 5000


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("text", "noise"), "noise"),
        (BudgetExceededError("text", 2, 1), "budget"),
        (LedgerError("text"), "ledger"),
        (LedgerError("text", "ledger_copied"), "ledger_copied"),
        (MessageError("text"), "message"),
        (ConfigError("text"), "message"),
        (DataError("text"), "message"),
    ],
)
def test_a_refusal_is_a_word_that_is_fixed_beforehand(error, code):
    assert refusal_code(error) == code
