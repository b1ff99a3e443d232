"""Whole runs over data sets that differ by one learner: what is sent tells no difference.

Noised arrays, digests, salts and signatures are set aside; the rest of every message is compared
byte by byte, and every message has the same length.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.client.schools import answered

from cloister_client import wishes
from cloister_client.app import node_from_home
from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_client.node import Node
from cloister_client.store import Store
from cloister_server.exchange import Reply
from cloister_server.rounds import Coordinator
from cloister_shared.compression import Compression
from cloister_shared.errors import RunError
from cloister_shared.messages import Question
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining, MetricPlan, ModelPlan, Plan
from cloister_shared.privacy import Mechanism, Policy

from .consortium import BUDGET, CURRICULUM

ROUNDS = 3
STEPS = 4
"""Of each model in each round; a learner is in none of them once in 16 million runs."""
COHORTS = ("2024", "2025")
LEARNERS = 12
ONE = "learner 0"
RANDOM = re.compile(rb"[0-9a-f]{32,}")
"""Digests, salted commitments, keys, signatures and the ledger's identifier."""

Change = Callable[[NodeHome], None]


@dataclass
class RecordingExchange:
    """Hands messages to nodes in this process and keeps all that was said, in order.

    ``before`` holds what happens at the school named oak before a round.
    """

    nodes: Mapping[int, Node]
    homes: Mapping[int, NodeHome]
    before: Mapping[int, Change] = field(default_factory=dict)
    said: list[bytes] = field(default_factory=list)

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        return sorted(self.nodes)

    def ask(
        self,
        question: Question,
        bodies: Mapping[int, bytes],
        round_number: int,
        deadline_s: float,
        receipts: bytes = b"",
    ) -> list[Reply]:
        if question == "train" and round_number in self.before:
            self.before[round_number](self.homes[1])
        self.said += [receipts] if receipts else []
        replies = []
        for sender, body in bodies.items():
            reply = answered(self.nodes[sender], question, body, receipts)
            self.said += [body, reply]
            replies.append(Reply(sender, reply))
        return replies


def make_school(path: Path, but: str | None, alone: bool) -> NodeHome:
    """A home of all learners ``but`` one; ONE is ``alone`` in a cohort, or one among others."""
    config = NodeConfig(
        name=path.name,
        declared_size=50,
        cohorts=COHORTS,
        groups=("A", "B"),
        evaluation_share=0.3,
        simulation=True,
        policy=Policy(budget=BUDGET),
    )
    home = NodeHome.create(path, config, CURRICULUM)
    with home.store() as store:
        for number in range(LEARNERS):
            name = f"learner {number}"
            cohort = COHORTS[name == ONE if alone else number % 2]
            if name != but:
                _enrol(store, name, cohort, number)
    return home


def _enrol(store: Store, name: str, cohort: str, number: int) -> None:
    store.import_interactions(
        (
            Interaction(name, item.id, number % 2 == 0, when, str(when), group=_group(number))
            for when, item in enumerate(CURRICULUM.items * (1 + number % 3))
        ),
        cohort,
        {name: "evaluation" if number % 4 == 3 else "train"},
    )


def _group(number: int) -> str | None:
    """Learner 3, who evaluates, is alone in theirs; most are in none."""
    return "B" if number == 3 else "A" if number % 5 == 0 else None


def make_plan(rounds: int, compression: Compression) -> Plan:
    noise = BUDGET.calibrate(0.5, 1, 2 * ROUNDS * STEPS)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.1, sampling_rate=0.5)
    specs = (DktSpec(skills=2, hidden=3), RecommenderSpec(items=2, factors=2, negatives=1))
    return Plan(
        run="first",
        curriculum=CURRICULUM.digest,
        models=tuple(
            ModelPlan(
                spec=spec, rounds=rounds, mechanism=mechanism, local=LocalTraining(steps=STEPS)
            )
            for spec in specs
        ),
        declared_sizes={"oak": 50, "elm": 50},
        quorum=2,
        metrics=MetricPlan(
            every_rounds=ROUNDS, noise_multiplier=20.0, bins=5, groups=("A", "B", "C")
        ),
        compression=compression,
    )


@dataclass(frozen=True)
class Told:
    """All that a run gave away: every message, every export, and how it ended."""

    messages: list[bytes]
    exports: list[bytes]
    end: str


def run(
    folder: Path,
    but: str | None = None,
    alone: bool = False,
    before: Mapping[int, Change] | None = None,
    rounds: int = ROUNDS,
    *,
    compression: Compression = "none",
) -> Told:
    """A run of two schools; oak's learners are all ``but`` one."""
    homes = {
        1: make_school(folder / "oak", but, alone),
        2: make_school(folder / "elm", None, alone=False),
    }
    nodes = {sender: node_from_home(home) for sender, home in homes.items()}
    exchange = RecordingExchange(nodes, homes, before or {})
    plan = make_plan(rounds, compression)
    start = {
        model.spec.kind: model.spec.initial_weights(CURRICULUM, seed=1) for model in plan.models
    }
    try:
        Coordinator(plan, start, folder / "run").run(exchange)
        end = "released"
    except RunError as error:
        end = str(error)
    exports = [node.ledger.export().model_dump_json().encode() for node in nodes.values()]
    return Told(exchange.said, exports, end)


def masked(document: bytes) -> bytes:
    """A document without what is random by design; a message without its arrays' bytes too."""
    if not document.startswith(b"{"):
        size = 8 + int.from_bytes(document[:8], "little")
        document = document[:size]
    return RANDOM.sub(lambda found: b"#" * len(found[0]), document)


def require_equal(one: Told, other: Told) -> None:
    """No message, no export and no outcome tells the two runs apart."""
    assert one.end == other.end
    for these, those in ((one.messages, other.messages), (one.exports, other.exports)):
        assert [len(document) for document in these] == [len(document) for document in those]
        for this, that in zip(these, those, strict=True):
            assert masked(this) == masked(that)


def opts_out(home: NodeHome) -> None:
    with home.personal_chain() as chain, home.store() as store:
        wishes.opt_out(chain, store, ONE)


def is_erased(home: NodeHome) -> None:
    with home.personal_chain() as chain, home.store() as store:
        wishes.erase(chain, store, ONE)


def is_erased_and_comes_back(home: NodeHome) -> None:
    with home.personal_chain() as chain, home.store() as store:
        wishes.erase(chain, store, ONE)
        wishes.readmit(chain, store, ONE)
        store.append(ONE, Interaction(ONE, "1+1", True, 1.0, "again"))


def is_broken(home: NodeHome) -> None:
    with home.store() as store:
        pseudonym = store.pseudonym(ONE)
    with sqlite3.connect(home.path / "store.sqlite") as database:
        database.execute(
            "UPDATE interactions SET item = 99 WHERE learner_id IN "
            "(SELECT id FROM learners WHERE pseudonym = ?)",
            (pseudonym,),
        )


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Told:
    told = run(tmp_path_factory.mktemp("everybody"))
    assert told.end == "released"
    assert len(told.messages) == 2 * 2 * (ROUNDS + 1 + 1) + ROUNDS + 1
    return told


@pytest.mark.parametrize("but", [ONE, "learner 3"], ids=["who trains", "who evaluates"])
def test_a_run_without_one_learner_looks_like_one_with_them(
    everybody: Told, tmp_path: Path, but: str
) -> None:
    require_equal(everybody, run(tmp_path, but))


def test_a_learner_alone_in_a_cohort_is_not_missed(everybody: Told, tmp_path: Path) -> None:
    with_them, without = (run(tmp_path / str(but), but, alone=True) for but in (None, ONE))
    require_equal(with_them, without)
    require_equal(everybody, without)


def test_compression_tells_nothing_more(tmp_path: Path) -> None:
    """Numbers and scales are made of what was noised; what is owed has no length of its own."""
    with_them, without = (run(tmp_path / str(but), but, compression="int8") for but in (None, ONE))
    require_equal(with_them, without)


@pytest.mark.parametrize(
    "change",
    [opts_out, is_erased, is_erased_and_comes_back],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_what_happens_to_a_learner_between_rounds_is_not_seen(
    everybody: Told, tmp_path: Path, change: Change
) -> None:
    require_equal(everybody, run(tmp_path, before={2: change}))


def test_records_that_cannot_be_used_are_not_seen(
    everybody: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_equal(everybody, run(tmp_path, before={1: is_broken}))
    assert "a learner's records cannot be used" in caplog.text


def test_a_refusal_is_the_same_whoever_is_enrolled(tmp_path: Path) -> None:
    """The plan asks for more than the budget."""
    told = [
        run(tmp_path / name, but, before=before, rounds=20 * ROUNDS)
        for name, but, before in (
            ("all", None, {}),
            ("one less", ONE, {}),
            ("opted out", None, {1: opts_out}),
        )
    ]
    assert "needs 2 contributions, 0 of 2 nodes gave one" in told[0].end
    require_equal(told[0], told[1])
    require_equal(told[0], told[2])


def test_a_difference_would_be_noticed(everybody: Told) -> None:
    longer = [*everybody.messages[:-1], everybody.messages[-1] + b" "]
    export = everybody.exports[0].replace(b'"2024"', b'"2023"')
    for other in (
        Told(longer, everybody.exports, everybody.end),
        Told(everybody.messages, [export, everybody.exports[1]], everybody.end),
        Told(everybody.messages, everybody.exports, "another end"),
    ):
        with pytest.raises(AssertionError):
            require_equal(everybody, other)
