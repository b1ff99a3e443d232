"""A consortium to be measured: a coordinator and schools as their operators make them.

Homes are made and joined through the code behind the commands; what is up is `cloister coordinator
up` and `cloister node up`, with all the processes that these keep, over TLS on loopback.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from cloister_client.config import NodeConfig, ServingConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_client.joining import join
from cloister_server.checkpoint import RunState
from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_server.up_commands import RUNNER
from cloister_shared.compression import Compression
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import RunError
from cloister_shared.journal import Entry, Event, read
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy

LOOPBACK = "127.0.0.1"
BUDGET = Budget(epsilon=8.0, delta=1e-5)
NAMES = ("oak", "elm", "ash")
SIZE, ANSWERS = 100, 50
"""Learners of a school, and answers of each."""
RATE = 0.1
_NOISE, _CLIP = 6.0, 0.1
_LOOK_S = 0.5
_DEADLINE_S = 3600.0
"""No round is given up for a machine that is busy."""
_STOPPED = (Phase.FAILED, Phase.STOPPED, Phase.FINISHED)
_FRESH_PORT = 0


def make_coordinator(
    path: Path, curriculum: Curriculum, limits: Limits | None = None
) -> CoordinatorHome:
    """A coordinator's home with free ports of this machine."""
    config = CoordinatorConfig(
        consortium="benchmark",
        address=LOOPBACK,
        listen=LOOPBACK,
        port=free_port(),
        control_port=free_port(),
        console_port=free_port(),
        limits=limits or Limits(),
    )
    return CoordinatorHome.create(path, config, curriculum)


def make_school(path: Path, curriculum: Curriculum) -> NodeHome:
    """A node's home with learners who answer at random."""
    config = NodeConfig(
        name=path.name,
        declared_size=SIZE,
        evaluation_share=0.0,
        policy=Policy(budget=BUDGET),
        serving=ServingConfig(port=_FRESH_PORT),
    )
    home = NodeHome.create(path, config, curriculum)
    with home.store() as store:
        store.import_interactions(_answers(curriculum))
    return home


def make_plan(
    run: str,
    curriculum: Curriculum,
    spec: DktSpec,
    rounds: int,
    names: tuple[str, ...] = NAMES,
    *,
    compression: Compression,
    sampling_rate: float = RATE,
) -> Plan:
    """One private step of every school a round, on a tenth of its learners or another share."""
    mechanism = Mechanism(noise_multiplier=_NOISE, clip_norm=_CLIP, sampling_rate=sampling_rate)
    return Plan(
        run=run,
        curriculum=curriculum.digest,
        models=(ModelPlan(spec=spec, rounds=rounds, mechanism=mechanism),),
        declared_sizes=dict.fromkeys(names, SIZE),
        quorum=len(names),
        deadline_s=_DEADLINE_S,
        compression=compression,
    )


def first_state(plan: Plan, curriculum: Curriculum) -> RunState:
    """The plan's run before its first round."""
    weights = {model.spec.kind: model.spec.initial_weights(curriculum, 1) for model in plan.models}
    return RunState(plan, weights)


class Consortium:
    """A coordinator and its nodes, up."""

    def __init__(self, coordinator: CoordinatorHome) -> None:
        self.coordinator = coordinator
        self.schools: list[Path] = []

    def enrol(
        self,
        path: Path,
        curriculum: Curriculum,
        prepare: Callable[[NodeHome], None] = lambda home: None,
    ) -> None:
        """Make a school, ``prepare`` it, let it join, and bring it up."""
        home = make_school(path, curriculum)
        prepare(home)
        signed = Invitations(self.coordinator).issue(home.config.name)
        join(signed, signed.kit.fingerprint, home.path, None)
        self.coordinator.directory().approve(home.config.name)
        self.schools.append(path)
        command("node", "up", str(path), "--background")

    def rounds(self, state: RunState, count: int, within_s: float) -> list[Entry]:
        """Let the runner do ``count`` rounds of a run; what its journal says of each.

        Raises ``RunError`` if they are not done in time.
        """
        folder = RunFolder.make(self.coordinator.runs, state)
        folder.want(Wanted.RUNNING)
        until(
            lambda: folder.status.phase in _STOPPED or len(self._done(folder.name)) >= count,
            f"{count} rounds",
            within_s,
        )
        folder.want(Wanted.STOPPED)
        until(lambda: folder.status.phase in _STOPPED, "the run's end", within_s)
        done = self._done(folder.name)
        if len(done) < count:
            raise RunError(f"the run ended after {len(done)} rounds: {folder.status.reason}")
        return done

    def _done(self, run: str) -> list[Entry]:
        entries = read(self.coordinator.logs / f"{RUNNER}.jsonl", 10_000)
        return [one for one in entries if one["event"] == Event.ROUND and one["run"] == run]


@contextmanager
def consortium(
    folder: Path, curriculum: Curriculum, names: tuple[str, ...] = NAMES
) -> Iterator[Consortium]:
    """Coordinator and schools, up; all is down on leaving."""
    one = Consortium(make_coordinator(folder / "coordinator", curriculum))
    try:
        command("coordinator", "up", str(one.coordinator.path), "--background")
        for name in names:
            one.enrol(folder / name, curriculum)
        yield one
    finally:
        for path in one.schools:
            command("node", "down", str(path))
        command("coordinator", "down", str(one.coordinator.path))


def command(*arguments: str) -> None:
    """Run ``cloister`` with ``arguments``; ``RunError`` with what it said if it fails."""
    finished = subprocess.run(  # noqa: S603 - our own command
        (sys.executable, "-m", "cloister_shared", *arguments),
        check=False,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        said = (finished.stderr or finished.stdout).strip()
        raise RunError(f"cloister {' '.join(arguments[:2])} failed: {said}")


def times(entries: list[Entry]) -> list[float]:
    """Seconds from the end of each round to the end of the next."""
    ends = [datetime.fromisoformat(str(one["time"])).timestamp() for one in entries]
    return [after - before for before, after in pairwise(ends)]


def until(condition: Callable[[], bool], what: str, within_s: float) -> None:
    """Wait; ``RunError`` if it is not so in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise RunError(f"waited {within_s:g} s in vain for {what}")
        time.sleep(_LOOK_S)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(curriculum: Curriculum) -> Iterator[Interaction]:
    random = np.random.default_rng(1)
    for learner in range(SIZE):
        for when in range(ANSWERS):
            item = curriculum.items[int(random.integers(len(curriculum.items)))].id
            correct = bool(random.integers(2))
            yield Interaction(f"learner {learner}", item, correct, float(when), str(when))
