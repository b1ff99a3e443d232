"""Our contender: every client a node of one learner, over the in-process backend."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from flwr.app import Context

from cloister_client.flower import make_client_app
from cloister_client.histories import History, MemoryHistorySource
from cloister_server.flower import Exchange, make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.mechanism import Mechanism
from cloister_simulations.backend.in_process import run_in_process
from cloister_simulations.benchmarks.contenders import ContenderError, Measurement
from cloister_simulations.benchmarks.peers.workload import HIDDEN, SKILLS, Job, client_data
from cloister_simulations.nodes import MemoryNodes, node_configs


@dataclass(frozen=True)
class OurContender:
    """Cloister in this process."""

    name: str = "cloister"

    def run(self, job: Job) -> Measurement:
        """Train the job; whoever owns the process has set its threads and its allocator."""
        began = time.monotonic()
        ends = train_cohort_job(job)
        return Measurement.of(job, began, ends, {"cloister": version("cloister")})


def train_cohort_job(job: Job) -> Sequence[float]:
    """When each round ended, by ``time.monotonic``.

    All nodes of a plan take part in every round, so the nodes are the job's cohort. Each adds its
    share of the one central noise. Raises ``ContenderError`` for a job that is not knowledge
    tracing.
    """
    if job.model != "dkt":
        raise ContenderError("the in-process backend has no such model")
    ends: list[float] = []
    names = [f"device-{client}" for client in range(job.cohort)]
    curriculum = _curriculum()
    plan = _plan(job, names, curriculum)
    nodes = MemoryNodes(
        curriculum=curriculum,
        sources={name: _source(job, client) for client, name in enumerate(names)},
        declared_sizes=plan.declared_sizes,
        budget=Budget(epsilon=8.0, delta=1e-6),
        seed=None,
        enforced=False,
    )
    initial = {"dkt": plan.models[0].spec.initial_weights(curriculum, seed=0)}
    with tempfile.TemporaryDirectory() as directory:
        coordinator = Coordinator(
            plan, initial, Path(directory), observe=lambda *_: ends.append(time.monotonic())
        )

        def run(exchange: Exchange, _: Context) -> None:
            coordinator.run(exchange)

        run_in_process(make_server_app(run), make_client_app(nodes), node_configs(nodes))
    return ends


def _curriculum() -> Curriculum:
    skills = tuple(Skill(id=f"skill-{number}") for number in range(SKILLS))
    items = tuple(Item(id=f"item-{one.id}", skills=(one.id,)) for one in skills)
    return Curriculum(name="benchmark", skills=skills, items=items)


def _plan(job: Job, names: Sequence[str], curriculum: Curriculum) -> Plan:
    model = ModelPlan(
        spec=DktSpec(skills=SKILLS, hidden=HIDDEN),
        rounds=job.rounds,
        mechanism=Mechanism(
            noise_multiplier=job.noise / math.sqrt(job.cohort),
            clip_norm=job.clip,
            sampling_rate=1.0,
        ),
        local=LocalTraining(steps=job.epochs, learning_rate=job.learning_rate),
    )
    return Plan(
        run="benchmark",
        curriculum=curriculum.digest,
        models=(model,),
        declared_sizes=dict.fromkeys(names, 1),
        quorum=len(names),
    )


def _source(job: Job, client: int) -> MemoryHistorySource:
    skills, correct = (one[0].numpy() for one in client_data(job, client))
    items = skills.astype(np.int32)
    when = np.arange(len(items), dtype=np.float64)
    return MemoryHistorySource({"learner": History(items, items[:, None], correct, when)})
