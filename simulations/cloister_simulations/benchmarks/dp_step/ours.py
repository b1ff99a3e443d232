"""Our engines, private (noise from the operating system) and plain; batching is in the step."""

import numpy as np

from cloister_client.models.dkt import DktKind
from cloister_client.training.engine import Engine, PlainEngine, PrivateEngine, Task, build_module
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import SystemNoise
from cloister_simulations.benchmarks.dp_step.workload import (
    CLIP,
    NOISE,
    RATE,
    SKILLS,
    Shape,
    histories,
)


class Private:
    """Clipped learner by learner, noised."""

    def __init__(self, shape: Shape) -> None:
        self.histories = histories(shape)
        self.engine: Engine = PrivateEngine(_task(shape, NOISE))

    def step(self) -> None:
        """One DP-SGD step, from the histories on."""
        self.engine.step(self.histories)


class Plain:
    """Ordinary gradients through the same module."""

    def __init__(self, shape: Shape) -> None:
        self.histories = histories(shape)
        self.engine: Engine = PlainEngine(_task(shape, 0.0))

    def step(self) -> None:
        """One SGD step, from the histories on."""
        self.engine.step(self.histories)


def _task(shape: Shape, noise_multiplier: float) -> Task:
    spec, kind = DktSpec(skills=SKILLS, hidden=shape.hidden), DktKind()
    random = np.random.default_rng(1)
    weights = {
        name: random.uniform(-0.1, 0.1, size).astype(np.float32)
        for name, size in spec.shapes().items()
    }
    return Task(
        module=build_module(spec, kind, weights),
        spec=spec,
        kind=kind,
        local=LocalTraining(learning_rate=RATE),
        mechanism=Mechanism(noise_multiplier=noise_multiplier, clip_norm=CLIP, sampling_rate=1.0),
        declared_size=shape.learners,
        noise=SystemNoise(),
    )
