"""``cloister node …``: make a node, fill its store, say what it holds, serve; and the others."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cloister_client.arguments import Folder
from cloister_client.budget_commands import budget, export_ledger
from cloister_client.config import NodeConfig
from cloister_client.custody_commands import backup, restore
from cloister_client.home import NodeHome
from cloister_client.importing import FORMATS, ColumnMap, Tally, assistments_curriculum, read
from cloister_client.joining_commands import join, preflight
from cloister_client.learner_commands import erase, opt_in, opt_out, readmit
from cloister_client.up_commands import SERVE, announce_ready, down, fleet, up, what_is_up
from cloister_shared.curriculum import load_curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import describe
from cloister_shared.model_specs import SPECS
from cloister_shared.printing import AsJson, show
from cloister_shared.yaml_config import load_yaml

app = typer.Typer(help="One institution's node: records, budget, service.", no_args_is_help=True)


@app.command()
def init(
    folder: Folder,
    config: Annotated[Path, typer.Option(help="The node's settings, a YAML file.")],
    curriculum: Annotated[Path, typer.Option(help="The consortium's curriculum, a JSON file.")],
    as_json: AsJson = False,
) -> None:
    """Make a node: keys, an empty store and an empty privacy ledger."""
    home = NodeHome.create(folder, load_yaml(config, NodeConfig), load_curriculum(curriculum))
    show("A node was made", {"name": home.config.name, "folder": str(folder)}, as_json)


@app.command("curriculum")
def make_curriculum(
    file: Annotated[Path, typer.Argument(help="A public export of ASSISTments.")],
    name: Annotated[str, typer.Option(help="The curriculum's name.")],
    output: Annotated[Path, typer.Option(help="Where to write it; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Make a curriculum of a PUBLIC data set's items and skills.

    Never of your own learners' answers: a curriculum is public, and would tell which items they
    met. An institution's comes from the consortium.
    """
    if not name:
        raise ConfigError("--name is empty: give the curriculum a name")
    made = assistments_curriculum(file, name)
    try:
        output.touch(exist_ok=False)
        made.save(output)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    document = {"file": str(output), "skills": len(made.skills), "items": len(made.items)}
    show("A curriculum was made", document, as_json)


@app.command("import")
def import_file(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="A file of graded answers.")],
    *,
    format: Annotated[str, typer.Option(help=f"One of: {', '.join(FORMATS)}.")] = "csv",
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="For csv: which column holds which field."),
    ] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Enrolment term of new learners; default: the latest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the answers in a file; the same file again changes nothing, a bad one adds nothing."""
    tally = Tally()
    answers = read(file, format, _column_map(column), tally)
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f} answers"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=as_json or not console.is_terminal,
    )
    home = NodeHome.open(folder)
    term = home.config.cohorts[-1] if cohort is None else cohort
    if term not in home.config.cohorts:
        raise ConfigError(
            f"the term {term!r} is not in the node's calendar ({', '.join(home.config.cohorts)}); "
            "add it to cohorts in node.yaml first"
        )
    with home.store() as store, bar:
        report = store.import_interactions(bar.track(answers, description="Reading"), term)
    skipped = {"rows_without_skill": tally.without_skill} if tally.without_skill else {}
    show("Imported", {**asdict(report), **skipped}, as_json)


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Say what the node holds, what of it is up, and the last of what it did for the consortium.

    These exact numbers are for the institution alone.
    """
    home = NodeHome.open(folder)
    with home.store() as store:
        active = {kind: store.active_model(kind) for kind in SPECS}
        document = {
            "name": home.config.name,
            "simulation": home.config.simulation,
            "curriculum": f"{home.curriculum.name} v{home.curriculum.version}",
            "declared_size": home.config.declared_size,
            **asdict(store.counts()),
            "active_models": {kind: model.version for kind, model in active.items() if model},
            "blocked_models": store.blocked_models(),
            **what_is_up(home, as_json),
        }
    show("Node", document, as_json)


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str | None, typer.Option(help="Address, in place of the config's.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="TCP port, in place of the config's; 0: a free one."),
    ] = None,
) -> None:
    """Run the personalization service until it is interrupted."""
    from cloister_client.serving.server import announce  # noqa: PLC0415
    from cloister_client.serving.server import serve as run_server  # noqa: PLC0415

    home = NodeHome.open(folder)
    serving = home.config.serving

    def on_ready(address: str) -> None:
        announce(address)
        announce_ready(home, SERVE, address)

    run_server(home, host or serving.host, serving.port if port is None else port, on_ready)


for _command in (
    *(join, preflight, up, down, fleet),
    *(budget, export_ledger, backup, restore, opt_out, opt_in, erase, readmit),
):
    app.command()(_command)


def _column_map(pairs: Sequence[str] | None) -> ColumnMap | None:
    if not pairs:
        return None
    split = [pair.partition("=") for pair in pairs]
    fields = [field for field, _, _ in split]
    wrong = [field for field, equals, column in split if not (equals and column)]
    if wrong:
        raise ConfigError(f"--column takes FIELD=COLUMN, found {wrong[0]!r}")
    twice = [field for field in ColumnMap.model_fields if fields.count(field) > 1]
    if twice:
        raise ConfigError(f"--column names a column for {twice[0]} twice; say which it is")
    try:
        return ColumnMap.model_validate({field: column for field, _, column in split})
    except ValidationError as error:
        known = ", ".join(ColumnMap.model_fields)
        raise ConfigError(f"--column: {describe(error)}; known fields: {known}") from error
