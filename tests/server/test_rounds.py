"""The round loop against nodes that fail, lie, come late, and a coordinator that is killed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister_server.aggregation import apply_mean
from cloister_server.checkpoint import RoundRecord, RunState, load_checkpoint
from cloister_server.rounds import Coordinator
from cloister_server.running_sum import RunningSum
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.plan import Plan

from .conftest import signed

Answer = Callable[[bytes], bytes | None]
HonestNode = Callable[[str], Answer]
Contribute = Callable[..., bytes]


@pytest.fixture
def nodes(honest_node: HonestNode) -> dict[int, Answer]:
    return {11: honest_node("north"), 12: honest_node("south"), 13: honest_node("west")}


@pytest.fixture
def make_coordinator(
    plan: Plan, weights: dict[str, Weights], tmp_path: Path
) -> Callable[..., Coordinator]:
    """A coordinator of the plan with a directory of its own."""

    def make(directory: str = "run", **options: Any) -> Coordinator:
        return Coordinator(plan, weights, tmp_path / directory, **options)

    return make


@pytest.fixture
def coordinator(make_coordinator: Callable[..., Coordinator]) -> Coordinator:
    return make_coordinator()


def same_bits(one: dict[str, Weights], other: dict[str, Weights]) -> bool:
    first, second = join(one), join(other)
    return first.keys() == second.keys() and all(
        array.tobytes() == second[name].tobytes() for name, array in first.items()
    )


def one_round(coordinator: Coordinator, exchange: Any) -> RoundRecord:
    """The record of the first round."""
    records: list[RoundRecord] = []

    class StopError(Exception):
        pass

    def stop(record: RoundRecord, _: object) -> None:
        records.append(record)
        raise StopError

    coordinator.observe = stop
    with pytest.raises(StopError):
        coordinator.run(exchange)
    return records[0]


def test_a_run_trains_every_model_in_its_rounds_and_releases_them(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, plan: Plan
) -> None:
    exchange = exchange_of(nodes)
    state = coordinator.run(exchange)
    assert state.round == 4
    assert [record.round for record in state.records] == [1, 2, 3, 4]
    assert all(record.participants == ("north", "south", "west") for record in state.records)
    assert all(record.rejected == {} for record in state.records)
    assert [what for what, _ in exchange.sent] == ["train"] * 4 + ["release"]
    for model in plan.models:
        check_weights(state.weights[model.spec.kind], model.spec)
    assert state.optimizers["dkt"].steps == 4


def test_the_weights_are_those_of_a_literal_loop(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    plan: Plan,
    weights: dict[str, Weights],
) -> None:
    trained = coordinator.run(exchange_of(nodes)).weights
    state = RunState(plan, dict(weights))
    for number in range(1, 5):
        request = pack(TrainRequest(plan=plan, round=number))
        replies = [split(unpack(answer(request), Contribution)[1]) for answer in nodes.values()]
        for model in plan.active(number):
            kind = model.spec.kind
            running = RunningSum()
            for name, deltas in zip(("north", "south", "west"), replies, strict=True):
                running.add(deltas[kind], plan.declared_sizes[name])
            moved = apply_mean(
                state.weights[kind], running.mean(), model, number, state.optimizer(kind)
            )
            state.weights[kind] = moved
    assert same_bits(trained, state.weights)


def test_every_node_gets_the_same_request_with_the_current_weights_of_the_rounds_models(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    weights: dict[str, Weights],
) -> None:
    exchange = exchange_of(nodes)
    coordinator.run(exchange)
    for number, (_, bodies) in enumerate(exchange.sent[:4], start=1):
        assert bodies.keys() == nodes.keys()
        assert len(set(bodies.values())) == 1
        header, arrays = unpack(bodies[11], TrainRequest)
        assert header.round == number
        assert split(arrays).keys() == ({"dkt", "recommender"} if number <= 2 else {"dkt"})
    assert same_bits(split(unpack(exchange.sent[0][1][11], TrainRequest)[1]), weights)


def test_finished_models_are_kept_and_handed_out(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    exchange = exchange_of(nodes)
    state = coordinator.run(exchange)
    what, bodies = exchange.sent[-1]
    assert what == "release"
    assert bodies.keys() == nodes.keys()
    kept = (coordinator.directory / "autumn.release").read_bytes()
    assert set(bodies.values()) == {kept}
    header, arrays = unpack(kept, Release)
    assert header.round == 4
    assert same_bits(split(arrays), state.weights)


IMPOSSIBLE = b'{"w":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'


def nan_deltas(plan: Plan) -> dict[str, Weights]:
    return {
        model.spec.kind: {
            name: np.full(shape, np.nan, np.float32) for name, shape in model.spec.shapes().items()
        }
        for model in plan.models
    }


BAD: dict[str, tuple[Callable[[Plan, Contribute], bytes], str]] = {
    "garbage": (lambda plan, contribute: b"\x00" * 50, "not a safetensors document"),
    "nothing": (lambda plan, contribute: b"", "not a safetensors document"),
    "an impossible shape": (
        lambda plan, contribute: len(IMPOSSIBLE).to_bytes(8, "little") + IMPOSSIBLE,
        "not a safetensors document",
    ),
    "a refusal": (
        lambda plan, contribute: signed(
            Refusal(plan=plan.digest, round=1, node="west", code="budget")
        ),
        "refused: budget",
    ),
    "a receipt": (
        lambda plan, contribute: signed(Receipt(plan=plan.digest, round=1, node="west")),
        "expected a Contribution",
    ),
    "an unknown node": (lambda plan, contribute: contribute(plan, "east"), "not a node"),
    "another round": (
        lambda plan, contribute: contribute(plan, "west", 9),
        "another plan or round",
    ),
    "NaN": (
        lambda plan, contribute: contribute(plan, "west", deltas=nan_deltas(plan)),
        "not finite",
    ),
}


@pytest.fixture(params=BAD.values(), ids=BAD.keys())
def bad_reply(
    request: pytest.FixtureRequest, plan: Plan, contribute: Contribute
) -> tuple[bytes, str]:
    """A reply that does not count, and a part of the reason why."""
    make, reason = request.param
    return make(plan, contribute), reason


def test_a_bad_reply_is_rejected_by_name_and_the_round_goes_on(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    bad_reply: tuple[bytes, str],
) -> None:
    body, reason = bad_reply
    record = one_round(coordinator, exchange_of({**nodes, 13: lambda _: body}))
    assert record.participants == ("north", "south")
    assert record.rejected.keys() == {"node 13"}
    assert reason in record.rejected["node 13"]


def test_a_bad_reply_changes_nothing_in_the_weights(
    make_coordinator: Callable[..., Coordinator],
    nodes: dict[int, Answer],
    exchange_of: Any,
    bad_reply: tuple[bytes, str],
) -> None:
    del nodes[13]
    without = make_coordinator("without").run(exchange_of(nodes))
    with_bad = make_coordinator("with").run(exchange_of({**nodes, 13: lambda _: bad_reply[0]}))
    assert same_bits(with_bad.weights, without.weights)


def test_a_node_that_was_known_is_rejected_under_its_name(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {13: lambda _: b"broken"}
    state = coordinator.run(exchange)
    assert state.records[0].rejected == {}
    assert state.records[1].rejected.keys() == {"west"}


def test_a_name_belongs_to_the_node_that_gave_it_first(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, honest_node: HonestNode
) -> None:
    nodes[14] = honest_node("north")
    record = one_round(coordinator, exchange_of(nodes))
    assert record.participants == ("north", "south", "west")
    assert record.rejected == {"node 14": "gave another node's name"}


def test_nobody_takes_the_name_of_a_node_that_is_away(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, honest_node: HonestNode
) -> None:
    """A lower id answers first, and north is silent from round 2 on."""
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {3: honest_node("north"), 11: lambda _: None}
    records: list[RoundRecord] = []
    coordinator.observe = lambda record, _: records.append(record)
    state = coordinator.run(exchange)
    assert [record.participants for record in state.records[1:]] == [("south", "west")] * 3
    assert records[1].rejected == {"node 3": "gave another node's name"}


def test_a_node_cannot_change_its_name(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, honest_node: HonestNode
) -> None:
    del nodes[13]
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {12: honest_node("west")}
    with pytest.raises(RunError, match="south changed its name"):
        coordinator.run(exchange)


def test_a_rejected_claim_does_not_lock_the_rightful_node_out(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, honest_node: HonestNode
) -> None:
    """North claims the name of west in the round in which west joins."""
    late = nodes.pop(13)
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {11: honest_node("west"), 13: late}
    state = coordinator.run(exchange)
    assert state.records[1].participants == ("south", "west")
    assert state.records[1].rejected == {"north": "changed its name"}


def test_a_late_node_takes_part_from_the_next_round_on(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    late = nodes.pop(13)
    exchange = exchange_of(nodes)
    exchange.from_round[3] = {13: late}
    state = coordinator.run(exchange)
    assert [len(record.participants) for record in state.records] == [2, 2, 3, 3]


def test_a_silent_node_is_not_waited_for(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    nodes[13] = lambda _: None
    record = one_round(coordinator, exchange_of(nodes))
    assert record.participants == ("north", "south")
    assert record.rejected == {}


def test_below_the_quorum_the_run_fails_with_every_reason_and_resumes(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, plan: Plan
) -> None:
    refusal = signed(Refusal(plan=plan.digest, round=1, node="west", code="policy"))
    bad = {**nodes, 12: lambda _: b"garbage", 13: lambda _: refusal}
    with pytest.raises(RunError) as caught:
        coordinator.run(exchange_of(bad))
    text = str(caught.value)
    for part in ("round 1 needs 2", "1 of 3", "node 12", "node 13 refused: policy", "resume"):
        assert part in text
    assert not coordinator.checkpoint_path.exists()
    assert coordinator.run(exchange_of(nodes)).round == 4


def test_with_too_few_nodes_the_run_fails(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    with pytest.raises(RunError, match="2 nodes are needed, 1 joined"):
        coordinator.run(exchange_of({11: nodes[11]}))


class KilledError(BaseException):
    """The coordinator's process ends here."""


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_run_that_was_killed_after_any_round_ends_in_the_same_bits(
    make_coordinator: Callable[..., Coordinator],
    nodes: dict[int, Answer],
    exchange_of: Any,
    plan: Plan,
    last: int,
) -> None:
    whole = make_coordinator("whole").run(exchange_of(nodes))

    def die(record: RoundRecord, _: object) -> None:
        if record.round == last:
            raise KilledError

    with pytest.raises(KilledError):
        make_coordinator("cut", observe=die).run(exchange_of(nodes))
    resumed, exchange = make_coordinator("cut"), exchange_of(nodes)
    assert load_checkpoint(resumed.checkpoint_path, plan).round == last
    state = resumed.run(exchange)
    assert [what for what, _ in exchange.sent] == ["train"] * (4 - last) + ["release"]
    assert same_bits(state.weights, whole.weights)
    assert [record.round for record in state.records] == [1, 2, 3, 4]


def test_a_coordinator_that_dies_before_its_checkpoint_asks_the_same_bytes_again(
    make_coordinator: Callable[..., Coordinator], nodes: dict[int, Answer], exchange_of: Any
) -> None:
    """So that nodes answer from their outbox and are charged once."""

    def die(_: bytes) -> bytes:
        raise KilledError

    first, second = exchange_of({**nodes, 13: die}), exchange_of(nodes)
    with pytest.raises(KilledError):
        make_coordinator().run(first)
    make_coordinator().run(second)
    assert first.sent[0][1][11] == second.sent[0][1][11]


def test_a_finished_run_only_hands_out_its_models_again(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    first = coordinator.run(exchange_of(nodes))
    exchange = exchange_of(nodes)
    again = coordinator.run(exchange)
    assert [what for what, _ in exchange.sent] == ["release"]
    assert same_bits(first.weights, again.weights)


def test_a_release_that_too_few_nodes_store_is_a_run_error_and_can_be_repeated(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, honest_node: HonestNode
) -> None:
    def only_trains(name: str) -> Answer:
        honest = honest_node(name)
        return lambda body: honest(body) if b"train_request" in body[:200] else b"no"

    bad = {11: nodes[11], 12: only_trains("south"), 13: only_trains("west")}
    with pytest.raises(RunError, match="2 nodes must store the finished models, 1 did"):
        coordinator.run(exchange_of(bad))
    assert coordinator.run(exchange_of(nodes)).round == 4


def test_the_operator_sees_bytes_and_rejections_of_every_round(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    exchange = exchange_of({**nodes, 13: lambda _: b"12345"})
    record = one_round(coordinator, exchange)
    body = exchange.sent[0][1][11]
    assert record.bytes_down == 3 * (len(body) + len(exchange.receipts[0]))
    assert record.bytes_up == 2 * len(nodes[11](body)) + 5
    assert record.seconds >= 0


def hostile_arrays(header: Contribution) -> bytes:
    return signed(header, {f"kind {number}/x": np.zeros(1, np.float32) for number in range(500)})


def hostile_keys(header: Contribution) -> bytes:
    keys = {f"\x1b[2J\n[/red] {number}": 1 for number in range(50)}
    text = json.dumps({**header.model_dump(), **keys}, separators=(",", ":"))
    document = json.dumps({"__metadata__": {"cloister": text}}).encode()
    return len(document).to_bytes(8, "little") + document


@pytest.mark.parametrize("make", [hostile_arrays, hostile_keys])
def test_what_a_hostile_node_sends_reaches_the_records_short_and_printable(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    plan: Plan,
    make: Callable[[Contribution], bytes],
) -> None:
    body = make(Contribution(plan=plan.digest, round=1, node="west"))
    record = one_round(coordinator, exchange_of({**nodes, 13: lambda _: body}))
    reason = record.rejected["node 13"]
    assert 20 < len(reason) <= 200
    assert reason.isprintable()
