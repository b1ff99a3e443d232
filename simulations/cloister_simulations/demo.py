"""The demo: real processes train together, then each school's own node is asked of a learner.

The arms that it is compared with are simulated afterwards, on the same learners.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from cloister_client.home import NodeHome
from cloister_client.personalization.results import LearnerMastery, Suggestions
from cloister_server.checkpoint import RunState
from cloister_shared.errors import ServiceError
from cloister_shared.privacy.audit_report import SignedAudit
from cloister_shared.privacy.budget_report import report_budget
from cloister_simulations.arms import METRICS, MetricLog, final_figures, round_results
from cloister_simulations.config import SimulationConfig
from cloister_simulations.dataset import LearnerRecord
from cloister_simulations.evaluation import Evaluator
from cloister_simulations.experiment import Deployed, run_simulation
from cloister_simulations.poc.consortium import Consortium
from cloister_simulations.poc.processes import AUDIT, schools, take_down
from cloister_simulations.poc.training import RUN, bring_up
from cloister_simulations.poc.view import show_view, view
from cloister_simulations.progress import Reporter, progress_bars
from cloister_simulations.report import print_summary, write_report
from cloister_simulations.result import Arm

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


@dataclass
class _Looks:
    """Exact figures of a run that goes on in other processes, about every ``every`` rounds."""

    evaluator: Evaluator
    log: MetricLog
    every: int
    due: int = 0

    def __call__(self, state: RunState) -> None:
        """Look, if it is time."""
        if state.round > 0 and self.due <= state.round:
            self.due = state.round // self.every * self.every + self.every
            finals = final_figures(state, self.evaluator)
            self.log.append(state.round, {kind: one.all for kind, one in finals.items()})


def run_demo(config: SimulationConfig, directory: Path, console: Console) -> None:
    """Deploy ``config``, ask every node about one learner, take all down; compare and report.

    Raises ``ConfigError`` for settings that only a simulation can have.
    """
    consortium = Consortium.claim(directory, config)
    try:
        with progress_bars(console) as bars:
            deployed = _deploy(consortium, bars)
        document = view(directory)
        show_view(document, console)
        for name, records in consortium.population.institutions.items():
            token = NodeHome.open(schools(directory)[name]).api_token()
            service = Service(document["nodes"][name]["service"], token)
            _show(console, name, service, _typical(records).key)
    finally:
        take_down(directory)
    console.print("all processes stopped; now what it is compared with", highlight=False)
    with progress_bars(console) as bars:
        result = run_simulation(config, directory, bars, "cloister demo", deployed)
    write_report(result, directory / "report.html")
    print_summary(result, console)
    console.print(f"report: {directory / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"up again: cloister poc up {directory}", highlight=False, soft_wrap=True)


def _deploy(consortium: Consortium, reporter: Reporter) -> Deployed:
    """The federated arm by real processes, which stay up."""
    began = perf_counter()
    folder = consortium.folder
    evaluator = consortium.population.evaluator(consortium.config.evaluation.predictions)
    (folder / RUN).mkdir(exist_ok=True)
    log = MetricLog(folder / RUN / METRICS)
    looks = _Looks(evaluator, log, consortium.config.evaluate_every_rounds)
    state = bring_up(consortium, reporter, looks)
    audit = SignedAudit.model_validate_json((folder / AUDIT).read_bytes())
    arm = Arm(
        name="federated",
        private=True,
        rounds=round_results(state, log.read()),
        final=final_figures(state, evaluator),
        seconds=perf_counter() - began,
        audit=audit.reports,
    )
    homes = {name: NodeHome.open(path) for name, path in schools(folder).items()}
    return Deployed(arm, {name: report_budget(*one.totals()) for name, one in homes.items()})


def _typical(records: Sequence[LearnerRecord]) -> LearnerRecord:
    """The learner with the median number of answers."""
    return sorted(records, key=lambda one: len(one.history))[len(records) // 2]


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
