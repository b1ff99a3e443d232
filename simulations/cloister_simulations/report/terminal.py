"""The end of a simulation in the terminal."""

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from cloister_simulations.report import tables, wording
from cloister_simulations.report.comparison import MAIN_METRICS
from cloister_simulations.report.promise import promise
from cloister_simulations.report.tables import Table
from cloister_simulations.result import SimulationResult
from cloister_simulations.sweep import SweepLine, SweepResult


def print_summary(result: SimulationResult, console: Console) -> None:
    """Print the guarantee, the figures of each model kind, the spend and the cost."""
    said = promise(result)
    style = "green" if said.holds else "bold red"
    body = Text("\n".join(said.sentences))
    console.print(Panel(body, title=Text(said.headline, style), border_style=style))
    for kind in result.model_kinds:
        console.print(_rich(tables.summary_table(result, kind)))
        private = tables.private_metrics_table(result, kind, most=1)
        if private.rows:
            console.print(_rich(private))
        groups = tables.private_groups_table(result, kind)
        if groups.rows:
            console.print(_rich(groups))
    console.print(_rich(tables.spend_table(result)))
    audit = tables.audit_table(result)
    if audit.rows:
        console.print(_rich(audit))
    console.print(_rich(tables.cost_table(result)))
    console.print(
        f"Simulation only: exact metrics, as no node would release them. "
        f"{wording.seconds(result.wall_clock_s)} in all.",
        style="dim",
        markup=False,
    )


def print_sweep(result: SweepResult, console: Console) -> None:
    """Print mean and deviation of each arm's and baseline's main figure at each ε."""
    main = [
        line for line in result.lines if MAIN_METRICS.get(line.kind, line.metric) == line.metric
    ]
    console.print(_rich(_sweep_table(main, len(result.seeds))))


def _sweep_table(lines: list[SweepLine], seeds: int) -> Table:
    rows = tuple(
        (
            wording.title_of(line.kind),
            wording.label(line.name),
            wording.limit(line.epsilon),
            wording.metric_title(line.metric),
            wording.figure(line.mean),
            wording.figure(line.deviation),
        )
        for line in lines
    )
    head = ("model", "arm", "ε", "figure", "mean", "deviation")
    return Table(f"Over {seeds} seeds", head, rows, (0, 1, 3))


def _rich(table: Table) -> RichTable:
    """A table for the terminal; cells are text, never markup. In a narrow one words give way."""
    rich = RichTable(title=Text(table.caption), title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(table.head):
        is_text = place in table.text_columns
        rich.add_column(Text(name), justify="left" if is_text else "right", no_wrap=not is_text)
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich
