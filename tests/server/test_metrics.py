"""The coordinator's questions for metrics: after the checkpoint, once, and never in the way."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_server.checkpoint import RunState, read_checkpoint
from cloister_server.metrics import federated_figures
from cloister_server.notary import Notary
from cloister_server.rounds import Coordinator
from cloister_server.validation import accept_metrics
from cloister_shared.errors import MessageError
from cloister_shared.messages import (
    EvaluateRequest,
    MetricReport,
    Refusal,
    join,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import MetricPlan, Plan
from cloister_shared.privacy.figures import breakdown, private_figures

from .conftest import DOCUMENT, Answer, MemoryExchange, signed

METRICS = MetricPlan(every_rounds=3, noise_multiplier=2.0, bins=5)
NAMES = {1: "north", 2: "south", 3: "west"}


@pytest.fixture
def plan() -> Plan:
    """Four rounds of the tracer, two of the recommender; metrics after rounds 2, 3 and 4."""
    return Plan.model_validate({**DOCUMENT, "metrics": METRICS})


def histograms_of(plan: Plan, number: int) -> dict[str, Weights]:
    lengths = {"dkt": 10, "recommender": 11}
    return {
        model.spec.kind: {
            "histogram": np.linspace(100, 200, lengths[model.spec.kind], dtype=np.float32)
        }
        for model in plan.measured(number)
    }


def report(plan: Plan, node: str, number: int) -> bytes:
    header = MetricReport(plan=plan.digest, round=number, node=node)
    return signed(header, join(histograms_of(plan, number)))


@pytest.fixture
def nodes(honest_node: Callable[[str], Answer]) -> dict[int, Answer]:
    """Nodes that train as the protocol says, and answer for metrics with made-up histograms."""

    def measuring(name: str) -> Answer:
        train = honest_node(name)

        def answer(message: bytes) -> bytes | None:
            try:
                request, _ = unpack(message, EvaluateRequest)
            except MessageError:
                return train(message)
            return report(request.plan, name, request.round)

        return answer

    return {number: measuring(name) for number, name in NAMES.items()}


def run(
    plan: Plan, weights: dict[str, Weights], directory: Path, nodes: dict[int, Answer]
) -> tuple[RunState, MemoryExchange]:
    exchange = MemoryExchange(nodes)
    return Coordinator(plan, dict(weights), directory).run(exchange), exchange


def test_metrics_are_asked_after_the_rounds_of_the_plan_of_the_models_that_are_due(
    plan, weights, tmp_path, nodes
):
    state, exchange = run(plan, weights, tmp_path, nodes)
    assert [what for what, _ in exchange.sent] == [
        "train", "train", "evaluate", "train", "evaluate", "train", "evaluate", "release",
    ]  # fmt: skip
    asked = [
        unpack(bodies[1], EvaluateRequest) for what, bodies in exchange.sent if what == "evaluate"
    ]
    assert [header.round for header, _ in asked] == [2, 3, 4]
    assert [sorted(split(arrays)) for _, arrays in asked] == [["recommender"], ["dkt"], ["dkt"]]
    for name, array in split(asked[-1][1])["dkt"].items():
        np.testing.assert_array_equal(array, state.weights["dkt"][name])


def test_every_node_is_sent_the_same_bytes(plan, weights, tmp_path, nodes):
    _, exchange = run(plan, weights, tmp_path, nodes)
    assert all(len(set(bodies.values())) == 1 for _, bodies in exchange.sent)


def test_figures_are_those_of_the_sum_with_the_noise_of_all_who_answered(
    plan, weights, tmp_path, nodes
):
    state, _ = run(plan, weights, tmp_path, nodes)
    record = state.metrics[1]
    assert (record.round, record.participants) == (3, ("north", "south", "west"))
    total = 3.0 * np.linspace(100, 200, 10, dtype=np.float32).astype(np.float64)
    expected = private_figures(total, "binary", METRICS.noise_multiplier * math.sqrt(3))
    assert record.figures == {"dkt": expected}
    assert read_checkpoint(tmp_path / "autumn.checkpoint").metrics == state.metrics


def refuses(message: bytes) -> bytes | None:
    request, _ = unpack(message, EvaluateRequest)
    return signed(Refusal(plan=request.plan.digest, round=request.round, node="x", code="budget"))


def silent(message: bytes) -> bytes | None:
    return None


def only_metrics(train: Answer, evaluate: Answer) -> Answer:
    def answer(message: bytes) -> bytes | None:
        try:
            unpack(message, EvaluateRequest)
        except MessageError:
            return train(message)
        return evaluate(message)

    return answer


@pytest.mark.parametrize("bad", [refuses, silent])
def test_below_the_quorum_there_are_no_figures_and_the_run_goes_on(
    plan, weights, tmp_path, nodes, bad
):
    for number in (2, 3):
        nodes[number] = only_metrics(nodes[number], bad)
    state, exchange = run(plan, weights, tmp_path, nodes)
    assert state.round == plan.rounds
    assert [one.participants for one in state.metrics] == [("north",)] * 3
    assert all(not one.figures for one in state.metrics)
    assert exchange.sent[-1][0] == "release"


class DiedError(Exception):
    """The coordinator ends here."""


def test_one_that_dies_before_the_answers_asks_again_with_the_same_bytes(
    plan, weights, tmp_path, nodes
):
    asked: list[bytes] = []

    def dies(message: bytes) -> bytes | None:
        asked.append(message)
        raise DiedError

    mortal = {**nodes, 3: only_metrics(nodes[3], dies)}
    with pytest.raises(DiedError):
        run(plan, weights, tmp_path, mortal)
    state, exchange = run(plan, weights, tmp_path, nodes)
    assert exchange.sent[0] == ("evaluate", dict.fromkeys(NAMES, asked[0]))
    assert [one.round for one in state.metrics] == [2, 3, 4]


def test_a_finished_run_asks_for_nothing_again(plan, weights, tmp_path, nodes):
    run(plan, weights, tmp_path, nodes)
    _, exchange = run(plan, weights, tmp_path, nodes)
    assert [what for what, _ in exchange.sent] == ["release"]


def test_a_plan_without_metrics_asks_for_none(weights, tmp_path, nodes):
    state, exchange = run(Plan.model_validate(DOCUMENT), weights, tmp_path, nodes)
    assert {what for what, _ in exchange.sent} == {"train", "release"}
    assert state.metrics == []


def reported(plan: Plan, histogram: np.ndarray, name: str = "dkt/histogram") -> bytes:
    header = MetricReport(plan=plan.digest, round=3, node="north")
    return signed(header, {name: histogram.astype(np.float32)})


@pytest.mark.parametrize(
    "body",
    [
        lambda plan: b"",
        lambda plan: report(plan, "north", 2),
        lambda plan: report(plan, "east", 3),
        lambda plan: signed(MetricReport(plan="another", round=3, node="north"), {}),
        lambda plan: signed(Refusal(plan=plan.digest, round=3, node="north", code="budget")),
        lambda plan: reported(plan, np.zeros(9)),
        lambda plan: reported(plan, np.zeros((10, 1))),
        lambda plan: reported(plan, np.full(10, np.nan)),
        lambda plan: reported(plan, np.full(10, np.inf)),
        lambda plan: reported(plan, np.zeros(10), "dkt/other"),
        lambda plan: reported(plan, np.zeros(11), "recommender/histogram"),
        lambda plan: reported(plan, np.zeros(10), "loose"),
        lambda plan: signed(
            MetricReport(plan=plan.digest, round=3, node="north"),
            {"dkt/histogram": np.full(10, 1e300)},
        ),
    ],
)
def test_a_report_that_does_not_answer_the_question_does_not_count(plan, tmp_path, body):
    with pytest.raises(MessageError):
        accept_metrics(body(plan), plan, METRICS, 3, Notary.passing())


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=10, max_size=10)
)
def test_whatever_a_node_says_the_figures_are_numbers_or_none(noise: list[float]) -> None:
    histogram = np.array(noise, np.float32).astype(np.float64)
    for deviation in (0.0, 2.0):
        private_figures(histogram, "binary", deviation)
        breakdown(np.stack([histogram, -histogram / 3]), "binary", deviation, ("a",))


def test_the_order_of_arrival_changes_nothing(plan):
    by_node = {
        name: {"dkt": np.linspace(100, 200, 10) * (0.1 + number)} for number, name in NAMES.items()
    }
    backwards = dict(reversed(by_node.items()))
    assert federated_figures(by_node, plan, METRICS, 3) == federated_figures(
        backwards, plan, METRICS, 3
    )
