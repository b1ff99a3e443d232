"""A small plan over two models and three nodes, honest contributions, and an exchange in memory."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity

from cloister_server.exchange import Reply
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    Contribution,
    Question,
    Receipt,
    Release,
    TrainRequest,
    join,
    pack_signed,
    split,
    unpack,
)
from cloister_shared.messages import (
    Reply as SignedReply,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.noise import KeyedNoise, gaussian
from cloister_shared.signing import SigningKey

CURRICULUM = Curriculum(
    name="c",
    skills=(Skill(id="a"), Skill(id="b")),
    items=tuple(Item(id=f"i{number}", skills=("a",)) for number in range(3)),
)
DOCUMENT = {
    "run": "autumn",
    "curriculum": CURRICULUM.digest,
    "models": [
        {
            "spec": {"kind": "dkt", "skills": 2, "hidden": 3},
            "rounds": 4,
            "mechanism": {"noise_multiplier": 1.0, "clip_norm": 0.5, "sampling_rate": 0.2},
            "local": {"steps": 2, "learning_rate": 0.1},
            "server": {"name": "fedadam", "learning_rate": 0.05, "decay": "linear"},
        },
        {
            "spec": {"kind": "recommender", "items": 3, "factors": 2},
            "rounds": 2,
            "mechanism": {"noise_multiplier": 2.0, "clip_norm": 1.0, "sampling_rate": 0.5},
            "local": {"steps": 3, "optimizer": "adam", "learning_rate": 0.01},
        },
    ],
    "declared_sizes": {"north": 100, "south": 200, "west": 50},
    "quorum": 2,
    "deadline_s": 0.05,
}

Answer = Callable[[bytes], bytes | None]


def key_of(name: str) -> SigningKey:
    """The key of the node called ``name``: always the same."""
    return SigningKey.from_bytes(hashlib.sha256(name.encode()).digest())


def signed(reply: SignedReply, arrays: Weights | None = None) -> bytes:
    """What the node whose name it bears says."""
    return pack_signed(reply, arrays or {}, key_of(reply.node))


@pytest.fixture
def plan() -> Plan:
    return Plan.model_validate(DOCUMENT)


@pytest.fixture
def weights(plan: Plan) -> dict[str, Weights]:
    return {
        model.spec.kind: model.spec.initial_weights(CURRICULUM, seed=1) for model in plan.models
    }


def honest_deltas(plan: Plan, node: str, number: int) -> dict[str, Weights]:
    """Reproducible deltas of a small norm."""
    deltas: dict[str, Weights] = {}
    for model in plan.active(number):
        noise = KeyedNoise(1, node, number, model.spec.kind)
        deltas[model.spec.kind] = {
            name: (0.01 * gaussian(noise, int(np.prod(shape)))).reshape(shape).astype(np.float32)
            for name, shape in model.spec.shapes().items()
        }
    return deltas


@pytest.fixture
def contribute() -> Callable[..., bytes]:
    """The bytes of a contribution, honest unless told otherwise."""

    def contribute(
        plan: Plan,
        node: str = "north",
        number: int = 1,
        deltas: Mapping[str, Weights] | None = None,
        header: Mapping[str, object] | None = None,
    ) -> bytes:
        fields = {"plan": plan.digest, "round": number, "node": node, **(header or {})}
        given = honest_deltas(plan, node, number) if deltas is None else deltas
        return signed(Contribution.model_validate(fields), join(given))

    return contribute


@pytest.fixture
def honest_node() -> Callable[[str], Answer]:
    """A node that answers whatever it is asked as the protocol says."""

    def make(name: str) -> Answer:
        def answer(message: bytes) -> bytes:
            header, arrays = unpack(message, TrainRequest, Release)
            plan = header.plan
            if isinstance(header, Release):
                assert split(arrays).keys() == {model.spec.kind for model in plan.models}
                return signed(Receipt(plan=plan.digest, round=header.round, node=name))
            contribution = Contribution(plan=plan.digest, round=header.round, node=name)
            return signed(contribution, join(honest_deltas(plan, name, header.round)))

        return answer

    return make


@dataclass
class MemoryExchange:
    """Nodes in this process by id; ``None`` is a node that does not answer in time."""

    nodes: dict[int, Answer]
    sent: list[tuple[str, dict[int, bytes]]] = field(default_factory=list)
    receipts: list[bytes] = field(default_factory=list)
    """What went beside each question."""
    from_round: dict[int, dict[int, Answer]] = field(default_factory=dict)
    """Nodes by the round from which on they are there, or answer in another way."""

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        if len(self.nodes) < count:
            raise RunError(f"{count} nodes are needed, {len(self.nodes)} joined")
        return sorted(self.nodes)

    def ask(
        self,
        question: Question,
        bodies: Mapping[int, bytes],
        round_number: int,
        deadline_s: float,
        receipts: bytes = b"",
    ) -> list[Reply]:
        if question != "release":
            self.receipts.append(receipts)
        self.sent.append((question, dict(bodies)))
        answers = {node: self.nodes[node](body) for node, body in bodies.items()}
        if question == "train":
            self.nodes.update(self.from_round.pop(round_number + 1, {}))
        return [Reply(node, body) for node, body in answers.items() if body is not None]


@pytest.fixture
def exchange_of() -> Callable[[dict[int, Answer]], MemoryExchange]:
    return MemoryExchange


@pytest.fixture
def flower_task() -> Iterator[None]:
    """Flower wants to know which task makes a message."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 5, 1
    yield
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
