"""``cloister coordinator run …``: start runs, watch them, stop and resume them."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cloister_server.arguments import Folder
from cloister_server.checkpoint import RoundRecord
from cloister_server.home import CoordinatorHome
from cloister_server.orders import RunOrder, place
from cloister_server.overview import RunView, run_of, runs_of
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.durable import write_durably
from cloister_shared.errors import ConfigError, RunError
from cloister_shared.printing import AsJson, print_json, show
from cloister_shared.yaml_config import load_yaml

run = typer.Typer(help="The consortium's runs; they take turns.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The run's name.")]
Audit = Annotated[
    Path | None,
    typer.Option(help="What `cloister audit privacy` wrote at a node: private models need it."),
]
LOOK_S = 0.5
"""Between two looks of ``watch``."""


@run.command()
def start(
    folder: Folder,
    order: Annotated[Path, typer.Argument(metavar="ORDER", help="What to train, a YAML file.")],
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Order a run over all approved nodes. It begins at once, or when those before it are over.

    Nodes that are approved later take part in the next one. The noise that the order leaves open is
    what its budget pays for.
    """
    home = CoordinatorHome.open(folder)
    report = None if audit is None else _read(audit)
    placed = place(home, load_yaml(order, RunOrder))
    if report is not None:
        write_durably(placed.audit, report)
    show("A run was ordered", _document(_view(home, placed)), as_json)


@run.command("list")
def list_runs(folder: Folder, as_json: AsJson = False) -> None:
    """Show all runs: whose turn it is, who waits, what each did and spent."""
    views = runs_of(CoordinatorHome.open(folder))
    if as_json:
        print_json({"runs": [_document(view) for view in views]})
        return
    table = Table("run", Column("state", no_wrap=True), "rounds", "refusals", "ε so far, in all")
    for view in views:
        table.add_row(
            escape(view.name),
            view.state,
            f"{view.checkpoint.round} of {view.checkpoint.plan.rounds}",
            str(view.refusals),
            f"{_figure(view.spent)}, {_figure(view.planned)} at δ {view.delta:g}",
        )
    console = Console()
    console.print(table)
    for view in views:
        if view.reason:
            console.print(f"{view.name}: {view.reason}", style="red", markup=False)


@run.command()
def watch(folder: Folder, name: Name, as_json: AsJson = False) -> None:
    """Show a run's rounds as they are done, until it ends. Ends with 6 if the run failed.

    Ctrl-C ends the watching, not the run.
    """
    home = CoordinatorHome.open(folder)
    one = _folder(home, name)
    shown, state = 0, ""
    while True:
        view = _view(home, one)
        if view.state != state and not as_json:
            Console().print(f"{name}: {view.state}", markup=False)
        state = view.state
        for record in view.checkpoint.records[shown:]:
            _print_round(record, view.checkpoint.plan.rounds, as_json)
        shown = len(view.checkpoint.records)
        if not view.wanted and view.phase is not Phase.RUNNING:
            break
        time.sleep(LOOK_S)
    if view.phase is Phase.FAILED:
        raise RunError(f"the run {name} failed: {view.reason}")
    if as_json:
        print_json(_document(view))


@run.command()
def stop(folder: Folder, name: Name, as_json: AsJson = False) -> None:
    """Stop a run after the round at hand; nothing of it is lost, see `resume`."""
    home = CoordinatorHome.open(folder)
    one = _folder(home, name)
    _require_unfinished(one)
    one.want(Wanted.STOPPED)
    show("The run is to stand still", _document(_view(home, one)), as_json)


@run.command()
def resume(folder: Folder, name: Name, audit: Audit = None, as_json: AsJson = False) -> None:
    """Let a run that was stopped, or failed, go on after its last round when its turn comes."""
    home = CoordinatorHome.open(folder)
    one = _folder(home, name)
    _require_unfinished(one)
    if audit is not None:
        write_durably(one.audit, _read(audit))
    if one.wanted is not Wanted.RUNNING:
        one.tell(Phase.WAITING)
        one.want(Wanted.RUNNING)
    show("The run goes on", _document(_view(home, one)), as_json)


def _folder(home: CoordinatorHome, name: str) -> RunFolder:
    found = {one.name: one for one in RunFolder.all(home.runs)}
    if name not in found:
        known = ", ".join(found) or "there is none yet"
        raise ConfigError(f"no run is called {name}; known: {known}")
    return found[name]


def _require_unfinished(one: RunFolder) -> None:
    if one.status.phase is Phase.FINISHED:
        raise ConfigError(
            f"the run {one.name} is finished; see cloister coordinator models for what it made"
        )


def _view(home: CoordinatorHome, one: RunFolder) -> RunView:
    return run_of(one, [queued.name for queued in RunFolder.queue(home.runs)])


def _read(audit: Path) -> bytes:
    try:
        return audit.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {audit}: {error.strerror}") from error


def _document(view: RunView) -> dict[str, Any]:
    plan = view.checkpoint.plan
    return {
        "run": view.name,
        "state": view.state,
        "phase": view.phase.value,
        "runs_before_it": view.ahead or 0,
        "since": f"{view.since:%Y-%m-%d %H:%M} UTC",
        "reason": view.reason or "none",
        "rounds_done": view.checkpoint.round,
        "rounds": plan.rounds,
        "nodes": sorted(plan.declared_sizes),
        "quorum": plan.quorum,
        "noise_multipliers": {
            model.spec.kind: model.mechanism.noise_multiplier for model in plan.models
        },
        "epsilon_so_far": view.spent,
        "epsilon_in_all": view.planned,
        "delta": view.delta,
        "refusals": view.refusals,
        "plan": plan.digest,
    }


def _print_round(record: RoundRecord, rounds: int, as_json: bool) -> None:
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    line = f"round {record.round} of {rounds}: {record.seconds:.2f} s, "
    line += ", ".join(record.participants)
    for name, reason in record.rejected.items():
        line += f"; {name} {reason}"
    Console().print(line, markup=False, soft_wrap=True)


def _figure(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3f}"
