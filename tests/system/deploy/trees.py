"""A consortium as its administrators run it: every member is one ``up``."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system.books import export_of
from tests.system.consortium import BUDGET, CURRICULUM
from tests.system.deploy.processes import SIZE, Consortium, ended
from tests.waiting import until

from cloister_client.home import NodeHome
from cloister_client.up_commands import tree_of
from cloister_server.checkpoint import RoundRecord, RunState
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.journal import Entry, read
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Mechanism, verify_ledger
from cloister_shared.privacy.ledger_format import RELEASE_KIND

COORDINATOR = "coordinator"
NAMES = ("elm", "oak")
READY_S, PATIENCE_S = 120.0, 180.0
ROUNDS_IN_ALL = 5000
"""So many rounds of all tests together fit a node's budget."""


class Trees(Consortium):
    """A coordinator and nodes, each a tree of processes that its supervisor keeps up."""

    def up(self, name: str) -> None:
        """Bring one up, and wait until all its processes are ready."""
        role = COORDINATOR if name == COORDINATOR else "node"
        self.start(name, "-m", "cloister_shared", role, "up", str(self.path(name)))
        until(lambda: self._is_ready(name), f"{name} is up", READY_S)

    def path(self, name: str) -> Path:
        return self.home.path if name == COORDINATOR else self.nodes[name].path

    def join(self, name: str) -> NodeHome:
        """The same, but its service takes any port."""
        config = super().join(name).path / "node.yaml"
        config.write_text(config.read_text().replace("port: 8470", "port: 0"))
        self.nodes[name] = NodeHome.open(config.parent)
        return self.nodes[name]

    def pid(self, name: str, process: str) -> int:
        """The number of one process of a tree, or of its trainer; 0 while it is not there."""
        if process == "trainer":
            return int(self.journal(name, "trainer", "ready")[-1]["pid"])
        return tree_of(self.path(name)).processes()[process].pid or 0

    def journal(self, name: str, process: str, event: str) -> list[Entry]:
        """What a process wrote of such an event."""
        entries = read(self.path(name) / "log" / f"{process}.jsonl", 10_000)
        return [one for one in entries if one["event"] == event]

    def _is_ready(self, name: str) -> bool:
        assert self.running[name].poll() is None, self.log(name)
        states = tree_of(self.path(name)).processes().values()
        return bool(states) and all(one.state == "ready" for one in states)


@contextmanager
def trees(folder: Path, names: tuple[str, ...] = NAMES) -> Iterator[Trees]:
    """All of them up."""
    one = Trees(folder)
    try:
        one.up(COORDINATOR)
        for name in names:
            one.join(name)
        for name in names:
            one.up(name)
        yield one
    finally:
        one.close()


def new_run(name: str, rounds: int, nodes: tuple[str, ...] = NAMES, **changes: Any) -> RunState:
    """A run that has not begun, of so little that many fit; ``changes`` are of its plan."""
    spec = DktSpec(skills=2, hidden=4)
    noise = BUDGET.calibrate(0.5, 1, ROUNDS_IN_ALL)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.1, sampling_rate=0.5)
    settings: dict[str, Any] = {
        "run": name,
        "curriculum": CURRICULUM.digest,
        "models": (ModelPlan(spec=spec, rounds=rounds, mechanism=mechanism),),
        "declared_sizes": dict.fromkeys(nodes, SIZE),
        "quorum": 1,
        "deadline_s": 120.0,
        **changes,
    }
    return RunState(Plan(**settings), {"dkt": spec.initial_weights(CURRICULUM, 1)})


def records(folder: RunFolder) -> list[RoundRecord]:
    """The rounds that are done."""
    return folder.state().records


def rounds_with(folder: RunFolder, name: str) -> int:
    """In how many rounds a node took part."""
    return sum(name in one.participants for one in records(folder))


def begin(consortium: Trees, name: str, rounds: int = 800, **changes: object) -> RunFolder:
    """A run in which oak has taken part."""
    folder = consortium.order(new_run(name, rounds, **changes))
    until(lambda: rounds_with(folder, "oak") > 0, "oak takes part", PATIENCE_S)
    return folder


def end(consortium: Trees, folder: RunFolder) -> None:
    """Stop the run and look at all books."""
    folder.want(Wanted.STOPPED)
    assert ended(folder) is Phase.STOPPED, folder.status.reason
    check_accounts(folder, consortium.nodes)


def goes_on(folder: RunFolder, name: str = "oak", rounds: int = 2) -> None:
    """Wait until a node has taken part in so many rounds more."""
    wanted = rounds_with(folder, name) + rounds
    until(lambda: rounds_with(folder, name) >= wanted, f"{name} takes part again", PATIENCE_S)


def check_accounts(folder: RunFolder, nodes: Mapping[str, NodeHome]) -> None:
    """No round is counted twice, and what was received is paid for by whoever gave it.

    Ledgers are read last, so that they can only be ahead.
    """
    state = folder.state()
    assert [one.round for one in state.records] == list(range(1, state.round + 1))
    for name, home in nodes.items():
        charged, kept = rounds_of(folder, home)
        taken = [one.round for one in state.records if name in one.participants]
        assert len(kept) == len(set(kept)), "a round was released twice"
        assert set(taken) <= set(kept), "what was received was not committed"
        assert set(kept) <= set(charged), "what was committed was not charged"
        export = export_of(home.path)
        prices = [one.cost for one in export.entries if one.kind == "RESERVE"]
        assert verify_ledger(export)["train", "all"].micro >= sum(prices), "not all is spent"


def rounds_of(folder: RunFolder, home: NodeHome) -> tuple[list[int], list[int]]:
    """A run's rounds as a node charged them, and those of which it has a reply for ever."""
    plan, entries = folder.state().plan.digest, export_of(home.path).entries
    charged = [one.charge for one in entries if one.kind == "RESERVE"]
    kept = [entries[one.of].charge for one in entries if one.kind == RELEASE_KIND["train"]]
    ours, released = ([one.round for one in some if one.plan == plan] for some in (charged, kept))
    return ours, released


def point_at(home: NodeHome, port: int) -> None:
    """Have a node look for its coordinator at another port."""
    file = home.path / "coordinator.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "port": port}))
