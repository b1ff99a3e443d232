"""Our contender: a fleet of clients behind the real coordinator."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy.mechanism import Mechanism
from cloister_simulations.benchmarks.contenders import Measurement
from cloister_simulations.benchmarks.linear import LinearSpec, LinearTrainer
from cloister_simulations.benchmarks.peers.workload import (
    CLASSES,
    HIDDEN,
    PIXELS,
    SKILLS,
    Job,
    client_data,
)
from cloister_simulations.benchmarks.skills import curriculum_of
from cloister_simulations.fleet import (
    Client,
    Fleet,
    MemoryClients,
    Trainer,
    client_trainer,
    run_fleet,
)


@dataclass(frozen=True)
class OurContender:
    """Cloister in this process."""

    name: str = "cloister"

    def run(self, job: Job) -> Measurement:
        """Train the job; whoever owns the process has set its allocator."""
        began = time.monotonic()
        ends = train_cohort_job(job)
        return Measurement.of(job, began, ends, {"cloister": version("cloister")})


def train_cohort_job(job: Job) -> Sequence[float]:
    """When each round ended, by ``time.monotonic``: a round is trained, aggregated, and on disk."""
    ends: list[float] = []
    curriculum = curriculum_of(SKILLS)
    plan = _plan(job, curriculum)
    model = plan.models[0]
    fleet = Fleet(
        MemoryClients([_client(job, number) for number in range(job.clients)]),
        {model.spec.kind: _trainer(job, model)},
        seed=0,
        cohort=job.cohort,
    )
    initial = {model.spec.kind: model.spec.initial_weights(curriculum, seed=0)}
    with tempfile.TemporaryDirectory() as directory:
        run_fleet(plan, initial, fleet, Path(directory), lambda *_: ends.append(time.monotonic()))
    return ends


def _plan(job: Job, curriculum: Curriculum) -> Plan:
    model = ModelPlan(
        spec=_spec(job),
        rounds=job.rounds,
        mechanism=Mechanism(noise_multiplier=job.noise, clip_norm=job.clip, sampling_rate=1.0),
        local=LocalTraining(steps=job.epochs, learning_rate=job.learning_rate),
    )
    return Plan(
        run="benchmark",
        curriculum=curriculum.digest,
        models=(model,),
        declared_sizes={"fleet": job.cohort},
        quorum=1,
    )


def _spec(job: Job) -> ModelSpec:
    if job.model == "dkt":
        return DktSpec(skills=SKILLS, hidden=HIDDEN)
    return LinearSpec.known(PIXELS, CLASSES)


def _trainer(job: Job, model: ModelPlan) -> Trainer[Any]:
    if job.model == "dkt":
        return client_trainer(model, devices=True)
    return LinearTrainer(model.local, job.batch, job.epochs)


def _client(job: Job, number: int) -> Client[Any]:
    data = client_data(job, number)
    if job.model != "dkt":
        return Client(number, 1, data)
    skills, correct = data[0][0].numpy(), data[1][0].numpy()
    items = skills.astype(np.int32)
    when = np.arange(len(items), dtype=np.float64)
    return Client(number, 1, [History(items, items[:, None], correct, when)])
