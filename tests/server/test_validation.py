"""Which contributions count: everything else is rejected with a reason, and honest noise never."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cloister_server.notary import Notary
from cloister_server.validation import accept, check_norm, norm_bound
from cloister_shared.errors import MessageError
from cloister_shared.messages import Contribution, Receipt, Refusal, split, unpack
from cloister_shared.model_specs import Weights
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.ledger_format import SignedHead
from cloister_shared.privacy.noise import KeyedNoise, gaussian

from .conftest import signed

Contribute = Callable[..., bytes]


@pytest.fixture
def notary() -> Notary:
    return Notary.passing()


def deltas_of(body: bytes) -> dict[str, Weights]:
    return split(unpack(body, Contribution)[1])


def test_an_honest_contribution_counts(plan: Plan, contribute: Contribute, notary: Notary) -> None:
    for number in (1, 4):
        body = contribute(plan, "south", number)
        header, deltas = accept(body, plan, number, notary)
        assert header.node == "south"
        assert deltas.keys() == {model.spec.kind for model in plan.active(number)}
        np.testing.assert_array_equal(deltas["dkt"]["input"], deltas_of(body)["dkt"]["input"])


def test_an_answer_with_more_bytes_than_it_can_have_is_refused_unread(
    plan: Plan, contribute: Contribute, notary: Notary
) -> None:
    """To read a million arrays without a number takes long."""
    body = contribute(plan, "south", 1)
    for _ in range(2):
        accept(body, plan, 1, notary)
    with pytest.raises(MessageError, match="bytes, and"):
        accept(body + bytes(100_000), plan, 1, notary)


@pytest.mark.parametrize(
    "change", [{"digest": "x" * 5000}, {"ledger": "x" * 5000}, {"length": 10**300}]
)
def test_what_all_nodes_are_told_of_a_ledger_is_short(
    plan: Plan, notary: Notary, change: dict[str, Any]
) -> None:
    head = SignedHead(ledger="ledger", length=1, digest="0").model_copy(update=change)
    header = Contribution(plan=plan.digest, round=1, node="north").model_copy(update={"head": head})
    with pytest.raises(MessageError, match="bad Contribution: head"):
        accept(signed(header), plan, 1, notary)


def altered(kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    def alter(deltas: dict[str, Weights]) -> dict[str, Weights]:
        return {**deltas, kind: {**deltas[kind], name: change(deltas[kind][name])}}

    return alter


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        copy = array.copy()
        copy.flat[3] = value
        return copy

    return change


ALTERATIONS = {
    "NaN": (altered("dkt", "input", with_value(math.nan)), "not finite"),
    "infinite": (altered("recommender", "target", with_value(math.inf)), "not finite"),
    "wrong shape": (altered("dkt", "output", np.transpose), "must be float32"),
    "shape that broadcasts": (altered("dkt", "output", lambda a: a[:1]), "must be float32"),
    "no values": (altered("dkt", "output", lambda a: a[:0]), "must be float32"),
    "float64": (altered("dkt", "output", lambda a: a.astype(np.float64)), "must be float32"),
    "integers": (altered("dkt", "output", lambda a: a.astype(np.int32)), "must be float32"),
    "missing model": (lambda d: {"dkt": d["dkt"]}, "instead of this round's models"),
    "another model": (lambda d: {**d, "spy": d["dkt"]}, "instead of this round's models"),
    "no model": (lambda d: {}, "instead of this round's models"),
    "missing array": (
        lambda d: {**d, "dkt": {"input": d["dkt"]["input"]}},
        "asked for the arrays",
    ),
    "extra array": (
        lambda d: {**d, "dkt": {**d["dkt"], "spy": d["dkt"]["input"]}},
        "asked for the arrays",
    ),
    "huge": (altered("dkt", "input", lambda a: a + np.float32(100)), "above the bound"),
    "largest": (altered("dkt", "input", with_value(3e38)), "above the bound"),
    "huge under Adam": (
        altered("recommender", "source", lambda a: a + np.float32(1)),
        "above the bound",
    ),
}


@pytest.mark.parametrize(("alter", "reason"), ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_arrays_that_a_node_cannot_honestly_have_are_rejected(
    plan: Plan, contribute: Contribute, alter: Any, reason: str, notary: Notary
) -> None:
    deltas = alter(deltas_of(contribute(plan)))
    with pytest.raises(MessageError, match=reason):
        accept(contribute(plan, deltas=deltas), plan, 1, notary)


def test_an_array_without_a_model_is_rejected(plan: Plan, notary: Notary) -> None:
    header = Contribution(plan=plan.digest, round=1, node="north")
    body = signed(header, {"input": np.zeros(3, np.float32)})
    with pytest.raises(MessageError, match="belongs to no model"):
        accept(body, plan, 1, notary)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"plan": "0" * 64}, "another plan or round"),
        ({"round": 2}, "another plan or round"),
        ({"node": "east"}, "not a node of this plan"),
        ({"node": ""}, "not a node of this plan"),
    ],
)
def test_another_plan_round_or_node_is_rejected(
    plan: Plan, contribute: Contribute, header: dict[str, object], reason: str, notary: Notary
) -> None:
    with pytest.raises(MessageError, match=reason):
        accept(contribute(plan, header=header), plan, 1, notary)


def test_a_model_whose_rounds_are_over_is_rejected(
    plan: Plan, contribute: Contribute, notary: Notary
) -> None:
    early = deltas_of(contribute(plan, number=1))
    with pytest.raises(MessageError, match="instead of this round's models"):
        accept(contribute(plan, number=3, deltas=early), plan, 3, notary)


def test_a_refusal_is_rejected_with_its_code(plan: Plan, notary: Notary) -> None:
    refusal = signed(Refusal(plan=plan.digest, round=1, node="north", code="budget"))
    with pytest.raises(MessageError, match="refused: budget"):
        accept(refusal, plan, 1, notary)


@pytest.mark.parametrize("body", [b"", b"garbage", b"\x80\x04N."])
def test_bytes_that_are_no_message_are_rejected(plan: Plan, body: bytes, notary: Notary) -> None:
    with pytest.raises(MessageError):
        accept(body, plan, 1, notary)


def test_another_kind_of_message_is_rejected(plan: Plan, notary: Notary) -> None:
    receipt = signed(Receipt(plan=plan.digest, round=1, node="north"))
    with pytest.raises(MessageError, match="expected a Contribution or Refusal"):
        accept(receipt, plan, 1, notary)


def test_the_bound_of_plain_descent_is_clip_noise_and_rate(plan: Plan) -> None:
    model = plan.models[0]
    dimension = model.spec.dimension
    noise = 1.0 * (math.sqrt(dimension) + math.sqrt(2 * math.log(1e12)))
    mean = 0.5 * (100 + noise) / (0.2 * 100)
    assert norm_bound(model, 100) == pytest.approx(1.01 * 0.1 * 2 * mean)


def test_the_bound_of_adam_depends_on_dimension_rate_and_steps_only(plan: Plan) -> None:
    model = plan.models[1]
    step = 0.1 / math.sqrt(0.001 * (1 - 0.81 / 0.999))
    expected = 1.01 * 0.01 * 3 * step * math.sqrt(model.spec.dimension)
    assert norm_bound(model, 1) == norm_bound(model, 10**6) == pytest.approx(expected)


def test_without_noise_plain_descent_has_no_bound(plan: Plan) -> None:
    plain = plan.models[0].model_copy(
        update={"mechanism": plan.models[0].mechanism.model_copy(update={"noise_multiplier": 0})}
    )
    assert norm_bound(plain, 100) == math.inf


def local_training(model: ModelPlan, gradients: np.ndarray) -> Weights:
    """What a node's own optimizer moves under these noisy mean gradients: (steps, dimension)."""
    rate, moved = model.local.learning_rate, np.zeros(gradients.shape[1])
    first = second = np.zeros_like(moved)
    for step, gradient in enumerate(gradients, start=1):
        if model.local.optimizer == "sgd":
            moved = moved - rate * gradient
            continue
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        moved = moved - rate * first / (1 - 0.9**step) / scale
    parts = np.split(moved, np.cumsum([math.prod(s) for s in model.spec.shapes().values()])[:-1])
    return {
        name: part.reshape(shape).astype(np.float32)
        for (name, shape), part in zip(model.spec.shapes().items(), parts, strict=True)
    }


@pytest.mark.parametrize("position", [0, 1], ids=["sgd", "adam"])
@pytest.mark.parametrize("size", [1, 50])
def test_honest_noise_on_top_of_every_learner_pulling_one_way_never_trips_the_bound(
    plan: Plan, position: int, size: int
) -> None:
    model = plan.models[position]
    mechanism, dimension = model.mechanism, model.spec.dimension
    direction = np.ones(dimension) / math.sqrt(dimension)
    for trial in range(100):
        noise = gaussian(KeyedNoise(trial, size), model.local.steps * dimension)
        drawn = noise.reshape(-1, dimension) * mechanism.noise_multiplier
        total = mechanism.clip_norm * (size * direction + drawn)
        check_norm(local_training(model, total / (mechanism.sampling_rate * size)), model, size)


def test_adam_stays_under_the_bound_whatever_the_gradients(plan: Plan) -> None:
    """Gradients that grow by β₂/β₁ a step make Adam's steps as long as they can be."""
    local = plan.models[1].local.model_copy(update={"steps": 2000})
    model = plan.models[1].model_copy(update={"local": local})
    growth = (0.999 / 0.9) ** np.arange(2000.0)
    gradients = np.outer(growth, np.ones(model.spec.dimension))
    delta = local_training(model, gradients)
    check_norm(delta, model, 100)
    norm = math.sqrt(sum(float(np.sum(array.astype(float) ** 2)) for array in delta.values()))
    assert norm > 0.6 * norm_bound(model, 100)


def test_the_bound_lets_nobody_move_the_model_as_they_like(plan: Plan) -> None:
    """A longer delta than the bound is rejected however it is spread over the arrays."""
    model = plan.models[0]
    bound = norm_bound(model, 100)
    for name, shape in model.spec.shapes().items():
        delta = {other: np.zeros(s, np.float32) for other, s in model.spec.shapes().items()}
        delta[name] = np.full(shape, 1.001 * bound / math.sqrt(math.prod(shape)), np.float32)
        with pytest.raises(MessageError, match="above the bound"):
            check_norm(delta, model, 100)
        delta[name] *= np.float32(0.99)
        check_norm(delta, model, 100)
