"""The same apps on Flower's Ray engine: the same weights, in processes of their own."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cloister_server.checkpoint import read_checkpoint
from cloister_shared.errors import ConfigError, RunError
from cloister_simulations.backend.ray import run_on_ray
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.progress import Silent
from cloister_simulations.result import SimulationResult

MakeConfig = Callable[..., SimulationConfig]
INSTALLED = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not INSTALLED, reason="Ray, the extra [ray], is not installed")
CLOISTER = Path(sys.executable).with_name("cloister")
ON_DISK = {"storage": "disk", "arms": ["federated", "pooled"]}


def run(config: SimulationConfig, directory: Path) -> SimulationResult:
    return run_simulation(config, directory, Silent(), "test")


def write(config: SimulationConfig, path: Path) -> Path:
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def without_times(arm: Any) -> list[dict[str, Any]]:
    return [one.model_dump(exclude={"seconds"}) for one in arm.rounds]


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_the_command_to_install_it_is_told(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"not installed; run: pip install .*\[ray\]"):
        run(make_config(storage="disk", backend="ray"), tmp_path)


@pytest.mark.slow
@needs_ray
def test_ray_and_the_in_process_backend_give_the_same_result(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = write(make_config(backend="ray", **ON_DISK), tmp_path / "ray.yaml")
    work, out = tmp_path / "ray", tmp_path / "result.json"
    typed = [str(CLOISTER), "simulate", str(path), "--work", str(work), "--json", str(out)]
    subprocess.run([*typed, "--quiet"], check=True, timeout=300)
    on_ray = SimulationResult.model_validate_json(out.read_bytes())
    here = run(make_config(**ON_DISK), tmp_path / "here")
    assert on_ray.nodes == here.nodes
    for one, other in zip(on_ray.arms, here.arms, strict=True):
        assert one.final == other.final
        assert without_times(one) == without_times(other)
    states = [
        read_checkpoint(directory / "federated" / "federated.checkpoint")
        for directory in (work, tmp_path / "here")
    ]
    for name, array in states[0].weights["dkt"].items():
        assert np.array_equal(states[1].weights["dkt"][name], array)


@pytest.mark.slow
@needs_ray
def test_ctrl_c_ends_a_run_on_ray_and_the_same_command_resumes(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = write(make_config({"rounds": 60}, storage="disk", backend="ray"), tmp_path / "ray.yaml")
    work = tmp_path / "work"
    checkpoint = work / "federated" / "federated.checkpoint"
    typed = [str(CLOISTER), "simulate", str(path), "--work", str(work), "--quiet"]
    # A group of its own, all of which is told, as by a terminal.
    with subprocess.Popen(typed, start_new_session=True) as process:
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    before = read_checkpoint(checkpoint).records
    assert 0 < len(before) < 60
    subprocess.run(typed, check=True, timeout=300)
    after = read_checkpoint(checkpoint).records
    assert (after[: len(before)], len(after)) == (before, 60)


@pytest.mark.slow
@needs_ray
def test_an_error_of_the_coordinator_on_ray_is_raised() -> None:
    from flwr.clientapp import ClientApp

    from cloister_server.flower import make_server_app

    def stop(*_: object) -> None:
        raise RunError("no quorum")

    with pytest.raises(RunError, match="no quorum"):
        run_on_ray(make_server_app(stop), ClientApp(), 1)
