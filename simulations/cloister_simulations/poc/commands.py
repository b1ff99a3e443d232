"""``cloister poc …``: a whole consortium on this machine, as real processes over TLS."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cloister_shared.errors import ServiceError
from cloister_shared.printing import AsJson, print_json, show
from cloister_simulations.config import load_config
from cloister_simulations.poc.processes import remove, require_consortium, take_down

app = typer.Typer(
    help="A whole consortium on this machine: coordinator and schools as real processes.",
    no_args_is_help=True,
)
DEFAULT_CONFIG = Path("configs/simulation/demo.yaml")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The consortium's folder.")]
DEFAULT_FOLDER = Path("out/poc")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    config: Annotated[
        Path, typer.Option(help="Schools, learners, budget and models: a simulation's file.")
    ] = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make coordinator and schools, have them train together, and leave all of them up.

    Ended early, nothing is left running, and the same command goes on where it stopped.
    """
    from cloister_simulations.poc.consortium import Consortium  # noqa: PLC0415
    from cloister_simulations.poc.training import bring_up  # noqa: PLC0415
    from cloister_simulations.progress import Silent, progress_bars  # noqa: PLC0415

    consortium = Consortium.claim(folder, load_config(config))
    try:
        if as_json:
            bring_up(consortium, Silent())
        else:
            with progress_bars(Console(stderr=True)) as bars:
                bring_up(consortium, bars)
    except BaseException:
        Console(stderr=True).print("taking everything down", style="dim")
        take_down(folder)
        raise
    _show(folder, as_json)


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Show what is up, how the run stands and what it cost; ends with 10 unless all are up."""
    if not _show(folder, as_json):
        raise ServiceError(f"not everybody is up; cloister poc up {folder} brings them up")


@app.command()
def down(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """End all processes; what they have done stays, and `up` goes on from there."""
    require_consortium(folder)
    document = {"folder": str(folder), "were_up": take_down(folder)}
    show("The consortium is down", document, as_json)


@app.command()
def clean(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """End all processes and remove coordinator and schools, with all keys and ledgers."""
    require_consortium(folder)
    were_up = take_down(folder)
    remove(folder)
    show("The consortium is gone", {"folder": str(folder), "were_up": were_up}, as_json)


def _show(folder: Path, as_json: bool) -> bool:
    """Print how the consortium stands; whether everybody is up."""
    from cloister_simulations.poc.view import show_view, view  # noqa: PLC0415 - Flower, only here

    document = view(folder)
    if as_json:
        print_json(document)
    else:
        show_view(document, Console())
    return bool(document["up"])
