"""Learners who answer by coin, whom a model can learn by heart and in no other way."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cloister_client.app import node_from_home
from cloister_client.config import NodeConfig
from cloister_client.histories import HistorySource, Interaction
from cloister_client.home import NodeHome
from cloister_client.training import train_round
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.messages import Release, join, pack
from cloister_shared.model_specs import ModelSpec, Weights, parse_spec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy import Mechanism
from cloister_shared.privacy.noise import SystemNoise

SKILLS, ANSWERS, LEARNERS = 20, 12, 120
CURRICULUM = Curriculum(
    name="coins",
    skills=tuple(Skill(id=f"s{number}") for number in range(SKILLS)),
    items=tuple(Item(id=f"i{number}", skills=(f"s{number}",)) for number in range(SKILLS)),
)
SPEC = {"kind": "dkt", "skills": SKILLS, "hidden": 32}
DKT = parse_spec(SPEC)
BY_HEART = LocalTraining(steps=80, optimizer="adam", learning_rate=0.02)
PRIVATELY = LocalTraining(steps=20, learning_rate=0.5)
PRIVATE = Mechanism(noise_multiplier=1.0, clip_norm=0.5, sampling_rate=0.5)


def coin_answers(learner: str, seed: int) -> list[Interaction]:
    random = np.random.default_rng(seed)
    return [
        Interaction(
            learner, f"i{random.integers(SKILLS)}", bool(random.integers(2)), float(n), str(n)
        )
        for n in range(ANSWERS)
    ]


def everybody() -> list[Interaction]:
    return [row for n in range(LEARNERS) for row in coin_answers(f"learner {n}", n)]


def trained(source: HistorySource, spec: ModelSpec, *, by_heart: bool) -> Weights:
    """Weights from the source's train-role learners: memorized, or with noise and clip."""
    start = spec.initial_weights(CURRICULUM, 0)
    result = train_round(
        start,
        source,
        Mechanism(noise_multiplier=0, clip_norm=1, sampling_rate=1) if by_heart else PRIVATE,
        spec,
        SystemNoise(),
        local=BY_HEART if by_heart else PRIVATELY,
        declared_size=LEARNERS // 2,
    )
    return {name: start[name] + result.delta[name] for name in start}


def make_home(path: Path) -> NodeHome:
    """A node of everybody; about half of them are of either role."""
    config = NodeConfig(name="oak", declared_size=70, evaluation_share=0.5)
    home = NodeHome.create(path, config, CURRICULUM)
    with home.store() as store:
        store.import_interactions(everybody())
    return home


def with_limit(home: NodeHome, limit: float | None) -> NodeHome:
    policy = home.config.policy.model_copy(update={"max_membership_advantage": limit})
    return replace(home, config=home.config.model_copy(update={"policy": policy}))


def plan_of(run: str) -> Plan:
    """A run of one round of the tracer."""
    return Plan(
        run=run,
        curriculum=CURRICULUM.digest,
        models=(ModelPlan(spec=SPEC, rounds=1, mechanism=PRIVATE),),
        declared_sizes={"oak": 70},
    )


def release(home: NodeHome, weights: Weights, run: str) -> tuple[bytes, str]:
    """The node's answer, and the version that was kept."""
    plan = plan_of(run)
    node = node_from_home(home)
    answer = node.answer_release(pack(Release(plan=plan, round=1), join({"dkt": weights})))
    with home.store() as store:
        (kept,) = store.released(plan.digest, 1)
    return answer, kept.version
