"""Two schools with homes on disk and a coordinator, opened anew whenever they go on."""

import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloister_client.app import node_from_home
from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import LEDGER, NodeHome
from cloister_client.ledger.place import forget_place, require_place
from cloister_client.node import Node
from cloister_server.checkpoint import RoundRecord
from cloister_server.exchange import Reply
from cloister_server.rounds import Coordinator
from cloister_shared.messages import Question
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy

from .learners import RecordingSource, small_curriculum

CURRICULUM = small_curriculum()
BUDGET = Budget(epsilon=4.0, delta=1e-6)
SPEC = DktSpec(skills=5, hidden=2)
ROUNDS = 8
PLAN = Plan(
    run="autumn",
    curriculum=CURRICULUM.digest,
    models=(
        ModelPlan(
            spec=SPEC,
            rounds=ROUNDS,
            mechanism=Mechanism(noise_multiplier=4.0, clip_norm=0.5, sampling_rate=0.5),
        ),
    ),
    declared_sizes={"oak": 50, "elm": 50},
    quorum=1,
)


class EnoughError(Exception):
    """So many rounds were asked for."""


@dataclass(frozen=True)
class Direct:
    """Hands messages to nodes in this process."""

    nodes: Mapping[int, Node]

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
        return [
            Reply(sender, answered(self.nodes[sender], question, body, receipts))
            for sender, body in bodies.items()
        ]


def answered(node: Node, question: Question, body: bytes, receipts: bytes) -> bytes:
    """What a node of this process says."""
    if question == "release":
        return node.answer_release(body)
    answer = {"train": node.answer_train, "evaluate": node.answer_evaluate}[question]
    return answer(body, receipts)


@dataclass
class Schools:
    """The schools oak and elm under ``folder``; a school's ``folders`` entry is where it is now."""

    folder: Path
    plan: Plan = PLAN
    folders: dict[str, Path] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    """How often each school looked up or read learners since it was opened last."""

    def __post_init__(self) -> None:
        for name in self.plan.declared_sizes:
            self.folders[name] = self.folder / name
            if not self.folders[name].exists():
                make_home(self.folders[name])

    def copied(self, folder: Path) -> "Schools":
        """These, in another folder, as if they had always been there."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        copy = Schools(folder, self.plan)
        for home in copy.folders.values():
            forget_place(home / LEDGER)
            require_place(home / LEDGER)
        return copy

    @property
    def oak(self) -> NodeHome:
        """The first school's home, opened."""
        return NodeHome.open(self.folders["oak"])

    def weights(self) -> dict[str, Weights]:
        """The run's first."""
        return {SPEC.kind: SPEC.initial_weights(CURRICULUM, seed=1)}

    def go_on(self, until: int) -> list[RoundRecord]:
        """Rounds up to number ``until``; everybody is opened anew, and closed in the end."""
        nodes = {name: node_from_home(NodeHome.open(path)) for name, path in self.folders.items()}
        sources = {name: RecordingSource(node.source) for name, node in nodes.items()}
        records: list[RoundRecord] = []

        def observe(record: RoundRecord, _: object) -> None:
            records.append(record)
            if record.round == until:
                raise EnoughError

        coordinator = Coordinator(self.plan, self.weights(), self.folder / "run", observe=observe)
        watched = {
            number: replace(node, source=sources[name])
            for number, (name, node) in enumerate(nodes.items(), start=1)
        }
        try:
            coordinator.run(Direct(watched))
        except EnoughError:
            pass
        finally:
            self.asked = {name: len(one.asked) for name, one in sources.items()}
            for node in nodes.values():
                node.ledger.close()
                node.source.close()
        return records


def make_home(path: Path) -> NodeHome:
    """A school with a few learners, all of whom train."""
    config = NodeConfig(
        name=path.name,
        declared_size=50,
        evaluation_share=0.0,
        cohorts=("2024", "2025"),
        policy=Policy(budget=BUDGET),
    )
    home = NodeHome.create(path, config, CURRICULUM)
    with home.store() as store:
        store.import_interactions(
            Interaction(f"learner {one}", item.id, one % 2 == 0, when, str(when))
            for one in range(6)
            for when, item in enumerate(CURRICULUM.items)
        )
    return home


def kinds(home: NodeHome) -> list[str]:
    """The ledger's entries, by kind."""
    ledger = home.ledger()
    entries = [entry.kind for entry in ledger.export().entries]
    ledger.close()
    return entries


def forge_place(home: Path) -> None:
    """Let a copied ledger say that it always lay where it lies."""
    ledger = home / LEDGER
    connection = sqlite3.connect(ledger)
    connection.execute("UPDATE place SET inode = ?", (str(ledger.stat().st_ino),))
    connection.commit()
    connection.close()
