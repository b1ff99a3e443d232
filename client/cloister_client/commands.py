"""``cloister node …``: make a node, fill its store, see its budget, honour learners' wishes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from cloister_client.budget_report import BudgetReport, report_budget
from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_client.importing import FORMATS, ColumnMap, Tally, assistments_curriculum, read
from cloister_client.store.consent import CONSENT_PURPOSES
from cloister_shared.curriculum import load_curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import describe
from cloister_shared.model_specs import SPECS
from cloister_shared.yaml_config import load_yaml

app = typer.Typer(help="One institution's node: records, budget, service.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The node's folder.")]
Learner = Annotated[str, typer.Argument(help="The learner's id in the LMS.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_NOBODY = "No learner of this id is held here"


@app.command()
def init(
    folder: Folder,
    config: Annotated[Path, typer.Option(help="The node's settings, a YAML file.")],
    curriculum: Annotated[Path, typer.Option(help="The consortium's curriculum, a JSON file.")],
    as_json: AsJson = False,
) -> None:
    """Make a node: keys, an empty store and an empty privacy ledger."""
    home = NodeHome.create(folder, load_yaml(config, NodeConfig), load_curriculum(curriculum))
    _show("A node was made", {"name": home.config.name, "folder": str(folder)}, as_json)


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
    _show("A curriculum was made", document, as_json)


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
    _show("Imported", {**asdict(report), **skipped}, as_json)


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Say what the node holds. These exact numbers are for the institution alone."""
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
        }
    _show("Node", document, as_json)


@app.command()
def budget(folder: Folder, as_json: AsJson = False) -> None:
    """Show the privacy budget: limit, spent and left by role and cohort, and by run."""
    ledger = NodeHome.open(folder).ledger()
    report = report_budget(ledger.export())
    ledger.close()
    if as_json:
        _print_json(report.model_dump(mode="json"))
    else:
        _print_budget(report)


@app.command()
def opt_out(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Train and evaluate on a learner no more; they are still served."""
    _record_consent(folder, learner, False, as_json)


@app.command()
def opt_in(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Let a learner take part (again) in training and evaluation."""
    _record_consent(folder, learner, True, as_json)


@app.command()
def erase(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Delete a learner's records for good, and take none of this id ever again.

    This cannot be undone: later imports and live answers of the same id are left out. What was
    spent on the learner stays spent.
    """
    with NodeHome.open(folder).store() as store:
        held = store.erase(learner)
    title = "Erased" if held else f"{_NOBODY}; answers of this id that come later are left out"
    _show(title, {"records_were_held": held}, as_json)


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
    from cloister_client.serving.server import serve as run_server  # noqa: PLC0415

    home = NodeHome.open(folder)
    serving = home.config.serving
    run_server(home, host or serving.host, serving.port if port is None else port)


@app.command()
def export_ledger(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write the privacy ledger for an auditor; it names no learner."""
    ledger = NodeHome.open(folder).ledger()
    export = ledger.export()
    ledger.close()
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(export.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    _show("Exported", {"file": str(file), "entries": len(export.entries)}, as_json)


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


def _record_consent(folder: Path, learner: str, granted: bool, as_json: bool) -> None:
    with NodeHome.open(folder).store() as store:
        known = [store.set_consent(learner, purpose, granted) for purpose in CONSENT_PURPOSES]
    document = {
        "purposes": list(CONSENT_PURPOSES),
        "granted": granted,
        "learner_is_known": any(known),
    }
    title = "Recorded" if any(known) else f"{_NOBODY}; recorded for answers that come later"
    _show(title, document, as_json)


def _show(title: str, document: Mapping[str, Any], as_json: bool) -> None:
    """One document, as JSON or as a table of names and values."""
    if as_json:
        _print_json(document)
        return
    table = Table("name", Column("value", overflow="fold"), show_header=False)
    for name, value in document.items():
        table.add_row(name.replace("_", " "), escape(_text(value)))
    console = Console()
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {one}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _print_budget(report: BudgetReport) -> None:
    limit = report.limit_micro_rdp
    spent = Table("role", "cohort", "ε spent (RDP)", "ε spent (PLD*)", "budget used", "left")
    for group in report.groups:
        spent.add_row(
            group.role,
            group.cohort,
            _figure(group.epsilon_rdp),
            _figure(group.epsilon_pld),
            _share(group.spent_micro_rdp, limit),
            _share(group.remaining_micro_rdp, limit),
        )
    runs = Table("run", "role", "cohort", "charges", "budget used")
    for run in report.runs:
        used = _share(run.spent_micro_rdp, limit)
        runs.add_row(run.run, run.role, run.cohort, str(run.charges), used)
    console = Console()
    console.print(
        f"Limit: ε {report.epsilon_limit:g} at δ {report.delta:g}, kept as RDP at order "
        f"{report.order:g}{'' if report.enforced else '; NOT ENFORCED (simulation)'}"
    )
    if report.groups:
        console.print(spent, runs, "* valid for plans fixed in advance", sep="\n")
    else:
        console.print("Nothing is spent.")


def _figure(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3f}"


def _share(micro: int | None, limit: int) -> str:
    return "∞" if micro is None else f"{micro / limit:.1%}" if limit else str(micro)
