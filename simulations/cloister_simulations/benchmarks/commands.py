"""``cloister bench NAME``: a table for people, one JSON document for machines."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cloister_simulations.benchmarks.harness import BenchmarkResult

app = typer.Typer(help="Benchmarks: ratios of interleaved runs.", no_args_is_help=True)

Output = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]


@app.command("dp-step")
def dp_step(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of all contenders.")] = 5,
    default_malloc: Annotated[
        bool, typer.Option("--default-malloc", help="Leave glibc's allocator as it is.")
    ] = False,
) -> None:
    """One private DKT step: ours, Opacus's hooks, `nn.LSTM` without privacy, bare products."""
    # Imported late: `cloister --help` need not wait for torch.
    import torch  # noqa: PLC0415

    from cloister_simulations.benchmarks.dp_step import run  # noqa: PLC0415

    torch.set_num_threads(os.cpu_count() or 1)
    _show(run(repeats, tuned=not default_malloc), json)


@app.command()
def noise(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of all contenders.")] = 50,
) -> None:
    """Gaussian noise from the operating system's generator."""
    from cloister_simulations.benchmarks.noise import run  # noqa: PLC0415

    _show(run(repeats), json)


def _show(result: "BenchmarkResult", path: Path | None) -> None:
    console = Console()
    table = Table(title=result.benchmark)
    for column in result.rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in result.rows:
        table.add_row(*(f"{one:.4g}" for one in row.values()))
    console.print(table)
    for name, figure in result.figures.items():
        console.print(f"{name}: {figure:.3g}")
    if path is not None:
        path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
