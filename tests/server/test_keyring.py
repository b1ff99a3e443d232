"""Names belong to keys: whoever signs otherwise, or was changed on the way, does not count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister_server.keyring import Keyring
from cloister_server.rounds import Coordinator
from cloister_shared.errors import ConfigError, RunError
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack,
    pack_signed,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.signing import SigningKey

from .conftest import honest_deltas

Answer = Callable[[bytes], bytes | None]
MakeCoordinator = Callable[[], Coordinator]
NAMES = {11: "north", 12: "south", 13: "west"}
KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()


def signing_node(name: str, key: SigningKey) -> Answer:
    """Contributes and stores as the protocol says, signed with ``key``."""

    def answer(message: bytes) -> bytes:
        header, _ = unpack(message, TrainRequest, Release)
        says = {"plan": header.plan.digest, "round": header.round, "node": name}
        if isinstance(header, Release):
            return pack_signed(Receipt(**says), {}, key)
        deltas = join(honest_deltas(header.plan, name, header.round))
        return pack_signed(Contribution(**says), deltas, key)

    return answer


def changed(node: Answer, change: Callable[[Contribution, Weights], bytes]) -> Answer:
    """What ``node`` says, changed on the way."""
    return lambda message: change(*unpack(node(message) or b"", Contribution))


@pytest.fixture
def make_coordinator(plan: Plan, weights: dict[str, Weights], tmp_path: Path) -> MakeCoordinator:
    return lambda: Coordinator(plan, weights, tmp_path / "run")


@pytest.fixture
def nodes() -> dict[int, Answer]:
    return {number: signing_node(name, KEY) for number, name in NAMES.items()}


CHANGES: dict[str, Callable[[Contribution, Weights], bytes]] = {
    "the arrays": lambda header, arrays: pack(
        header, {name: array + np.float32(1e-7) for name, array in arrays.items()}
    ),
    "the name": lambda header, arrays: pack(header.model_copy(update={"node": "west"}), arrays),
    "the signature": lambda header, arrays: pack(
        header.model_copy(update={"signature": "0" * 128}), arrays
    ),
    "to a refusal": lambda header, arrays: pack(
        Refusal(
            plan=header.plan,
            round=header.round,
            node=header.node,
            key=header.key,
            signature=header.signature,
            code="budget",
        )
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_reply_that_was_changed_on_the_way_does_not_count_and_the_run_goes_on(
    make_coordinator: MakeCoordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    change: Callable[[Contribution, Weights], bytes],
) -> None:
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {12: changed(nodes[12], change)}
    exchange.from_round[3] = {12: nodes[12]}
    records = make_coordinator().run(exchange).records
    assert [len(record.participants) for record in records] == [3, 2, 3, 3]
    assert "signature does not fit" in records[1].rejected["south"]


def test_a_node_that_signs_with_another_key_does_not_count(
    make_coordinator: MakeCoordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {12: signing_node("south", OTHER_KEY)}
    records = make_coordinator().run(exchange).records
    assert [record.participants for record in records[1:]] == [("north", "west")] * 3
    assert "not signed with the key" in records[1].rejected["south"]


def test_a_node_that_signed_once_must_sign_always(
    make_coordinator: MakeCoordinator,
    nodes: dict[int, Answer],
    exchange_of: Any,
    honest_node: Callable[[str], Answer],
) -> None:
    exchange = exchange_of(nodes)
    exchange.from_round[2] = {12: honest_node("south")}
    records = make_coordinator().run(exchange).records
    assert "not signed with the key" in records[1].rejected["south"]


def test_a_name_belongs_to_its_key_in_later_runs_of_the_folder_too(
    make_coordinator: MakeCoordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    first = make_coordinator()
    first.run(exchange_of(nodes))
    first.checkpoint_path.unlink()
    thief = {**nodes, 12: signing_node("south", OTHER_KEY)}
    again = make_coordinator().run(exchange_of(thief))
    assert "not signed with the key" in again.records[0].rejected["node 12"]
    assert again.records[0].participants == ("north", "west")


def test_a_reply_that_does_not_count_takes_no_name(
    make_coordinator: MakeCoordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    def nothing(header: Contribution, arrays: Weights) -> bytes:
        return pack_signed(header, {}, OTHER_KEY)

    exchange = exchange_of({**nodes, 12: changed(nodes[12], nothing)})
    exchange.from_round[2] = {12: nodes[12]}
    records = make_coordinator().run(exchange).records
    assert "instead of this round's models" in records[0].rejected["node 12"]
    assert records[1].participants == ("north", "south", "west")


def test_the_quorum_of_a_release_counts_its_owners_receipts_only(
    make_coordinator: MakeCoordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    make_coordinator().run(exchange_of(nodes))
    forged = {n: signing_node(name, OTHER_KEY) for n, name in NAMES.items()}
    with pytest.raises(RunError, match="2 nodes must store the finished models, 1 did"):
        make_coordinator().run(exchange_of({**forged, 11: nodes[11]}))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"north": 1}', b"\xff"])
def test_a_broken_file_of_keys_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"keys\.json cannot be read; restore"):
        Keyring(tmp_path / "keys.json")
