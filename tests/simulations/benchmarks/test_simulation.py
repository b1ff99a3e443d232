"""Peers and ours take turns; figures compare neighbours and are absent where somebody was."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cloister_shared.model_specs import SPECS
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import KeyedNoise
from cloister_simulations.benchmarks.contenders import Contender, ContenderError, Measurement
from cloister_simulations.benchmarks.in_process import OurContender
from cloister_simulations.benchmarks.linear import LinearSpec, LinearTrainer
from cloister_simulations.benchmarks.peers.workload import (
    CLASSES,
    PIXELS,
    Job,
    batches,
    client_data,
)
from cloister_simulations.benchmarks.simulation import JOBS, Scores, compare
from cloister_simulations.fleet import Client
from cloister_simulations.progress import Silent


@pytest.fixture(autouse=True)
def _specs_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark makes a spec known to its process."""
    monkeypatch.setattr(SPECS, "_objects", dict(SPECS._objects))


@dataclass
class Stopwatch:
    """A contender whose rounds last as long as it is told, job by job; no time, no job."""

    name: str
    seconds: dict[str, list[float]]
    log: list[str] = field(default_factory=list)

    def run(self, job: Job) -> Measurement:
        self.log.append(f"{self.name} {job.name}")
        if not self.seconds.get(job.name):
            raise ContenderError("it cannot")
        return Measurement(100, 2.0, [self.seconds[job.name].pop(0)], {self.name: "1.0"})


def everywhere(seconds: float, times: int = 99) -> dict[str, list[float]]:
    return {job.name: [seconds] * times for job in JOBS}


def scores(ours: Contender, *peers: Contender, repeats: int = 1) -> Scores:
    return compare(ours, peers, JOBS, repeats=repeats, reporter=Silent())


def test_after_every_run_of_a_peer_comes_one_of_ours() -> None:
    log: list[str] = []
    ours = Stopwatch("ours", everywhere(1.0), log)
    peers = [Stopwatch(name, everywhere(1.0), log) for name in ("a", "b")]
    compare(ours, peers, JOBS[:2], repeats=2, reporter=Silent())
    turn = [f"{who} {job.name}" for job in JOBS[:2] for who in ("a", "ours", "b", "ours")]
    assert log == turn * 2


def test_a_ratio_is_the_median_over_neighbouring_runs() -> None:
    # The machine is ten times slower in the second repeat, for both.
    ours = Stopwatch("ours", {"dkt": [1.0, 10.0, 1.0]})
    peer = Stopwatch("pfl, 1 process", {"dkt": [20.0, 200.0, 30.0]})
    result = compare(ours, [peer], JOBS[:1], repeats=3, reporter=Silent())
    (row, own) = result.rows()
    assert (row["contender"], row["ms_per_client"], row["over_ours"]) == (peer.name, 300.0, 20.0)
    assert (own["contender"], own["ms_per_client"], own["over_ours"]) == ("ours", 10.0, None)
    assert row["start_up_s"] == 2.0
    assert result.versions() == {peer.name: {peer.name: "1.0"}, "ours": {"ours": "1.0"}}


def test_figures_are_geometric_means_against_the_better_of_a_peers_contenders() -> None:
    one = everywhere(8.0)
    two = {**everywhere(4.0), "dkt_central_noise": [16.0], "lr": [10.0]}
    found = scores(
        Stopwatch("ours", everywhere(2.0)),
        Stopwatch("pfl, 1 process", one),
        Stopwatch("pfl, 2 processes", two),
        Stopwatch("flower, 2 ray workers", everywhere(50.0)),
        Stopwatch("nvflare, 10 processes", everywhere(400.0)),
    ).figures()
    assert found == {
        "simulation_vs_pfl": pytest.approx((2 * 4) ** 0.5),
        "simulation_vs_flower_ray": pytest.approx(25.0),
        "simulation_vs_nvflare": pytest.approx(200.0),
        "simulation_5_steps_vs_pfl": pytest.approx(2.0),
        "simulation_lr_vs_pfl": pytest.approx(4.0),
    }


def test_who_cannot_do_a_job_is_noted_once_and_only_its_figures_are_absent() -> None:
    log: list[str] = []
    without_noise = {**everywhere(6.0), "dkt_central_noise": []}
    result = scores(
        Stopwatch("ours", {**everywhere(2.0), "lr": []}),
        Stopwatch("pfl, 1 process", without_noise, log),
        repeats=2,
    )
    assert result.figures() == {"simulation_5_steps_vs_pfl": pytest.approx(3.0)}
    assert result.notes == ["pfl, 1 process, dkt_central_noise: it cannot", "ours, lr: it cannot"]
    assert log.count("pfl, 1 process dkt_central_noise") == 1


def test_without_peers_ours_is_timed_alone() -> None:
    result = scores(Stopwatch("ours", everywhere(2.0)))
    assert [row["contender"] for row in result.rows()] == ["ours"] * len(JOBS)
    assert result.figures() == {}


@pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])
def test_our_contender_does_every_round_of_every_job(job: Job) -> None:
    measured = OurContender().run(replace(job, clients=5, cohort=3, rounds=3))
    assert (measured.cohort, len(measured.seconds)) == (3, 2)
    assert all(seconds > 0 for seconds in measured.seconds)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_fleet_of_logistic_regressions_learns_what_plain_descent_does(epochs: int) -> None:
    """Clients one by one in torch, from zeros, and their mean."""
    job = replace(JOBS[-1], clients=3, cohort=3, epochs=epochs)
    clients = [Client(number, 1, _samples(job, number)) for number in range(3)]
    spec = LinearSpec(pixels=PIXELS, classes=CLASSES)
    start = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    local = LocalTraining(steps=epochs, learning_rate=job.learning_rate)
    found = LinearTrainer(local, job.batch, epochs).train(start, clients, KeyedNoise)
    expected = np.zeros((CLASSES, PIXELS))
    for client in clients:
        module = nn.Linear(PIXELS, CLASSES)
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
        for pixels, labels in batches(job, client.data):
            module.zero_grad()
            functional.cross_entropy(module(pixels), labels).backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.sub_(parameter.grad, alpha=job.learning_rate)
        expected -= module.weight.detach().double().numpy() / job.learning_rate
    np.testing.assert_allclose(found["linear"], expected, atol=1e-4)


def _samples(job: Job, client: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = client_data(job, client)
    return pixels, labels
