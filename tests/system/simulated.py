"""Small simulations in processes of their own, to be watched, interrupted and killed."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.tiny import tiny_consortium

from cloister_server.checkpoint import read_checkpoint
from cloister_simulations.config import SimulationConfig
from cloister_simulations.result import SimulationResult

CLOISTER = Path(sys.executable).with_name("cloister")
ROUNDS = 40
_PATIENCE_S = 120.0
_FORKS = multiprocessing.get_context("forkserver")
# Imported once for all children, of which each then starts in a moment. The first optimizer would
# import the compiler of torch.
_FORKS.set_forkserver_preload(
    [
        "cloister_simulations.experiment",
        "cloister_shared.cli",
        "cloister_client.audit.one_run",
        "torch._dynamo",
    ]
)


def document(**sections: Any) -> dict[str, Any]:
    """Two tiny schools and quick rounds; ``sections`` replace whole parts."""
    training = {
        "rounds": ROUNDS,
        "sampling_rate": 0.5,
        "clip_norm": 0.1,
        "server": {"name": "fedadam", "learning_rate": 0.03, "decay": "linear"},
    }
    return {
        **tiny_consortium(),
        "evaluate_every_rounds": 4,
        "models": [
            {"kind": "dkt", "spec": {"hidden": 4}, "private": training, "non_private": training}
        ],
        **sections,
    }


def config(**sections: Any) -> SimulationConfig:
    """The same, validated."""
    return SimulationConfig.model_validate(document(**sections))


def rounds_done(directory: Path) -> int:
    """Rounds in the federated arm's checkpoint; 0 where there is none."""
    path = checkpoint(directory)
    return read_checkpoint(path).round if path.exists() else 0


def checkpoint(directory: Path) -> Path:
    """The federated arm's."""
    return directory / "federated" / "federated.checkpoint"


def release(directory: Path) -> bytes:
    """The federated arm's finished models, as they were sent."""
    return (directory / "federated" / "federated.release").read_bytes()


def await_rounds(directory: Path, count: int) -> None:
    """Return once ``count`` rounds are in the checkpoint."""
    await_that(lambda: rounds_done(directory) >= count, f"{count} rounds in {directory}")


def await_that(happened: Callable[[], bool], what: str) -> None:
    """Return once ``happened()``; ``TimeoutError`` after two minutes."""
    end = time.monotonic() + _PATIENCE_S
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(0.005)


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """``work(*arguments)`` in a process of its own; ``work`` has to be importable."""
    process = _FORKS.Process(target=work, args=arguments)
    process.start()
    return process


def simulate(settings: SimulationConfig, directory: Path) -> None:
    """The whole simulation, silently."""
    from cloister_simulations.experiment import run_simulation
    from cloister_simulations.progress import Silent

    run_simulation(settings, directory, Silent(), "test")


def command(errors: Path, *arguments: str) -> None:
    """``cloister ARGUMENTS`` in this process, which it ends; standard error goes to a file."""
    from cloister_shared.cli import main

    sys.argv = ["cloister", *arguments]
    with errors.open("w") as file, redirect_stderr(file):
        main()


def told(result: SimulationResult) -> Mapping[str, Any]:
    """What a result says of the federated arm, but for its times."""
    (arm,) = result.arms
    return {
        "rounds": [one.model_dump(exclude={"seconds"}) for one in arm.rounds],
        "final": arm.final,
        "nodes": result.nodes,
    }
