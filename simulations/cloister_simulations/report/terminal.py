"""The end of a simulation in the terminal."""

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from cloister_simulations.report import tables, wording
from cloister_simulations.report.promise import promise
from cloister_simulations.report.tables import Table
from cloister_simulations.result import SimulationResult


def print_summary(result: SimulationResult, console: Console) -> None:
    """Print the guarantee, the figures of each model kind, the spend and the cost."""
    said = promise(result)
    style = "green" if said.holds else "bold red"
    body = Text("\n".join(said.sentences))
    console.print(Panel(body, title=Text(said.headline, style), border_style=style))
    for kind in result.model_kinds:
        console.print(_rich(tables.summary_table(result, kind)))
    console.print(_rich(tables.spend_table(result)))
    console.print(_rich(tables.cost_table(result)))
    console.print(
        f"Simulation only: exact metrics, as no node would release them. "
        f"{wording.seconds(result.wall_clock_s)} in all.",
        style="dim",
        markup=False,
    )


def _rich(table: Table) -> RichTable:
    """A table for the terminal; cells are text, never markup."""
    rich = RichTable(title=Text(table.caption), title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(table.head):
        is_text = place in table.text_columns
        rich.add_column(Text(name), justify="left" if is_text else "right", no_wrap=place == 0)
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich
