"""One private run of a consortium of processes: from the order to models that all schools serve."""

import math
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cloister_client.home import NodeHome
from cloister_server.checkpoint import RunState, read_header
from cloister_server.home import CoordinatorHome
from cloister_server.orders import ModelOrder, RunOrder, RunPrivacy, place
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.durable import write_durably
from cloister_shared.errors import RunError, ServiceError
from cloister_shared.process_tree import cloister
from cloister_simulations.config import SimulationConfig
from cloister_simulations.poc.consortium import Consortium
from cloister_simulations.poc.processes import AUDIT, schools, start_coordinator, start_nodes
from cloister_simulations.progress import Reporter

RUN = "federated"
"""What the run is called, as the arm of a simulation that it stands for."""
_LOOK_S = 0.5
_PATIENCE_S = 300.0
"""Without a new round for so long, something is wrong."""
_ENDED = (Phase.FINISHED, Phase.FAILED, Phase.STOPPED)

Look = Callable[[RunState], None]


def no_look(state: RunState) -> None:
    """Look away."""


def order_of(config: SimulationConfig, schools: int) -> RunOrder:
    """What an operator would order to have the federated arm of ``config`` by so many schools."""
    privacy = config.privacy
    return RunOrder(
        run=RUN,
        models=tuple(
            ModelOrder(
                kind=model.kind,
                spec=model.spec,
                budget_share=model.budget_share,
                training=model.private,
            )
            for model in config.models
        ),
        privacy=RunPrivacy(
            budget=privacy.budget, spare_rounds=privacy.spare_rounds, metrics=privacy.metrics
        ),
        quorum=max(1, math.ceil(config.quorum_share * schools)),
        deadline_s=config.deadline_s,
        compression=config.compression,
        seed=config.seed,
    )


def bring_up(consortium: Consortium, reporter: Reporter, look: Look = no_look) -> RunState:
    """Make what is missing, bring everybody up, and do what is left of the run; its last state.

    ``look`` is called with the run's state whenever it has got further; rounds may be passed over.
    Raises ``ServiceError`` if somebody does not come up, ``RunError`` if the run does not finish.
    """
    folder, names = consortium.folder, list(consortium.population.institutions)
    reporter.begin("coordinator", 1)
    coordinator = consortium.coordinator()
    start_coordinator(folder)
    reporter.reach(1)
    auditor = consortium.school(names[0]).path
    with audited(auditor, consortium.config.privacy.budget.delta, folder / AUDIT) as finish_audit:
        reporter.begin("schools with learners", len(names))
        for number, name in enumerate(names, start=1):
            consortium.school(name)
            consortium.enrol(name)
            reporter.reach(number)
        reporter.begin("nodes", len(names))
        for number, _ in enumerate(start_nodes(folder, names), start=1):
            reporter.reach(number)
        reporter.begin("audit of the code", 1)
        finish_audit()
        reporter.reach(1)
    order = order_of(consortium.config, len(names))
    state = follow(order_run(coordinator, order, folder / AUDIT), reporter, look)
    await_models(consortium, reporter)
    return state


def order_run(coordinator: CoordinatorHome, order: RunOrder, audit: Path) -> RunFolder:
    """Have the run begin, or go on; ``audit`` is the report by which it may release its models."""
    folder = RunFolder(coordinator.runs / order.run)
    if not folder.checkpoint.exists():
        folder = place(coordinator, order)
    if not folder.audit.exists():
        write_durably(folder.audit, audit.read_bytes())
    if folder.status.phase is not Phase.FINISHED and folder.wanted is Wanted.STOPPED:
        folder.tell(Phase.WAITING)
        folder.want(Wanted.RUNNING)
    return folder


def follow(folder: RunFolder, reporter: Reporter, look: Look) -> RunState:
    """Wait for the run's end; its last state.

    Raises ``RunError`` if it fails, is stopped, or gets no further.
    """
    reporter.begin(f"run {folder.name}", read_header(folder.checkpoint).plan.rounds)
    seen, moved = -1, time.monotonic()
    while True:
        state = folder.state()
        if state.round != seen:
            seen, moved = state.round, time.monotonic()
            reporter.reach(seen)
            look(state)
        status = folder.status
        if folder.wanted is Wanted.STOPPED and status.phase in _ENDED:
            break
        if time.monotonic() - moved > _PATIENCE_S:
            raise RunError(
                f"the run {folder.name} has got no further than round {seen} for "
                f"{_PATIENCE_S:g} s; the journals in log/ of the members' folders say more"
            )
        time.sleep(_LOOK_S)
    if status.phase is not Phase.FINISHED:
        raise RunError(f"the run {folder.name} is {status.phase} ({status.reason or 'as asked'})")
    return folder.state()


def await_models(consortium: Consortium, reporter: Reporter) -> None:
    """Wait until every school serves every model; ``ServiceError`` if one does not."""
    homes = schools(consortium.folder)
    reporter.begin("models served", len(homes))
    for number, (name, path) in enumerate(homes.items(), start=1):
        end = time.monotonic() + _PATIENCE_S
        while missing := _not_served(consortium.config, path):
            if time.monotonic() > end:
                raise ServiceError(
                    f"{name} does not serve the finished {' and '.join(missing)}; "
                    f"cloister node status {path} may say why"
                )
            time.sleep(_LOOK_S)
        reporter.reach(number)


@contextmanager
def audited(school: Path, delta: float, report: Path) -> Iterator[Callable[[], None]]:
    """Have the code audited at one school, beside whatever else is done meanwhile.

    Gives a function that waits for it and raises ``RunError`` unless the report is there; what was
    there before counts.
    """
    if report.exists():
        yield lambda: None
        return
    unfinished = report.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    command = ("audit", "privacy", "--node", str(school), "--delta", str(delta))
    process = subprocess.Popen(  # noqa: S603 - our own command
        cloister(*command, "--output", str(unfinished), "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def finish() -> None:
        _, said = process.communicate()
        if process.returncode:
            raise RunError(f"the audit at {school.name} failed: {said.strip()}")
        unfinished.replace(report)

    with process:
        try:
            yield finish
        finally:
            process.terminate()


def _not_served(config: SimulationConfig, school: Path) -> list[str]:
    with NodeHome.open(school).store() as store:
        return [one.kind for one in config.models if store.active_model(one.kind) is None]
