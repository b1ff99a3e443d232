"""``cloister coordinator …``: make a coordinator, invite schools, see runs."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloister_server.arguments import Folder
from cloister_server.checkpoint import RoundRecord, read_checkpoint
from cloister_server.config import CoordinatorConfig
from cloister_server.home import CoordinatorHome
from cloister_server.metric_commands import metrics
from cloister_server.model_commands import models
from cloister_server.node_commands import invite, nodes
from cloister_server.run_commands import run
from cloister_server.up_commands import console, down, link, runner, status, up
from cloister_shared.curriculum import load_curriculum
from cloister_shared.printing import AsJson, show
from cloister_shared.yaml_config import load_yaml

app = typer.Typer(help="A consortium's coordinator: nodes, runs.", no_args_is_help=True)
for _command in (up, down, status, link, runner, console, invite):
    app.command()(_command)
app.command()(metrics)
app.add_typer(nodes, name="nodes")
app.add_typer(run, name="run")
app.add_typer(models, name="models")


@app.command()
def init(
    folder: Folder,
    config: Annotated[Path, typer.Option(help="The coordinator's settings, a YAML file.")],
    curriculum: Annotated[Path, typer.Option(help="The consortium's curriculum, a JSON file.")],
    as_json: AsJson = False,
) -> None:
    """Make a coordinator: authority, certificate, keys. Back the folder up, show it nobody."""
    home = CoordinatorHome.create(
        folder, load_yaml(config, CoordinatorConfig), load_curriculum(curriculum)
    )
    document = {
        "consortium": home.config.consortium,
        "folder": str(folder),
        "address": f"{home.config.address}:{home.config.port}",
        "fingerprint": home.fingerprint,
    }
    show("A coordinator was made", document, as_json)


@app.command()
def rounds(
    checkpoint: Annotated[Path, typer.Argument(help="A run's checkpoint file.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a run's rounds: who took part, who was rejected and why, bytes and seconds."""
    state = read_checkpoint(checkpoint)
    if as_json:
        document = {
            "run": state.plan.run,
            "plan": state.plan.digest,
            "rounds_planned": state.plan.rounds,
            "rounds": [record.model_dump(mode="json") for record in state.records],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    table = Table(title=f"{state.plan.run}: {state.round} of {state.plan.rounds} rounds")
    for column in ("round", "seconds", "bytes down", "bytes up", "took part", "rejected"):
        table.add_column(column)
    for record in state.records:
        table.add_row(*_cells(record))
    Console().print(table)


def _cells(record: RoundRecord) -> tuple[str, ...]:
    rejected = "; ".join(f"{name}: {reason}" for name, reason in record.rejected.items())
    return (
        str(record.round),
        f"{record.seconds:.2f}",
        f"{record.bytes_down:,}",
        f"{record.bytes_up:,}",
        escape(", ".join(record.participants)),
        escape(rejected),
    )
