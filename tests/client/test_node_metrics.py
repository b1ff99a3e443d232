"""Metrics of a node: charged to the evaluation role before it reads, silent about learners."""

import hashlib

import pytest

from cloister_client.histories import MemoryHistorySource
from cloister_client.ledger import MemoryLedger
from cloister_client.node import Node
from cloister_shared.errors import BudgetExceededError
from cloister_shared.messages import (
    EvaluateRequest,
    MetricReport,
    is_authentic,
    pack,
    split,
    unpack,
)
from cloister_shared.plan import Plan
from cloister_shared.privacy import KeyedNoise, Policy, epsilon, verify_ledger
from cloister_shared.privacy.ledger_format import LedgerExport

from .nodes import (
    BUDGET,
    HISTORIES,
    KEY,
    METRICS,
    ROLES,
    kinds,
    make_node,
    metric_plan,
    plan_weights,
    question,
    refusal_of,
    request,
)


def evaluating_node(**changes: object) -> Node:
    node = make_node(**changes)
    node.source.source = MemoryHistorySource(HISTORIES, ROLES)
    return node


@pytest.mark.parametrize(
    ("number", "lengths"), [(2, {"dkt": 20, "recommender": 11}), (3, {"dkt": 20})]
)
def test_a_report_holds_a_histogram_of_every_model_that_is_due_and_is_signed(number, lengths):
    plan = metric_plan()
    header, arrays = unpack(evaluating_node().answer_evaluate(question(plan, number)), MetricReport)
    assert (header.plan, header.round, header.node) == (plan.digest, number, "oak")
    assert header.key == KEY.public
    assert is_authentic(header, arrays)
    found = {kind: one["histogram"].shape for kind, one in split(arrays).items()}
    assert found == {kind: (length,) for kind, length in lengths.items()}


def test_metrics_are_charged_to_the_evaluation_role_before_anybody_is_read():
    node, plan = evaluating_node(), metric_plan()
    answer = node.answer_evaluate(question(plan))
    assert node.source.seen
    assert all(seen == ["RESERVE", "START"] for seen in node.source.seen)
    reserve, _, metric = node.ledger.export().entries
    assert (reserve.charge.role, reserve.charge.events) == ("evaluation", plan.metric_events(2))
    assert metric.kind == "METRIC"
    assert metric.payload_digest == hashlib.sha256(answer).hexdigest()
    assert set(node.ledger.spent()) == {("evaluation", "all")}


def test_what_train_and_evaluation_learners_have_spent_is_kept_apart_and_never_too_little():
    node, plan = evaluating_node(), metric_plan()
    for number in (1, 2, 3):
        node.answer_train(request(plan, number))
        if plan.measured(number):
            node.answer_evaluate(question(plan, number))
    export = LedgerExport.model_validate_json(node.ledger.export().model_dump_json())
    spent = verify_ledger(export)
    for role in ("train", "evaluation"):
        events = [event for round_ in plan.events_by_round(role) for event in round_]
        assert spent[role, "all"].epsilon(BUDGET.delta, "pld") == epsilon(
            events, BUDGET.delta, "pld"
        )


def test_a_repeated_question_gives_identical_bytes_even_after_the_next_round():
    node, plan = evaluating_node(), metric_plan()
    node.answer_train(request(plan, 2))
    first = node.answer_evaluate(question(plan))
    node.answer_train(request(plan, 3))
    spent, reads = node.ledger.spent(), len(node.source.seen)
    assert node.answer_evaluate(question(plan)) == first
    assert (node.ledger.spent(), len(node.source.seen)) == (spent, reads)


def test_other_weights_get_no_second_report():
    node, plan = evaluating_node(), metric_plan()
    node.answer_evaluate(question(plan))
    weights = {name: 2 * array for name, array in plan_weights(plan, 2).items()}
    again = node.answer_evaluate(pack(EvaluateRequest(plan=plan, round=2), weights))
    assert refusal_of(again) == "ledger"
    assert kinds(node.ledger) == ["RESERVE", "START", "METRIC"]


@pytest.mark.parametrize("names", [[], ["learner 0"], list(HISTORIES)])
def test_length_and_header_are_the_same_whoever_evaluates(names):
    answers = []
    for roles in (ROLES, dict.fromkeys(names, "evaluation")):
        node = make_node()
        node.source.source = MemoryHistorySource(HISTORIES, roles)
        answers.append(node.answer_evaluate(question(metric_plan())))
    assert len(answers[0]) == len(answers[1])
    headers = [unpack(one, MetricReport)[0] for one in answers]
    assert len({one.head.length for one in headers}) == 1
    fresh = {"signature": "", "head": None}
    assert len({one.model_copy(update=fresh).model_dump_json() for one in headers}) == 1


@pytest.mark.parametrize(
    ("metrics", "code"),
    [
        (METRICS.model_copy(update={"noise_multiplier": 0.4}), "policy"),
        (METRICS.model_copy(update={"noise_multiplier": 1.1, "every_rounds": 1}), "budget"),
    ],
)
def test_metrics_beyond_policy_or_budget_refuse_the_plan_before_its_first_round(metrics, code):
    plan = metric_plan(metrics)
    for answer in (
        (node := evaluating_node()).answer_train(request(plan)),
        node.answer_evaluate(question(plan)),
    ):
        assert refusal_of(answer) == code
    assert not node.source.seen
    assert not kinds(node.ledger)


def test_the_whole_plan_is_priced_for_both_roles():
    node = evaluating_node()
    node.check_plan(metric_plan(rounds=30))
    frequent = METRICS.model_copy(update={"every_rounds": 1, "noise_multiplier": 5.0})
    with pytest.raises(BudgetExceededError):
        node.check_plan(metric_plan(frequent, rounds=30))
    node.check_plan(metric_plan(None, rounds=30))


def test_a_question_that_the_plan_does_not_ask_reads_nobody_and_costs_nothing():
    node, plan = evaluating_node(), metric_plan()
    weights = plan_weights(plan)
    for message in (
        pack(EvaluateRequest(plan=metric_plan(None), round=2), weights),
        pack(EvaluateRequest(plan=plan, round=1), weights),
        pack(EvaluateRequest(plan=plan, round=3), weights),
        pack(EvaluateRequest(plan=plan, round=4), weights),
        request(plan),
        b"garbage",
    ):
        assert refusal_of(node.answer_evaluate(message)) == "message"
    assert not node.source.seen
    assert not kinds(node.ledger)


def test_reproducible_noise_is_refused_for_metrics_too():
    node = evaluating_node(noise=lambda plan, number, label: KeyedNoise(1, number, label))
    assert refusal_of(node.answer_evaluate(question(metric_plan()))) == "noise"


def test_the_noise_of_metrics_is_not_that_of_training():
    labels: list[str] = []

    def noise(plan: Plan, number: int, label: str) -> KeyedNoise:
        labels.append(label)
        return KeyedNoise(1, number, label)

    policy = Policy(budget=BUDGET, allow_without_guarantee=True)
    node, plan = evaluating_node(policy=policy, noise=noise), metric_plan()
    node.answer_train(request(plan, 2))
    node.answer_evaluate(question(plan))
    assert sorted(labels) == ["dkt", "dkt/metrics", "recommender", "recommender/metrics"]


def test_where_nothing_is_enforced_metrics_are_recorded():
    node = evaluating_node(ledger=MemoryLedger(BUDGET, enforced=False))
    unpack(node.answer_evaluate(question(metric_plan())), MetricReport)
    assert node.ledger.spent()["evaluation", "all"].micro > 0
