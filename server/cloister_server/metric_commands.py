"""``cloister coordinator metrics``: what nodes released of their evaluation learners, together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloister_server.checkpoint import MetricRecord, read_checkpoint
from cloister_shared.printing import AsJson, print_json
from cloister_shared.privacy.figures import ABOVE_ALL, PrivateFigure, PrivateFigures

EVERYBODY = "all"


def metrics(
    checkpoint: Annotated[Path, typer.Argument(help="A run's checkpoint file.")],
    as_json: AsJson = False,
) -> None:
    """Show a run's private metrics: each figure with the deviation that its noise gives it.

    Of all evaluation learners, and by group where the plan names groups. A dash stands where the
    noise dominates. JSON has the shares of right answers by bin of the prediction too.
    """
    state = read_checkpoint(checkpoint)
    if as_json:
        released = [record.model_dump(mode="json") for record in state.metrics]
        print_json({"run": state.plan.run, "plan": state.plan.digest, "metrics": released})
        return
    table = Table(title=f"{escape(state.plan.run)}: what evaluation learners say of the models")
    for column in ("round", "model", "learners", "figure", "value", "± noise", "− all", "± noise"):
        table.add_column(column)
    for record in state.metrics:
        for row in _rows(record):
            table.add_row(str(record.round), *row)
    Console().print(table)


def _rows(record: MetricRecord) -> Iterator[tuple[str, ...]]:
    for kind, figures in record.figures.items():
        yield from _of(kind, EVERYBODY, figures)
        if kind in record.breakdowns:
            for group, own in record.breakdowns[kind].groups.items():
                yield from _of(kind, group, own)


def _of(kind: str, learners: str, figures: PrivateFigures) -> Iterator[tuple[str, ...]]:
    for name, figure in figures.items():
        if not name.endswith(ABOVE_ALL):
            above = figures.get(name + ABOVE_ALL)
            yield (kind, learners, name, *_cells(figure), *_cells(above, sign="+"))


def _cells(figure: PrivateFigure | None, sign: str = "") -> tuple[str, str]:
    if figure is None:
        return "–", "–"
    return f"{figure.value:{sign}.4f}", f"{figure.noise_deviation:.4f}"
