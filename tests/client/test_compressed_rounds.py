"""A node that compresses: after the noise, once for each reply, and nothing is paid twice."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloister_client.ledger import Ledger, MemoryLedger
from cloister_client.ledger.base import Reservation
from cloister_client.node import Node
from cloister_client.residuals import FileResiduals, MemoryResiduals, Residuals
from cloister_server.notary import Notary
from cloister_server.validation import accept
from cloister_shared.compression import Arrays, encode
from cloister_shared.errors import LedgerError
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Release,
    TrainRequest,
    join,
    pack,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.noise import KeyedNoise

from .learners import random_weights
from .nodes import (
    BUDGET,
    HISTORIES,
    KEY,
    kinds,
    make_node,
    plan_weights,
    refusal_of,
)
from .nodes import make_plan as make_plain_plan


def make_plan(rounds: int = 3) -> Plan:
    plain = make_plain_plan(rounds=rounds)
    document = plain.model_dump(mode="json", exclude={"schema_version"})
    return Plan.model_validate({**document, "compression": "int8"})


def request(plan: Plan, number: int = 1) -> bytes:
    arrays = {
        model.spec.kind: encode(random_weights(model.spec), model.spec, "int8")
        for model in plan.active(number)
    }
    return pack(TrainRequest(plan=plan, round=number), join(arrays))


def reproducible(plan: Plan, round_number: int, kind: str) -> KeyedNoise:
    return KeyedNoise(1, round_number, kind)


def fresh_ledger() -> MemoryLedger:
    return MemoryLedger(BUDGET, key=KEY)


def make_reproducible(ledger: Ledger, residuals: Residuals) -> Node:
    """A node whose noise can be had again, to see what became of it."""
    node = make_node(ledger=ledger, residuals=residuals, noise=reproducible)
    return replace(node, policy=node.policy.model_copy(update={"allow_without_guarantee": True}))


def received(plan: Plan, reply: bytes, number: int) -> np.ndarray:
    """What the coordinator counts of the tracer, in one row."""
    deltas = accept(reply, plan, number, Notary.passing())[1]
    return np.concatenate([array.ravel() for array in deltas["dkt"].values()])


@pytest.fixture(params=["memory", "files"])
def residuals(request: pytest.FixtureRequest, tmp_path: Path) -> Residuals:
    return MemoryResiduals() if request.param == "memory" else FileResiduals(tmp_path / "owed")


def test_what_is_sent_is_a_quarter_and_counts_at_the_coordinator() -> None:
    plan = make_plan()
    for number in (1, 2, 3):
        node = make_node(ledger=fresh_ledger())
        reply = node.answer_train(request(plan, number))
        header, arrays = unpack(reply, Contribution)
        assert header.round == number
        assert {array.dtype.name for array in arrays.values()} == {"int8", "float32"}
        deltas = accept(reply, plan, number, Notary.passing())[1]
        assert deltas.keys() == {model.spec.kind for model in plan.active(number)}


@pytest.mark.parametrize("histories", [{}, {"learner 9": HISTORIES["learner 9"]}])
def test_messages_of_one_kind_have_one_length(histories: dict) -> None:
    plan = make_plan()
    node, other = make_node(), make_node(histories)
    for number in (1, 2):
        asked = request(plan, number)
        assert len(node.answer_train(asked)) == len(other.answer_train(asked))


def test_weights_of_another_form_than_the_plan_says_are_refused() -> None:
    plan = make_plan()
    plain = pack(TrainRequest(plan=plan, round=1), plan_weights(plan, 1))
    assert refusal_of(make_node().answer_train(plain)) == "message"
    packed = pack(
        TrainRequest(plan=make_plain_plan(), round=1), unpack(request(plan), TrainRequest)[1]
    )
    assert refusal_of(make_node().answer_train(packed)) == "message"


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2)])
def test_all_that_was_noised_arrives_in_the_end(
    residuals: Residuals, order: tuple[int, ...]
) -> None:
    """What is received and what is left is what was noised, in whatever order rounds are asked.

    So no residual is lost on the way, and none is paid twice.
    """
    plan = make_plan()
    node = make_reproducible(fresh_ledger(), residuals)
    total, exact = 0.0, 0.0
    for number in order:
        asked = request(plan, number)
        total += received(plan, node.answer_train(asked), number)
        exact += noised(plan, number, asked)
    left = row(residuals.load(plan.run, node.ledger.last_reply(plan.run) or ""))
    np.testing.assert_allclose(total + left, exact, atol=1e-6)
    assert 0 < np.abs(left).max() < np.abs(exact).max() / 50


def noised(plan: Plan, number: int, asked: bytes) -> np.ndarray:
    """The tracer's delta of a round before compression, from the same noise."""
    alone = make_reproducible(fresh_ledger(), MemoryResiduals())
    sent = received(plan, alone.answer_train(asked), number)
    return sent + row(alone.residuals.load(plan.run, alone.ledger.last_reply(plan.run) or ""))


def row(arrays: Arrays) -> np.ndarray:
    """The tracer's numbers, one after the other."""
    tracer = split(arrays)["dkt"]
    names = make_plan().models[0].spec.shapes()
    return np.concatenate([tracer[name].ravel() for name in names])


def test_a_retry_sends_the_same_bytes_and_keeps_the_residual(residuals: Residuals) -> None:
    plan, node = make_plan(), make_node(residuals=residuals)
    asked = request(plan)
    first = node.answer_train(asked)
    last = node.ledger.last_reply(plan.run)
    owed = {name: array.copy() for name, array in residuals.load(plan.run, last).items()}
    assert node.answer_train(asked) == first
    assert node.ledger.last_reply(plan.run) == last
    again = residuals.load(plan.run, last)
    assert all(np.array_equal(again[name], owed[name]) for name in owed)
    assert kinds(node.ledger) == ["RESERVE", "START", "COMMIT"]


class _DyingLedger(MemoryLedger):
    """The process ends when it is about to commit, ``lives`` commits later."""

    lives = 1

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        if self.lives == 0:
            self.lives = 10
            raise KeyboardInterrupt
        self.lives -= 1
        super().commit(reservation, payload)


def test_a_crash_between_residual_and_commit_loses_no_privacy(residuals: Residuals) -> None:
    """What the attempt that died had left is part of nothing that is ever sent."""
    plan = make_plan()
    ledger = _DyingLedger(BUDGET, key=KEY)
    node = make_reproducible(ledger, residuals)
    node.answer_train(request(plan, 1))
    before = ledger.last_reply(plan.run)
    with pytest.raises(KeyboardInterrupt):
        replace(node, noise=lambda plan, number, kind: KeyedNoise(99, kind)).answer_train(
            request(plan, 2)
        )
    assert ledger.last_reply(plan.run) == before
    answered = node.answer_train(request(plan, 2))
    assert kinds(ledger)[3:] == ["RESERVE", "START", "RESERVE", "START", "COMMIT"]

    undisturbed = make_reproducible(fresh_ledger(), MemoryResiduals())
    undisturbed.answer_train(request(plan, 1))
    expected = undisturbed.answer_train(request(plan, 2))
    assert np.array_equal(received(plan, answered, 2), received(plan, expected, 2))


def test_the_residual_is_there_before_the_commit(tmp_path: Path) -> None:
    folder, seen = tmp_path / "owed", []

    class Watching(MemoryLedger):
        def commit(self, reservation: Reservation, payload: bytes) -> None:
            seen.append(len(list(folder.iterdir())))
            super().commit(reservation, payload)

    ledger = Watching(BUDGET, key=KEY)
    plan, node = make_plan(), make_node(ledger=ledger, residuals=FileResiduals(folder))
    for number in (1, 2, 3):
        node.answer_train(request(plan, number))
    assert seen == [1, 2, 2]


def test_a_residual_of_another_run_is_never_used(residuals: Residuals) -> None:
    plan = make_plan()
    other = plan.model_copy(update={"run": "autumn.2"})
    node = make_reproducible(fresh_ledger(), residuals)
    node.answer_train(request(other, 1))
    kept = node.ledger.last_reply("autumn.2")
    first = received(plan, node.answer_train(request(plan, 1)), 1)
    alone = make_reproducible(fresh_ledger(), MemoryResiduals())
    assert np.array_equal(first, received(plan, alone.answer_train(request(plan, 1)), 1))
    assert residuals.load("autumn.2", kept)


def test_a_finished_run_leaves_nothing_owed(residuals: Residuals, tmp_path: Path) -> None:
    plan, node = make_plan(), make_node(residuals=residuals)
    node.answer_train(request(plan, 1))
    last = node.ledger.last_reply(plan.run)
    assert residuals.load(plan.run, last)
    node.answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    assert residuals.load(plan.run, last) == {}
    assert not list(tmp_path.glob("owed/*"))


@pytest.mark.parametrize(
    "damage", [b"", b"garbage", b"\x00" * 5000], ids=["empty", "text", "zeros"]
)
def test_a_damaged_file_owes_nothing_and_stops_nobody(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    plan, node = make_plan(), make_node(residuals=FileResiduals(tmp_path / "owed"))
    node.answer_train(request(plan, 1))
    (file,) = (tmp_path / "owed").iterdir()
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        unpack(node.answer_train(request(plan, 2)), Contribution)
    assert "is dropped" in caplog.text


def test_a_residual_of_another_model_owes_nothing(residuals: Residuals) -> None:
    plan, node = make_plan(), make_node(residuals=residuals)
    node.answer_train(request(plan, 1))
    last = node.ledger.last_reply(plan.run)
    strange: Weights = {"dkt/odd": np.ones(3, np.float32)}
    residuals.keep(plan.run, last, strange, None)
    unpack(node.answer_train(request(plan, 2)), Contribution)


def test_a_disk_that_takes_no_residual_releases_nothing(tmp_path: Path) -> None:
    (tmp_path / "owed").write_text("a file is in the way")
    node = make_node(residuals=FileResiduals(tmp_path / "owed"))
    assert refusal_of(node.answer_train(request(make_plan()))) == "ledger"
    assert kinds(node.ledger) == ["RESERVE", "START"]
    with pytest.raises(LedgerError, match="cannot be kept"):
        FileResiduals(tmp_path / "owed").keep("run", "0" * 64, {}, None)


def test_a_residual_that_cannot_be_dropped_costs_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan, node = make_plan(), make_node(residuals=FileResiduals(tmp_path / "owed"))
    node.answer_train(request(plan, 1))
    (tmp_path / "owed" / f"{'0' * 64}.{plan.run}").mkdir()
    unpack(node.answer_train(request(plan, 2)), Contribution)
    unpack(node.answer_release(pack(Release(plan=plan, round=3), plan_weights(plan))), Receipt)
    assert "cannot be removed" in caplog.text


def test_residuals_are_the_owners_alone(tmp_path: Path) -> None:
    node = make_node(residuals=FileResiduals(tmp_path / "owed"))
    node.answer_train(request(make_plan()))
    (file,) = (tmp_path / "owed").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "owed").stat().st_mode & 0o077 == 0


def test_the_price_is_that_of_the_same_plan_without_compression() -> None:
    assert make_plan().charge_events(1) == make_plain_plan().charge_events(1)
    node = make_node()
    node.answer_train(request(make_plan()))
    plain = make_node()
    plain.answer_train(
        pack(TrainRequest(plan=make_plain_plan(), round=1), plan_weights(make_plain_plan(), 1))
    )
    assert node.ledger.spent() == plain.ledger.spent()
