"""Who is revoked in the middle of a run does not count from that moment on; who comes back does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloister_server.checkpoint import RoundRecord
from cloister_server.notary import Notary
from cloister_server.rounds import Coordinator
from cloister_shared.errors import RunError
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.signing import SigningKey

from .conftest import Answer, key_of

NAMES = {11: "north", 12: "south", 13: "west"}


@dataclass
class Consortium:
    """Approved nodes by Flower's id, as of now."""

    nodes: dict[int, str] = field(default_factory=lambda: dict(NAMES))

    def names(self, nodes: Iterable[int]) -> dict[int, str]:
        return {node: self.nodes[node] for node in nodes if node in self.nodes}

    def key(self, name: str) -> str | None:
        return key_of(name).public if name in self.nodes.values() else None


@pytest.fixture
def consortium() -> Consortium:
    return Consortium()


@pytest.fixture
def coordinator(
    plan: Plan, weights: dict[str, Weights], tmp_path: Path, consortium: Consortium
) -> Coordinator:
    notary = Notary(None, SigningKey.generate(), consortium.key)
    return Coordinator(
        plan, weights, tmp_path / "run", own_notary=notary, approved=consortium.names
    )


@pytest.fixture
def nodes(honest_node: Callable[[str], Answer]) -> dict[int, Answer]:
    return {number: honest_node(name) for number, name in NAMES.items()}


def test_an_answer_of_a_node_that_was_revoked_meanwhile_does_not_count(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, consortium: Consortium
) -> None:
    """West has answered; the operator revokes it before anybody looked at that."""
    west = nodes[13]

    def answer(body: bytes) -> bytes | None:
        consortium.nodes.pop(13, None)
        return west(body)

    state = coordinator.run(exchange_of({**nodes, 13: answer}))
    assert all(record.participants == ("north", "south") for record in state.records)
    assert "approved" in state.records[0].rejected["west"]
    assert state.records[1].rejected == {}, "it was not even asked again"


def test_who_was_revoked_between_two_rounds_is_not_asked(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, consortium: Consortium
) -> None:
    def revoke(record: RoundRecord, _: object) -> None:
        consortium.nodes.pop(13, None)

    coordinator.observe = revoke
    exchange = exchange_of(nodes)
    coordinator.run(exchange)
    asked = [set(bodies) for _, bodies in exchange.sent]
    assert asked == [{11, 12, 13}, *[{11, 12}] * 4]


def test_below_the_quorum_that_revoking_left_the_run_stops(
    coordinator: Coordinator, nodes: dict[int, Answer], exchange_of: Any, consortium: Consortium
) -> None:
    del consortium.nodes[12], consortium.nodes[13]
    with pytest.raises(RunError, match="1 of 1 nodes gave one"):
        coordinator.run(exchange_of(nodes))


def test_a_node_that_was_invited_again_counts_under_its_new_id(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    consortium: Consortium,
    honest_node: Callable[[str], Answer],
) -> None:
    """With the signing key that it had, and another transport key."""
    exchange = exchange_of(nodes)
    exchange.from_round[3] = {14: honest_node("west")}

    def come_back(record: RoundRecord, _: object) -> None:
        if record.round == 2:
            consortium.nodes = {11: "north", 12: "south", 14: "west"}

    coordinator.observe = come_back
    state = coordinator.run(exchange)
    assert all(record.participants == ("north", "south", "west") for record in state.records)
    assert all(record.rejected == {} for record in state.records)


def test_nobody_takes_the_name_of_another_approved_node(
    coordinator: Coordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    honest_node: Callable[[str], Answer],
) -> None:
    state = coordinator.run(exchange_of({**nodes, 13: honest_node("south")}))
    assert state.records[0].participants == ("north", "south")
    assert state.records[0].rejected.keys() == {"west"}
