"""A node: bytes in, bytes out, charged before it reads, silent about learners."""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cloister_client.histories import History, MemoryHistorySource, Purpose
from cloister_shared.errors import (
    DataError,
)
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    is_authentic,
    pack,
    split,
    unpack,
)
from cloister_shared.model_specs import check_weights
from cloister_shared.plan import LocalTraining

from .learners import made_up_history
from .nodes import (
    HISTORIES,
    KEY,
    FailingSource,
    kinds,
    make_node,
    make_plan,
    plan_weights,
    refusal_of,
    request,
)


def test_whatever_a_node_answers_is_signed_with_its_key():
    node, plan = make_node(), make_plan()
    released = pack(Release(plan=plan, round=3), plan_weights(plan))
    answers = (
        node.answer_train(request(plan)),
        node.answer_train(request(make_plan(rounds=10_000))),
        node.answer_train(b"garbage"),
        node.answer_release(released),
        node.answer_release(b"garbage"),
    )
    for answer in answers:
        header, arrays = unpack(answer, Contribution, Refusal, Receipt)
        assert is_authentic(header, arrays)
        assert header.key == KEY.public


@pytest.mark.parametrize("number", [1, 3])
def test_a_contribution_holds_the_delta_of_every_model_of_the_round(number):
    plan = make_plan()
    header, arrays = unpack(make_node().answer_train(request(plan, number)), Contribution)
    assert (header.plan, header.round, header.node) == (plan.digest, number, "oak")
    deltas = split(arrays)
    assert deltas.keys() == {model.spec.kind for model in plan.active(number)}
    for model in plan.active(number):
        check_weights(deltas[model.spec.kind], model.spec)


def test_the_charge_is_there_before_anybody_is_looked_up_and_the_commit_before_the_answer():
    node = make_node()
    answer = node.answer_train(request(make_plan()))
    assert node.source.seen
    assert all(seen == ["RESERVE", "START"] for seen in node.source.seen)
    last = node.ledger.export().entries[-1]
    assert last.kind == "COMMIT"
    assert last.payload_digest == hashlib.sha256(answer).hexdigest()


def test_the_charge_is_what_the_plan_says_for_the_round():
    node, plan = make_node(), make_plan(local=LocalTraining(steps=7))
    for number in (1, 2, 3):
        node.answer_train(request(plan, number))
        charge = node.ledger.export().entries[-3].charge
        assert (charge.run, charge.round, charge.plan) == ("autumn", number, plan.digest)
        assert charge.events == plan.charge_events(number)
        assert charge.cohorts == ("all",)


def test_a_repeated_request_gives_identical_bytes_costs_nothing_and_reads_nobody():
    node, message = make_node(), request(make_plan())
    first = node.answer_train(message)
    spent, reads = node.ledger.spent(), len(node.source.seen)
    assert node.answer_train(message) == first
    assert node.ledger.spent() == spent
    assert len(node.source.seen) == reads


def test_a_round_is_answered_once_whatever_else_is_asked():
    node, plan = make_node(), make_plan()
    node.answer_train(request(plan))
    others = {name: 2 * array for name, array in plan_weights(plan).items()}
    again = node.answer_train(pack(TrainRequest(plan=plan, round=1), others))
    assert refusal_of(again) == "ledger"
    assert kinds(node.ledger) == ["RESERVE", "START", "COMMIT"]


def test_two_nodes_with_the_same_learners_never_send_the_same_noise():
    arrays = [
        unpack(make_node({}).answer_train(request(make_plan())), Contribution)[1] for _ in "ab"
    ]
    assert all((arrays[0][name] != arrays[1][name]).any() for name in arrays[0])


@pytest.mark.parametrize(
    "histories",
    [
        {name: one for name, one in HISTORIES.items() if name != "learner 9"},
        {**HISTORIES, "one more": made_up_history(3000, 1)},
        {"alone": made_up_history(1, 1)},
        {},
    ],
    ids=["one less", "one more with 3000 answers", "one learner", "nobody"],
)
def test_length_and_header_are_the_same_whoever_is_enrolled(histories):
    answers = [
        make_node(some).answer_train(request(make_plan())) for some in (HISTORIES, histories)
    ]
    assert len(answers[0]) == len(answers[1])
    # Everything before the arrays' bytes, but for digests and signatures.
    heads = [answer[: 8 + int.from_bytes(answer[:8], "little")] for answer in answers]
    masked = [re.sub(rb"[0-9a-f]{32,}", lambda found: b"#" * len(found[0]), one) for one in heads]
    assert masked[0] == masked[1]


def test_a_node_with_nobody_eligible_sends_noise_of_the_declared_scale():
    nobody = MemoryHistorySource(HISTORIES, roles=dict.fromkeys(HISTORIES, "evaluation"))
    answer = make_node(source=nobody).answer_train(request(make_plan()))
    deltas = split(unpack(answer, Contribution)[1])
    scale = 4.0 * 0.5 / (0.5 * 50)
    values = np.concatenate([array.ravel() for array in deltas["dkt"].values()])
    assert scale / 2 < values.std() < 2 * scale


@dataclass(frozen=True)
class UnlistedSource:
    """Cannot even say who is enrolled."""

    error: Exception

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        raise self.error

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        return []


@pytest.mark.parametrize("broken", ["their records", "the list"])
def test_records_that_cannot_be_used_are_left_out_and_nobody_outside_is_told(broken, caplog):
    """A refusal would tell that a learner with such records is enrolled."""
    error = DataError("ada lovelace has an answer to an unknown item")
    source = FailingSource(error) if broken == "their records" else UnlistedSource(error)
    message = request(make_plan())
    answer = make_node(source=source).answer_train(message)
    unpack(answer, Contribution)
    assert len(answer) == len(make_node().answer_train(message))
    assert "cannot be used" in caplog.text or "could not be listed" in caplog.text
    assert "lovelace" not in caplog.text
    assert b"lovelace" not in answer


def test_a_crash_gives_no_charge_back_and_the_next_attempt_is_charged_anew():
    node, message = make_node(), request(make_plan())
    with pytest.raises(KeyError):
        replace(node, source=FailingSource(KeyError("ada"))).answer_train(message)
    assert kinds(node.ledger) == ["RESERVE", "START"]
    once = node.ledger.spent()["train", "all"].micro
    unpack(node.answer_train(message), Contribution)
    assert kinds(node.ledger) == ["RESERVE", "START", "RESERVE", "START", "COMMIT"]
    assert node.ledger.spent()["train", "all"].micro == 2 * once
