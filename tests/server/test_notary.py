"""Names belong to keys and ledgers: whoever signs otherwise, or went back, does not count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister_server.notary import KEY as COORDINATOR_KEY
from cloister_server.notary import REGISTER, Notary
from cloister_server.rounds import Coordinator
from cloister_shared.errors import ConfigError, MessageError, RunError
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack,
    pack_receipts,
    pack_signed,
    receipt_of,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.ledger_format import HeadReceipt, SignedHead
from cloister_shared.signing import SigningKey

from .conftest import honest_deltas

Answer = Callable[[bytes], bytes | None]
MakeCoordinator = Callable[[], Coordinator]
NAMES = {11: "north", 12: "south", 13: "west"}
KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()
LEDGER = "a" * 32


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


def test_a_reply_that_nobody_signed_does_not_count(
    make_coordinator: MakeCoordinator, nodes: dict[int, Answer], exchange_of: Any
) -> None:
    """From the first one on, whoever it is."""

    def unsigned(header: Contribution, arrays: Weights) -> bytes:
        return pack(header.model_copy(update={"key": "", "signature": ""}), arrays)

    exchange = exchange_of({**nodes, 12: changed(nodes[12], unsigned)})
    exchange.from_round[3] = {12: nodes[12]}
    records = make_coordinator().run(exchange).records
    assert [len(record.participants) for record in records] == [2, 2, 3, 3]
    assert "signature does not fit" in records[0].rejected["node 12"]


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


@pytest.mark.parametrize("content", [b"", b"[]", b'{"nodes": {"north": 1}}', b"\xff"])
def test_a_broken_file_of_keys_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / REGISTER).write_bytes(content)
    with pytest.raises(ConfigError, match=r"notary\.json cannot be read; restore"):
        Notary.of_folder(tmp_path)


def head(length: int, branch: str = "x", key: SigningKey = KEY, ledger: str = LEDGER) -> SignedHead:
    """Of a ledger after ``length`` entries; another ``branch`` went another way."""
    return SignedHead(ledger=ledger, length=length, digest=f"{branch} {length}").signed(key)


def contribution(at: SignedHead | None, key: SigningKey = KEY) -> Contribution:
    """North's, signed, with this head."""
    blank = Contribution(plan="p", round=1, node="north", head=at)
    return unpack(pack_signed(blank, {}, key), Contribution)[0]


def refusal(at: SignedHead | None, code: str = "restored", key: SigningKey = KEY) -> Refusal:
    blank = Refusal(plan="p", round=1, node="north", code=code, head=at)
    return unpack(pack_signed(blank, {}, key), Refusal)[0]


def answered(notary: Notary, answer: Contribution, run: str = "autumn") -> None:
    """The notary checks the answer and learns of it."""
    notary.check(answer, {})
    notary.check_head(answer, run)
    notary.learn([answer], run)


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    """One that has seen two entries of north's ledger, then five."""
    notary = Notary.of_folder(tmp_path)
    for length in (2, 5):
        answered(notary, contribution(head(length)))
    return notary


def test_a_receipt_countersigns_the_last_head_and_its_counter_rises(
    notary: Notary, tmp_path: Path
) -> None:
    receipt = notary.receipts()["north"]
    assert receipt.is_authentic
    assert (receipt.ledger, receipt.length, receipt.digest) == (LEDGER, 5, "x 5")
    assert (receipt.counter, receipt.nonce) == (2, "")
    assert receipt == notary.receipts()["north"] == Notary.of_folder(tmp_path).receipts()["north"]
    answered(notary, contribution(head(8)))
    assert notary.receipts()["north"].counter == 3


def test_counters_and_heads_go_on_over_runs_and_restarts(notary: Notary, tmp_path: Path) -> None:
    again = Notary.of_folder(tmp_path)
    answered(again, contribution(head(9)), "spring")
    receipt = Notary.of_folder(tmp_path).receipts()["north"]
    assert (receipt.length, receipt.counter) == (9, 3)
    assert receipt.witness == notary.receipts()["north"].witness


def test_two_processes_that_share_the_folder_learn_of_each_others_nodes(
    notary: Notary, tmp_path: Path
) -> None:
    other = Notary.of_folder(tmp_path)
    answered(other, contribution(head(8)), "spring")
    assert notary.receipts() == other.receipts()
    answered(notary, contribution(head(11)))
    assert (other.receipts()["north"].length, other.receipts()["north"].counter) == (11, 4)


def test_what_a_slow_run_learns_late_takes_back_nothing_that_a_faster_one_has_seen(
    notary: Notary, tmp_path: Path
) -> None:
    slow = contribution(head(8))
    notary.check_head(slow, "autumn")
    answered(Notary.of_folder(tmp_path), contribution(head(11)), "spring")
    notary.learn([slow], "autumn")
    receipt = notary.receipts()["north"]
    assert (receipt.length, receipt.digest) == (11, "x 11")
    with pytest.raises(MessageError, match="went back to entry 9"):
        answered(notary, contribution(head(9)))


def test_who_was_revoked_signs_no_more_audits(tmp_path: Path) -> None:
    path = tmp_path / REGISTER
    members = {"north": KEY.public}
    answered(Notary(path, OTHER_KEY, members.get), contribution(head(2)))
    assert Notary(path, OTHER_KEY, members.get).keys == {KEY.public}
    assert Notary(path, OTHER_KEY, {}.get).keys == frozenset()
    assert Notary(path, OTHER_KEY, {"north": OTHER_KEY.public}.get).keys == frozenset()


def test_the_last_answer_of_each_run_may_come_again_and_changes_nothing(notary: Notary) -> None:
    answered(notary, contribution(head(9)), "spring")
    before = notary.receipts()
    answered(notary, contribution(head(5)), "autumn")
    answered(notary, contribution(head(9)), "spring")
    assert notary.receipts() == before


def test_who_has_a_ledger_goes_on_with_it(notary: Notary) -> None:
    wrong = {
        "went back to entry 4 of its ledger, 5 were there": contribution(head(4)),
        "went back to entry 5": contribution(head(5, "another way")),
        "another ledger than before": contribution(head(9, ledger="b" * 32)),
        "head of its ledger is not signed": contribution(head(9, key=OTHER_KEY)),
        "has a ledger now and had none": contribution(None),
        "not signed with the key": contribution(head(9, key=OTHER_KEY), OTHER_KEY),
    }
    before = notary.receipts()
    for reason, answer in wrong.items():
        with pytest.raises(MessageError, match=reason):
            answered(notary, answer)
    assert notary.receipts() == before


def test_an_answer_of_an_earlier_round_of_its_run_does_not_count(notary: Notary) -> None:
    with pytest.raises(MessageError, match="went back to entry 2"):
        answered(notary, contribution(head(2)))


def test_who_had_no_ledger_has_no_receipt_and_stays_without(tmp_path: Path) -> None:
    notary = Notary.of_folder(tmp_path)
    answered(notary, contribution(None))
    answered(notary, contribution(None))
    assert notary.receipts() == {}
    with pytest.raises(MessageError, match="has a ledger now"):
        answered(notary, contribution(head(2)))


def test_a_node_whose_backup_was_put_back_gets_a_receipt_for_that_and_once(
    notary: Notary, tmp_path: Path
) -> None:
    asking = head(4, "restored")
    notary.hear(refusal(asking))
    receipt = Notary.of_folder(tmp_path).receipts()["north"]
    assert (receipt.length, receipt.digest) == (5, "x 5"), "what was seen, not what is claimed"
    assert (receipt.nonce, receipt.counter) == (asking.digest, 3)
    notary.hear(refusal(asking))
    assert notary.receipts()["north"] == receipt
    answered(notary, contribution(head(9)))
    assert notary.receipts()["north"].nonce == ""


@pytest.mark.parametrize(
    "said",
    [
        refusal(head(4), "budget"),
        refusal(None),
        refusal(head(4, ledger="b" * 32)),
        refusal(head(4, key=OTHER_KEY)),
        refusal(head(4), key=OTHER_KEY),
        refusal(head(4)).model_copy(update={"node": "south"}),
    ],
    ids=["other code", "no head", "other ledger", "other signer", "other key", "other node"],
)
def test_nobody_else_gets_such_a_receipt(notary: Notary, said: Refusal) -> None:
    before = notary.receipts()
    notary.hear(said)
    assert notary.receipts() == before


def test_the_coordinators_key_is_its_owners_alone_and_kept(notary: Notary, tmp_path: Path) -> None:
    path = tmp_path / COORDINATOR_KEY
    assert path.stat().st_mode & 0o777 == 0o600
    left = {one.name for one in tmp_path.iterdir() if not one.name.startswith(".")}
    assert left == {COORDINATOR_KEY, REGISTER}
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        Notary.of_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 31])
def test_a_broken_key_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / COORDINATOR_KEY
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key of 32 bytes"):
        Notary.of_folder(tmp_path)


def test_a_passing_notary_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notary = Notary.passing()
    answered(notary, contribution(head(2)))
    assert notary.receipts()["north"].is_authentic
    assert list(tmp_path.iterdir()) == []


def with_ledger(name: str, key: SigningKey) -> Answer:
    """A signing node whose ledger grows by three entries a round."""
    ends: dict[int, SignedHead] = {}

    def add_head(header: Contribution, arrays: Weights) -> bytes:
        number = header.round
        ends.setdefault(number, head(3 * number, name, key, LEDGER))
        return pack_signed(header.model_copy(update={"head": ends[number]}), arrays, key)

    plain = signing_node(name, key)

    def answer(message: bytes) -> bytes | None:
        header, _ = unpack(message, TrainRequest, Release)
        reply = plain(message)
        if isinstance(header, Release):
            return reply
        return add_head(*unpack(reply or b"", Contribution))

    return answer


def test_every_node_gets_all_receipts_beside_a_request_and_not_in_it(
    make_coordinator: MakeCoordinator, exchange_of: Any
) -> None:
    nodes = {number: with_ledger(name, KEY) for number, name in NAMES.items()}
    exchange = exchange_of(nodes)
    make_coordinator().run(exchange)
    assert receipt_of(exchange.receipts[0], "north") is None
    for number, receipts in enumerate(exchange.receipts[1:], start=1):
        for name in NAMES.values():
            receipt = receipt_of(receipts, name)
            assert isinstance(receipt, HeadReceipt)
            assert (receipt.length, receipt.counter) == (3 * number, number)
    witness = receipt.witness.encode()
    assert not any(witness in body for _, bodies in exchange.sent for body in bodies.values())


def test_a_coordinator_that_dies_between_countersigning_and_checkpoint_asks_the_same_again(
    make_coordinator: MakeCoordinator, exchange_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise DiedError

    nodes = {number: with_ledger(name, KEY) for number, name in NAMES.items()}
    first, second = exchange_of(nodes), exchange_of(nodes)
    with monkeypatch.context() as patched:
        patched.setattr("cloister_server.rounds.save_checkpoint", die)
        with pytest.raises(DiedError):
            make_coordinator().run(first)
    records = make_coordinator().run(second).records
    assert first.sent == second.sent[:1]
    assert first.receipts[0] == pack_receipts({}) != second.receipts[0]
    assert [len(record.participants) for record in records] == [3] * 4
    assert {record.rejected == {} for record in records} == {True}
