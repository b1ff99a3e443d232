"""What commands print: one JSON document, or tables for people."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cloister_shared.privacy.budget_fit import Fit
from cloister_shared.privacy.budget_report import BudgetReport

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
"""The option that every command has."""


def show(title: str, document: Mapping[str, Any], as_json: bool) -> None:
    """One document, as JSON or as a table of names and values."""
    if as_json:
        print_json(document)
        return
    table = Table("name", Column("value", overflow="fold"), show_header=False)
    for name, value in document.items():
        table.add_row(name.replace("_", " "), escape(_text(value)))
    console = Console()
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on one line."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def print_budget(report: BudgetReport) -> None:
    """The limit of a ledger, and what is spent of it by role and cohort, and by run."""
    limit = report.limit_micro_rdp
    spent = Table("role", "cohort", "ε spent (RDP)", "ε spent (PLD*)", "budget used", "left")
    for group in report.groups:
        spent.add_row(
            group.role,
            escape(group.cohort),
            _figure(group.epsilon_rdp),
            _figure(group.epsilon_pld),
            _share(group.spent_micro_rdp, limit),
            _share(group.remaining_micro_rdp, limit),
        )
    runs = Table("run", "role", "cohort", "charges", "budget used", "rounds like its last that fit")
    for run in report.runs:
        used = _share(run.spent_micro_rdp, limit)
        runs.add_row(
            escape(run.run),
            run.role,
            escape(run.cohort),
            str(run.charges),
            used,
            str(run.rounds_that_fit),
        )
    console = Console()
    console.print(
        f"Limit: ε {report.epsilon_limit:g} at δ {report.delta:g}, kept as RDP at order "
        f"{report.order:g}{'' if report.enforced else '; NOT ENFORCED (simulation)'}"
    )
    if report.restored:
        console.print(
            "Restored from a backup: all counts as spent until the coordinator's receipt."
        )
    if report.groups:
        console.print(spent, runs, "* valid for plans fixed in advance", sep="\n")
    elif not report.restored:
        console.print("Nothing is spent.")


def print_fits(fits: Iterable[Fit]) -> None:
    """How many rounds of what was asked still fit, by role and cohort."""
    table = Table("role", "cohort", "rounds that still fit")
    for one in fits:
        asked = "" if one.rounds_asked is None else f" of the {one.rounds_asked} planned"
        table.add_row(one.role, escape(one.cohort), f"{one.rounds_that_fit}{asked}")
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {one}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _figure(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3f}"


def _share(micro: int | None, limit: int) -> str:
    return "∞" if micro is None else f"{micro / limit:.1%}" if limit else str(micro)
