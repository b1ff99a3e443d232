"""``cloister bench NAME``: a table for people, one JSON document for machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cloister_simulations.progress import progress_bars

if TYPE_CHECKING:
    from cloister_simulations.benchmarks.harness import BenchmarkResult

app = typer.Typer(help="Benchmarks: ratios of interleaved runs.", no_args_is_help=True)

Output = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]


@app.command("dp-step")
def dp_step(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of all contenders.")] = 3,
) -> None:
    """One private DKT step: ours, Opacus's, `nn.LSTM` without privacy, bare products.

    Takes four to five minutes on two quiet cores.
    """
    # Imported late: `cloister --help` need not wait for torch.
    from cloister_simulations.benchmarks.dp_step.benchmark import run  # noqa: PLC0415

    with progress_bars(Console(stderr=True)) as reporter:
        result = run(repeats, reporter)
    _show(result, json)


@app.command()
def noise(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of all contenders.")] = 50,
) -> None:
    """Gaussian noise from the operating system's generator."""
    from cloister_simulations.benchmarks.noise import run  # noqa: PLC0415

    _show(run(repeats), json)


@app.command()
def simulation(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of all contenders.")] = 3,
    peer: Annotated[
        list[str] | None, typer.Option(help="Only peers whose name begins so; may be repeated.")
    ] = None,
) -> None:
    """Federated simulation: ours, pfl-research, Flower's Ray backend, NVFlare.

    Makes an environment for each peer in ~/.cache/cloister/bench, once.
    """
    from cloister_simulations.benchmarks.simulation import run  # noqa: PLC0415

    with progress_bars(Console(stderr=True)) as reporter:
        result = run(repeats, peer or (), reporter)
    _show(result, json)


@app.command()
def scale(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Fresh processes for each size.")] = 2,
) -> None:
    """A fleet of ten to a hundred thousand clients: time a client and peak memory."""
    from cloister_simulations.benchmarks.scale import run  # noqa: PLC0415

    with progress_bars(Console(stderr=True)) as reporter:
        result = run(reporter, repeats=repeats)
    _show(result, json)


@app.command()
def accounting(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Fresh processes for each figure.")] = 3,
) -> None:
    """Calibration, rounds that fit and reports over 10,000 events, each cold."""
    from cloister_simulations.benchmarks.accounting import run  # noqa: PLC0415

    _show(run(repeats), json)


@app.command()
def ledger(
    json: Output = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of budget and checks.")] = 3,
) -> None:
    """A ledger of 100,000 entries: a charge on disk, the budget, the check of the whole chain.

    Takes about a minute, and 50 MB in the current folder meanwhile.
    """
    from cloister_simulations.benchmarks.ledger import run  # noqa: PLC0415

    _show(run(repeats=repeats), json)


@app.command()
def deploy(
    json: Output = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only compression, warm, stock, memory or serving; may be repeated."),
    ] = None,
) -> None:
    """A consortium of real processes: rounds, bytes, accuracy, memory, a service while it trains.

    Takes about ten minutes on two quiet cores; of these, memory five and compression two.
    """
    from cloister_simulations.benchmarks.deploy.benchmark import run  # noqa: PLC0415

    with progress_bars(Console(stderr=True)) as reporter:
        result = run(part or (), reporter)
    _show(result, json)


def _show(result: "BenchmarkResult", path: Path | None) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = Table(title=result.benchmark)
    for column in result.rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in result.rows:
        table.add_row(*map(_cell, row.values()))
    console.print(table)
    for name, figure in result.figures.items():
        console.print(f"{name}: {figure:.3g}")
    for note in result.notes:
        console.print(note, markup=False)
    if path is not None:
        path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _cell(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else value or "-"
