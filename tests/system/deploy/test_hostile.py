"""Who means ill is refused by name, at both sides, and the run goes on.

oak answers as it should not; a coordinator, with all keys that it has, asks what it should not.
"""

import hashlib
import io
import socket
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from tests.system.books import export_of
from tests.system.deploy.hostile import MISDEED
from tests.system.deploy.processes import ended
from tests.system.deploy.trees import Trees, check_accounts, new_run, records, rounds_with, trees
from tests.waiting import until

from cloister_client.fleet.link import FleetLink
from cloister_client.fleet.messages import ShutOutError
from cloister_client.joining import join
from cloister_server.checkpoint import RunState
from cloister_server.flower import GridExchange, Signer
from cloister_server.flower import _reply as reply_of
from cloister_server.grid import acquire
from cloister_server.invitations import Invitations
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_server.runner import Runner
from cloister_server.superlink import BUNDLE, Control
from cloister_shared.bundles import RUN_KEY
from cloister_shared.errors import PolicyError
from cloister_shared.frozen import Frozen
from cloister_shared.journal import Journal
from cloister_shared.messages import (
    Question,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    pack,
    unpack,
)
from cloister_shared.messages import join as joined
from cloister_shared.requests import SignedTerms, sign_request
from cloister_shared.signing import SigningKey

pytestmark = [pytest.mark.deploy, pytest.mark.xdist_group("hostile")]

PATIENCE_S = 180.0
HONEST = ("elm",)
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trees]:
    with trees(tmp_path_factory.mktemp("consortium"), HONEST) as running:
        home = running.join("oak")
        running.start("oak", "-m", "tests.system.deploy.hostile", str(home.path))
        yield running


@pytest.fixture(scope="module")
def run(consortium: Trees) -> Iterator[RunFolder]:
    """One that goes on for as long as there are tests, and whose books are right in the end."""
    folder = consortium.order(new_run("autumn", 1000))
    until(lambda: rounds_with(folder, "oak") > 0, "oak takes part", PATIENCE_S)
    yield folder
    folder.want(Wanted.STOPPED)
    assert ended(folder) is Phase.STOPPED, folder.status.reason
    check_accounts(folder, consortium.nodes)


def goes_on(folder: RunFolder, name: str) -> None:
    """Wait until a node has taken part in two rounds more."""
    wanted = rounds_with(folder, name) + 2
    until(lambda: rounds_with(folder, name) >= wanted, f"{name} takes part", PATIENCE_S)


@pytest.mark.parametrize(
    ("misdeed", "reason"),
    [
        ("nan", "finite"),
        ("shape", "must be float32"),
        ("norm", "is above the bound"),
        ("kind", "instead of this round's models"),
        ("replay", "another plan or round|went back"),
        ("name", "key of an approved node of this name"),
        ("altered", "altered or forged|not a safetensors"),
        ("garbage", "safetensors"),
    ],
)
def test_an_answer_that_is_none_is_refused_and_the_round_goes_on_without(
    consortium: Trees, run: RunFolder, misdeed: str, reason: str
) -> None:
    file = consortium.path("oak") / MISDEED
    file.write_text(misdeed)
    try:
        until(lambda: "oak" in records(run)[-1].rejected, "oak is refused", PATIENCE_S)
        last = next(one for one in reversed(records(run)) if "oak" in one.rejected)
        assert any(one in last.rejected["oak"] for one in reason.split("|")), last.rejected
        assert last.participants == HONEST
        goes_on(run, "elm")
    finally:
        file.unlink()
    goes_on(run, "oak")
    refused = consortium.journal("coordinator", "runner", "reply refused")
    assert (last.round, "oak") in {(one["round"], one["node"]) for one in refused}


def test_an_answer_of_more_bytes_than_are_taken_is_refused_and_its_node_goes_on(
    consortium: Trees, run: RunFolder
) -> None:
    file = consortium.path("oak") / MISDEED
    before = len(consortium.journal("coordinator", "link", "shut out"))
    file.write_text("too many bytes")
    try:
        until(
            lambda: len(consortium.journal("coordinator", "link", "shut out")) > before,
            "the guard refuses",
            PATIENCE_S,
        )
    finally:
        file.unlink()
    goes_on(run, "elm")
    goes_on(run, "oak")


def test_a_body_of_a_gigabyte_is_refused_unread(consortium: Trees, run: RunFolder) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    config, authority = consortium.home.config, consortium.home.authority_pem()
    trust = httpx.create_ssl_context()
    trust.load_verify_locations(cadata=authority)
    url = f"https://127.0.0.1:{config.port}/v1/fleet/push-messages"
    headers = {"content-length": str(2**30)}
    # It may be hung up on while it still sends.
    with httpx.Client(verify=trust, headers=headers) as client, suppress(httpx.WriteError):
        assert client.post(url, content=endless()).status_code == 413
    (heard,) = consortium.journal("coordinator", "link", "shut out")[-1:]
    assert heard["code"] == "size"
    goes_on(run, "elm")


def test_a_stranger_is_shut_out(consortium: Trees, run: RunFolder, tmp_path: Path) -> None:
    coordinator = consortium.nodes["oak"].coordinator()
    assert coordinator is not None
    stranger = FleetLink(
        coordinator.address,
        coordinator.authority.encode(),
        ec.generate_private_key(ec.SECP384R1()),
        tmp_path / "node_id",
        max_bytes=2**20,
    )
    with pytest.raises(ShutOutError):
        stranger.connect()
    stranger.close()
    (heard,) = consortium.journal("coordinator", "link", "shut out")[-1:]
    assert heard["code"] == "unknown"
    goes_on(run, "elm")


def test_idle_connections_without_end_hold_no_node_up(consortium: Trees, run: RunFolder) -> None:
    """They come from the very address that the nodes have."""
    address = ("127.0.0.1", consortium.home.config.port)
    with ExitStack() as idle:
        for _ in range(600):
            with suppress(OSError):
                idle.enter_context(socket.create_connection(address, DEADLINE_S))
        goes_on(run, "oak")
        goes_on(run, "elm")
    heard = consortium.journal("coordinator", "link", "shut out")
    assert "crowd" in {one["code"] for one in heard}
    until(lambda: is_let_in(address), "there are places again", DEADLINE_S)


def is_let_in(address: tuple[str, int]) -> bool:
    with socket.create_connection(address, 0.2) as one, suppress(ConnectionError):
        try:
            return bool(one.recv(1))
        except TimeoutError:
            return True
    return False


def test_a_node_speaks_to_no_other_in_the_coordinators_name(
    consortium: Trees, run: RunFolder, tmp_path: Path
) -> None:
    oak = consortium.nodes["oak"]
    coordinator = oak.coordinator()
    assert coordinator is not None
    with closing(Control(consortium.home)) as control:
        ids = control.nodes()
    to_elm = ids[consortium.nodes["elm"].transport_public_key().encode()]
    part = "0" * 64
    forged = ProtoMessage()
    forged.metadata.MergeFrom(
        Metadata(
            run_id=1,
            message_id=part,
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=to_elm,
            created_at=time.time(),
            ttl=DEADLINE_S,
            message_type="train.round",
        )
    )
    request = PushMessagesRequest(
        node=Node(node_id=ids[oak.transport_public_key().encode()]),
        messages_list=[forged],
        message_object_trees=[ObjectTree(object_id=part)],
    )
    authority = coordinator.authority.encode()
    key, memory = oak.transport_key(), tmp_path / "node_id"
    with (
        closing(FleetLink(coordinator.address, authority, key, memory, max_bytes=2**20)) as link,
        pytest.raises(httpx.HTTPStatusError, match="400"),
    ):
        link._client.PushMessages(request)
    (heard,) = consortium.journal("coordinator", "link", "shut out")[-1:]
    assert (heard["code"], heard["address"]) == ("source", "oak")
    goes_on(run, "elm")


def test_a_stolen_kit_that_was_used_is_worth_nothing(
    consortium: Trees, run: RunFolder, tmp_path: Path
) -> None:
    kit = Invitations(consortium.home).issue("fir")
    config = tmp_path / "fir.yaml"
    config.write_text("name: fir\ndeclared_size: 50\n")
    join(kit, kit.kit.fingerprint, tmp_path / "school", config)
    with pytest.raises(PolicyError):
        join(kit, kit.kit.fingerprint, tmp_path / "thief", config)
    (seen,) = consortium.journal("coordinator", "nodes", "kit reused")
    assert seen["node"] == "fir"
    goes_on(run, "elm")


# A coordinator that means ill: it has the keys, the link and the nodes' trust in the transport.


@contextmanager
def second_run(consortium: Trees) -> Iterator[GridExchange]:
    """A way to the nodes beside the run that goes on."""
    runner = Runner(consortium.home, Journal(consortium.folder / "hostile.jsonl"))
    with runner.exchange("hostile") as exchange:
        yield exchange


def asked(exchange: GridExchange, body: bytes, question: Question = "train") -> list[bytes]:
    """What all nodes answer."""
    bodies = dict.fromkeys(exchange.wait_for_nodes(2, DEADLINE_S), body)
    return [one.body or b"" for one in exchange.ask(question, bodies, 1, DEADLINE_S)]


def codes(answers: list[bytes]) -> set[str]:
    return {unpack(answer, Refusal)[0].code for answer in answers}


def request(state: RunState) -> bytes:
    return pack(TrainRequest(plan=state.plan, round=1), joined(state.weights))


def without_noise() -> bytes:
    state = new_run("hostile", 1)
    (model,) = state.plan.models
    weak = model.mechanism.model_copy(update={"noise_multiplier": 0.01})
    models = (model.model_copy(update={"mechanism": weak}),)
    plan = state.plan.model_copy(update={"models": models})
    return pack(TrainRequest(plan=plan, round=1), joined(state.weights))


class Wider(Frozen):
    """A train request whose plan has a key that nobody knows."""

    type: Literal["train_request"] = "train_request"
    plan: dict[str, Any]
    round: int = 1


def with_unknown_key() -> bytes:
    state = new_run("hostile", 1)
    plan = {**state.plan.model_dump(mode="json"), "send_records": True}
    return pack(Wider(plan=plan), joined(state.weights))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (without_noise, "policy"),
        (with_unknown_key, "message"),
        (lambda: request(new_run("hostile", 1, curriculum="0" * 64)), "curriculum"),
        (lambda: request(new_run("hostile", 1, nodes=("elsewhere", "nowhere"))), "declared_size"),
        (lambda: b"\0" * 1000, "message"),
    ],
)
def test_what_no_policy_allows_is_refused_by_every_node(
    consortium: Trees, run: RunFolder, body: Callable[[], bytes], code: str
) -> None:
    with second_run(consortium) as exchange:
        assert codes(asked(exchange, body())) == {code}
    for name in HONEST:
        assert consortium.journal(name, "trainer", "refused")[-1]["code"] == code
    goes_on(run, "elm")


class Late(Signer):
    """Signs what was to be taken up a minute ago."""

    def terms(self, body: bytes, nodes: Collection[str], deadline_s: float) -> SignedTerms:
        return sign_request(body, nodes, int(time.time()) - 60, self.key)


def named(nodes: Iterable[int]) -> dict[int, str]:
    """Names for all of them, be they right or wrong."""
    return dict(zip(nodes, ("elm", "oak"), strict=True))


def named_otherwise(nodes: Iterable[int]) -> dict[int, str]:
    return dict.fromkeys(nodes, "fir")


@pytest.mark.parametrize(
    ("signer_of", "code"),
    [
        (lambda key: None, "signature"),
        (lambda key: Signer(SigningKey.generate(), named), "signature"),
        (lambda key: Signer(key, named_otherwise), "recipient"),
        (lambda key: Late(key, named), "expired"),
    ],
    ids=["unsigned", "another's key", "another node's", "an old one"],
)
def test_a_request_that_is_not_the_coordinators_to_this_node_now_is_not_even_read(
    consortium: Trees, run: RunFolder, signer_of: Callable[[SigningKey], Signer | None], code: str
) -> None:
    signer = signer_of(consortium.home.signing_key())
    with second_run(consortium) as exchange:
        altered = GridExchange(exchange._grid, signer)
        assert codes(asked(altered, request(new_run("hostile", 1)))) == {code}
    for name in HONEST:
        assert consortium.journal(name, "fleet", "refused")[-1]["code"] == code
    goes_on(run, "elm")


def test_an_old_release_is_refused_and_the_newer_one_serves_on(
    consortium: Trees, run: RunFolder
) -> None:
    old, new = (
        pack(Release(plan=state.plan, round=1, serial=serial), joined(state.weights))
        for serial, state in enumerate((new_run("old", 1), new_run("new", 1)), start=1)
    )

    def served(name: str) -> str | None:
        with consortium.nodes[name].store() as store:
            return store.active_version("dkt")

    with second_run(consortium) as exchange:
        for body in (old, new):
            for answer in asked(exchange, body, "release"):
                unpack(answer, Receipt)
        until(lambda: served("elm") is not None, "elm serves a model", PATIENCE_S)
        assert codes(asked(exchange, old, "release")) == {"old_release"}
    with consortium.nodes["elm"].store() as store:
        (newer,) = store.released(new_run("new", 1).plan.digest, 1)
    until(lambda: served("elm") == newer.version, "elm serves the newer model", PATIENCE_S)
    goes_on(run, "elm")


def test_a_message_of_no_kind_that_we_know_is_refused(consortium: Trees, run: RunFolder) -> None:
    with second_run(consortium) as exchange:
        nodes = exchange.wait_for_nodes(2, DEADLINE_S)
        bodies = dict.fromkeys(nodes, request(new_run("hostile", 1)))
        content = next(content for content, _ in exchange._contents(bodies, b"", DEADLINE_S))
        messages = [Message(content, node, "query.records") for node in nodes]
        replies = exchange._grid.send_and_receive(messages, timeout=DEADLINE_S)
        assert codes([reply_of(one).body or b"" for one in replies]) == {"message"}
    goes_on(run, "elm")


def test_a_request_that_is_sent_again_is_answered_the_same_and_costs_nothing(
    consortium: Trees, run: RunFolder
) -> None:
    body = request(new_run("replayed", 1))
    with second_run(consortium) as exchange:
        first, second = (sorted(asked(exchange, body)) for _ in range(2))
    assert first == second
    for name in HONEST:
        entries = export_of(consortium.path(name)).entries
        runs = [one.charge.run for one in entries if one.kind == "RESERVE"]
        assert runs.count("replayed") == 1
    goes_on(run, "elm")


def shadowing() -> bytes:
    """A bundle with a package of our name in it, which a stock node would import."""
    files = {
        "pyproject.toml": BUNDLE.read_bytes(),
        "cloister_client/__init__.py": b"",
        "cloister_client/app.py": b"raise SystemExit('taken over')\n",
    }
    content = "\n".join(
        f"{name},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for name, data in files.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {**files, ".info/CONTENT": content.encode()}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_bundle_with_code_in_it_is_refused_unopened(consortium: Trees, run: RunFolder) -> None:
    home, bundle = consortium.home, shadowing()
    control = Control(home)
    started = control._client.StartRun(
        StartRunRequest(
            fab=Fab(hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle),
            override_config=user_config_to_proto({RUN_KEY: "hostile"}),
        )
    )
    task = acquire(home)
    assert task is not None
    exchange = GridExchange(task.grid, Signer(home.signing_key(), named))
    assert codes(asked(exchange, request(new_run("hostile", 1)))) == {"bundle"}
    task.finish()
    control.close()
    assert started.run_id
    for name in HONEST:
        assert consortium.journal(name, "fleet", "refused")[-1]["code"] == "bundle"
    goes_on(run, "elm")
