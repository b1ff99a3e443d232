"""Federated simulation: ours beside pfl-research, Flower's Ray backend and NVFlare.

Each peer's run of a job is followed by one of ours; a ratio compares such a pair, and a figure is
the median over the pairs. The jobs: knowledge tracing on devices of one learner each, and logistic
regression in the shape of MNIST (FLUTE, Garcia et al. 2022, section 4.1).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from cloister_client.training.process import keep_freed_memory, tune_process
from cloister_simulations.benchmarks.contenders import Contender, ContenderError, Measurement
from cloister_simulations.benchmarks.environments import cache_directory
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine
from cloister_simulations.benchmarks.in_process import OurContender
from cloister_simulations.benchmarks.peers.workload import Job
from cloister_simulations.benchmarks.workers import Peer
from cloister_simulations.progress import Reporter

DKT = Job(
    name="dkt",
    model="dkt",
    clients=1000,
    cohort=100,
    epochs=1,
    batch=1,
    learning_rate=0.1,
    clip=0.1,
    noise=0.0,
    rounds=31,
)
JOBS = (
    DKT,
    replace(DKT, name="dkt_central_noise", noise=1.0),
    replace(DKT, name="dkt_5_steps", epochs=5),
    replace(DKT, name="lr", model="lr", cohort=10, batch=10, learning_rate=0.03, rounds=61),
)
ALL = frozenset(job.name for job in JOBS)
PEERS = (
    Peer("pfl, 1 process", "pfl_research", ALL),
    Peer("pfl, 2 processes", "pfl_research", ALL, {"processes": 2}),
    # Rounds that last seconds; what a first round costs more has no part in the figures anyway.
    Peer(
        "as it comes: pfl, 2 processes",
        "pfl_research",
        ALL,
        {"processes": 2, "rounds": 6},
        tuned=False,
    ),
    Peer("flower, 2 ray workers", "flower_ray", ALL, {"processes": 2, "rounds": 6}),
    # A round lasts as long as its polls whatever it trains, hence few of them.
    Peer(
        "nvflare, 10 processes",
        "nvidia_flare",
        frozenset({"dkt", "lr"}),
        {"processes": 10, "cohort": 10, "rounds": 4},
    ),
)
BOTH = ("dkt", "dkt_central_noise")
FIGURES: Mapping[str, tuple[str, Sequence[str]]] = {
    "simulation_vs_pfl": ("pfl", BOTH),
    "simulation_vs_pfl_as_it_comes": ("as it comes: pfl", BOTH),
    "simulation_vs_flower_ray": ("flower", BOTH),
    "simulation_vs_nvflare": ("nvflare", ("dkt",)),
    "simulation_5_steps_vs_pfl": ("pfl", ("dkt_5_steps",)),
    "simulation_lr_vs_pfl": ("pfl", ("lr",)),
}
"""Figure name: how the peer's contenders begin, and the jobs whose ratios are averaged."""


@dataclass
class Scores:
    """All measurements by (job, contender), and each peer's time over that of ours after it."""

    measurements: dict[tuple[str, str], list[Measurement]] = field(
        default_factory=lambda: defaultdict(list)
    )
    ratios: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    failed: set[tuple[str, str]] = field(default_factory=set)

    def measure(self, contender: Contender, job: Job) -> Measurement | None:
        """Run the contender and keep what it did; None, and a note, if it cannot do the job."""
        key = (job.name, contender.name)
        if key in self.failed:
            return None
        try:
            measurement = contender.run(job)
        except ContenderError as error:
            self.failed.add(key)
            self.notes.append(f"{contender.name}, {job.name}: {error}")
            return None
        self.measurements[key].append(measurement)
        return measurement

    def rows(self) -> tuple[dict[str, float | str | None], ...]:
        """One row a job and contender: medians in ms and s, and how many times ours it takes."""
        return tuple(
            {
                "job": job,
                "contender": contender,
                "clients_a_round": runs[0].cohort,
                "ms_per_client": median(run.ms_per_client for run in runs),
                "start_up_s": median(run.start_up for run in runs),
                "over_ours": self._over_ours(job, contender),
            }
            for (job, contender), runs in self.measurements.items()
        )

    def figures(self) -> dict[str, float]:
        """Each figure whose jobs were all run by the peer and by us: a geometric mean over them.

        Of a peer's several contenders the fastest counts, job by job.
        """
        found: dict[str, float] = {}
        for name, (peer, jobs) in FIGURES.items():
            best = [self._best(job, peer) for job in jobs]
            known = [ratio for ratio in best if ratio is not None]
            if len(known) == len(jobs):
                found[name] = math.prod(known) ** (1 / len(known))
        return found

    def versions(self) -> dict[str, dict[str, str]]:
        """Libraries and their versions by contender."""
        return {
            contender: dict(runs[0].versions) for (_, contender), runs in self.measurements.items()
        }

    def _over_ours(self, job: str, contender: str) -> float | None:
        ratios = self.ratios.get((job, contender))
        return median(ratios) if ratios else None

    def _best(self, job: str, peer: str) -> float | None:
        ratios = [
            median(ratios)
            for (ran, contender), ratios in self.ratios.items()
            if ran == job and contender.startswith(peer)
        ]
        return min(ratios, default=None)


def run(repeats: int, only: Iterable[str], reporter: Reporter) -> BenchmarkResult:
    """Time ours and the peers whose names begin with one of ``only`` (nothing: all of them)."""
    tune_process()
    wanted = tuple(only) or ("",)
    peers, absent = _install([one for one in PEERS if one.name.startswith(wanted)], reporter)
    where = machine("kept" if keep_freed_memory() else "default")
    scores = compare(OurContender(), peers, JOBS, repeats=repeats, reporter=reporter)
    return BenchmarkResult(
        benchmark="simulation",
        figures=scores.figures(),
        rows=scores.rows(),
        notes=(*absent, *scores.notes),
        machine={**where, "peers": scores.versions()},
    )


def compare(
    ours: Contender,
    peers: Sequence[Contender],
    jobs: Sequence[Job],
    *,
    repeats: int,
    reporter: Reporter,
) -> Scores:
    """Run every job by peer, ours, peer, ours, … ``repeats`` times; ours alone without peers.

    What cannot be run is noted once and left out.
    """
    scores = Scores()
    turns: Sequence[Contender | None] = peers or [None]
    pairs = [(job, peer) for job in jobs for peer in turns]
    reporter.begin("runs", repeats * len(pairs))
    for number, (job, peer) in enumerate(pairs * repeats, start=1):
        theirs = scores.measure(peer, job) if peer else None
        own = scores.measure(ours, job)
        if peer and theirs and own:
            scores.ratios[job.name, peer.name].append(theirs.ms_per_client / own.ms_per_client)
        reporter.reach(number)
    return scores


def _install(peers: Sequence[Peer], reporter: Reporter) -> tuple[list[Contender], list[str]]:
    """The peers that can be had here, and why the others cannot."""
    installed: list[Contender] = []
    absent: list[str] = []
    reporter.begin("environments", len(peers))
    for number, peer in enumerate(peers, start=1):
        try:
            installed.append(peer.installed(cache_directory()))
        except ContenderError as error:
            absent.append(f"{peer.name}: not installed: {error}")
        reporter.reach(number)
    return installed, absent
