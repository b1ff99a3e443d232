"""``cloister simulate``, ``cloister sweep`` and ``cloister demo``."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cloister_shared.errors import ConfigError
from cloister_simulations.config import load_config


def simulate(
    config: Annotated[Path, typer.Argument(help="A file like those in configs/simulation.")],
    json: Annotated[Path | None, typer.Option(help="Write the result here as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and node homes; default: out/NAME.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars, no table.")] = False,
) -> None:
    """Simulate a consortium: train, compare with baselines, report.

    Ctrl-C ends it after the round at work; the same command resumes with the next one.
    """
    settings = load_config(config)
    directory = work or Path("out") / settings.name
    page = report or directory / "report.html"
    for output in filter(None, (json, report)):
        _check_output(output)
    # Imported late: `cloister --help` need not wait for torch.
    from cloister_simulations.experiment import run_simulation  # noqa: PLC0415
    from cloister_simulations.progress import Silent, progress_bars  # noqa: PLC0415
    from cloister_simulations.report import print_summary, write_report  # noqa: PLC0415

    console = Console(stderr=True)
    command = shlex.join(["cloister", *sys.argv[1:]])
    if quiet:
        result = run_simulation(settings, directory, Silent(), command)
    else:
        with progress_bars(console) as bars:
            result = run_simulation(settings, directory, bars, command)
        print_summary(result, console)
    if json is not None:
        json.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_report(result, page)
    console.print(f"report: {page}", markup=False, highlight=False)


def sweep(
    config: Annotated[Path, typer.Argument(help="A file like those in configs/simulation.")],
    *,
    epsilon: Annotated[str, typer.Option(help="ε of the private arms, as 1,2,4.")] = "",
    learning_rate: Annotated[
        str, typer.Option(help="The coordinator's in private training, one for each ε.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, as 1,2,3.")] = "1,2,3",
    json: Annotated[Path | None, typer.Option(help="Write all figures here as JSON.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="The simulations' folders; default: out/NAME-sweep.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars, no table.")] = False,
) -> None:
    """Simulate at several ε and seeds: mean and standard deviation of every arm.

    Arms without noise and baselines run once a seed. Ended early, the same command goes on where it
    stopped.
    """
    settings = load_config(config)
    directory = work or Path("out") / f"{settings.name}-sweep"
    if json is not None:
        _check_output(json)
    from cloister_simulations.progress import Silent, progress_bars  # noqa: PLC0415
    from cloister_simulations.report import print_sweep  # noqa: PLC0415
    from cloister_simulations.sweep import run_sweep, summarize, variants  # noqa: PLC0415

    console = Console(stderr=True)
    command = shlex.join(["cloister", *sys.argv[1:]])
    planned = variants(
        settings,
        _numbers(epsilon),
        [int(seed) for seed in _numbers(seeds)],
        _numbers(learning_rate),
    )
    if quiet:
        done = run_sweep(planned, directory, Silent(), command)
    else:
        with progress_bars(console) as bars:
            done = run_sweep(planned, directory, bars, command)
    result = summarize(settings, done, command)
    if not quiet:
        print_sweep(result, console)
    if json is not None:
        json.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _numbers(listed: str) -> list[float]:
    """Numbers that stand in an option, separated by commas."""
    try:
        return [float(number) for number in listed.split(",") if number.strip()]
    except ValueError as error:
        raise ConfigError(
            f"numbers separated by commas were asked for, found {listed!r}"
        ) from error


def _check_output(path: Path) -> None:
    """Raise ``ConfigError`` before hours of work rather than after, if ``path`` is no use."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path}: it must be a file in a folder that is there")


def demo(
    config: Annotated[
        Path, typer.Argument(help="The simulation to run; its nodes must be on disk.")
    ] = Path("configs/simulation/demo.yaml"),
    work: Annotated[Path, typer.Option(help="Where nodes and checkpoints are kept.")] = Path(
        "out/demo"
    ),
) -> None:
    """The whole of Cloister on this machine: train together, then ask each school's own node."""
    from cloister_simulations.demo import run_demo  # noqa: PLC0415

    run_demo(load_config(config), work, Console())
