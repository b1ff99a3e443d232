"""A school with three skills and six exercises, a store in memory, and models to serve from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from cloister_client.histories import History, Interaction
from cloister_client.personalization import Personalization
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec


@dataclass(frozen=True)
class Version:
    version: str
    spec: ModelSpec
    weights: Weights


@dataclass
class MemoryStore:
    """What the protocol asks, in dictionaries; ``saves`` counts the states that were written."""

    curriculum: Curriculum
    models: dict[str, Version] = field(default_factory=dict)
    answers: dict[str, list[Interaction]] = field(default_factory=lambda: defaultdict(list))
    states: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    saves: int = 0

    def pseudonym(self, lms_id: str) -> str:
        return f"pseudonym of {lms_id}"

    def load(self, learners: Sequence[str], purpose: str) -> list[History]:
        assert purpose == "serve"
        return [
            History.from_interactions(
                sorted(self.answers.get(learner, []), key=lambda one: one.when), self.curriculum
            )
            for learner in learners
        ]

    def append(self, lms_id: str, interaction: Interaction) -> bool:
        mine = self.answers[self.pseudonym(lms_id)]
        if interaction in mine:
            return False
        mine.append(interaction)
        return True

    def active_version(self, kind: str) -> str | None:
        return self.models[kind].version if kind in self.models else None

    def model_version(self, version: str) -> Version:
        return next(one for one in self.models.values() if one.version == version)

    def fall_back(self, kind: str, version: str, reason: str) -> str | None:
        del self.models[kind]
        return None

    def load_state(self, learner: str, version: str) -> tuple[int, bytes] | None:
        return self.states.get((learner, version))

    def save_state(self, learner: str, version: str, answers: int, blob: bytes) -> None:
        self.saves += 1
        self.states[learner, version] = (answers, blob)


@pytest.fixture
def curriculum() -> Curriculum:
    skills = (
        Skill(id="add", name="Adding"),
        Skill(id="frac", name="Fractions"),
        Skill(id="addfrac", name="Adding fractions", prerequisites=("add", "frac")),
    )
    items = (
        Item(id="a1", skills=("add",), title="Sums to 20", text="13 + 4 = ?", format="number"),
        Item(id="a2", skills=("add",), title="Sums to 100"),
        Item(id="f1", skills=("frac",), title="Halves"),
        Item(id="f2", skills=("frac",), title="Quarters"),
        Item(id="af", skills=("addfrac",), title="A half and a quarter"),
        Item(id="mix", skills=("add", "frac")),
    )
    return Curriculum(name="sums", skills=skills, items=items)


@pytest.fixture
def store(curriculum) -> MemoryStore:
    return MemoryStore(curriculum)


@pytest.fixture
def personalization(store, curriculum) -> Personalization:
    return Personalization(store, curriculum)


@pytest.fixture
def activate(store, curriculum):
    """Make a random tracer and recommender the active versions, named after ``seed``."""

    def activate(seed: int = 1, kinds: Sequence[str] = ("dkt", "recommender")) -> None:
        specs = [DktSpec(skills=3, hidden=8), RecommenderSpec(items=6, factors=4, prior=1.0)]
        for spec in specs:
            if spec.kind in kinds:
                weights = spec.initial_weights(curriculum, seed)
                store.models[spec.kind] = Version(f"{spec.kind}-{seed}", spec, weights)

    return activate


@pytest.fixture
def activate_constant_tracer(store):
    """A tracer that gives skills fixed probabilities, whatever was answered."""

    def activate(*probabilities: float) -> None:
        spec = DktSpec(skills=3, hidden=2)
        weights = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
        chances = np.array(probabilities)
        weights["output"][:, -1] = np.log(chances / (1 - chances))
        store.models["dkt"] = Version(f"constant-{probabilities}", spec, weights)

    return activate
