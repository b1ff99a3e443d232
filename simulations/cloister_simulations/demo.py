"""The demo: train a consortium together, then ask each school's own node about a learner."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from cloister_client.home import NodeHome
from cloister_client.personalization.results import LearnerMastery, Suggestions
from cloister_shared.errors import ConfigError, ServiceError
from cloister_simulations.arms import NODES_DIRECTORY
from cloister_simulations.config import SimulationConfig
from cloister_simulations.dataset import LearnerRecord
from cloister_simulations.experiment import run_simulation
from cloister_simulations.population import populate
from cloister_simulations.progress import progress_bars
from cloister_simulations.report import print_summary, write_report

STOP_S = 15.0
SHOWN = 3
"""Skills, exercises and recommendations shown of each school's learner."""


@dataclass(frozen=True)
class Service:
    """A running node service: where it listens, and the token that it asks for."""

    url: str
    token: str

    def get(self, path: str) -> str:
        """The body of an authorized GET; raises ``ServiceError`` unless the answer is 200."""
        try:
            response = httpx.get(
                f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}
            )
        except httpx.HTTPError as error:
            raise ServiceError(f"the service at {self.url} did not answer: {error}") from error
        if response.status_code != httpx.codes.OK:
            raise ServiceError(f"the service at {self.url} answered {response.status_code}")
        return response.text


def run_demo(config: SimulationConfig, directory: Path, console: Console) -> None:
    """Simulate ``config``, serve every node, ask each about one learner, stop cleanly.

    Raises ``ConfigError`` unless the nodes are on disk: only those can be served.
    """
    if config.storage != "disk" or "federated" not in config.arms:
        raise ConfigError("the demo needs storage: disk and the federated arm")
    with progress_bars(console) as bars:
        result = run_simulation(config, directory, bars, "cloister demo")
    write_report(result, directory / "report.html")
    learners = {
        name: _typical(records).key for name, records in populate(config).institutions.items()
    }
    with ExitStack() as running:
        services = {
            name: running.enter_context(serving(directory / NODES_DIRECTORY / name))
            for name in learners
        }
        for name, service in services.items():
            _show(console, name, service, learners[name])
    print_summary(result, console)
    console.print(f"services stopped; report: {directory / 'report.html'}", highlight=False)


def _typical(records: Sequence[LearnerRecord]) -> LearnerRecord:
    """The learner with the median number of answers."""
    return sorted(records, key=lambda one: len(one.history))[len(records) // 2]


@contextmanager
def serving(home: Path) -> Iterator[Service]:
    """The HTTP service of the node in ``home`` as a process of its own, ended on leaving."""
    cloister = str(Path(sys.executable).with_name("cloister"))
    command = [cloister, "node", "serve", str(home), "--port", "0"]
    # The command is our own console script beside this interpreter.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield Service(_address(process), NodeHome.open(home).api_token())
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _address(process: "subprocess.Popen[str]") -> str:
    """What the service prints once it accepts connections."""
    line = process.stdout.readline() if process.stdout else ""
    _, _, address = line.strip().partition("Listening on ")
    if not address:
        raise ServiceError("a node's service did not start; see its message above")
    return address


def _show(console: Console, school: str, service: Service, learner: str) -> None:
    """What one school's node says about one of its learners."""
    path = f"/v1/learners/{quote(learner, safe='')}"
    mastery = LearnerMastery.model_validate_json(service.get(f"{path}/mastery"))
    best = sorted(mastery.skills, key=lambda skill: -skill.answers)[:SHOWN]
    table = Table(
        title=f"{school}: {service.url}, a learner with {mastery.answers} answers",
        title_justify="left",
    )
    for column in ("question", "answer", "chance", "why"):
        table.add_column(column, overflow="fold")
    for skill in best:
        table.add_row("what is known?", skill.name, f"{skill.probability:.0%}", skill.reason)
    for question, address in (("what next?", "next"), ("recommended", "recommendations")):
        text = service.get(f"{path}/{address}?count={SHOWN}")
        for item in Suggestions.model_validate_json(text).items:
            chance = "" if item.success is None else f"{item.success:.0%}"
            table.add_row(question, item.title or item.item, chance, item.reason)
    console.print(table)
