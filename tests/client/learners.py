"""Made-up learners, a small curriculum and noise that can be paired, for tests of the client."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from cloister_client.histories import History, HistorySource, Purpose
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.noise import KeyedNoise

SKILLS, ITEMS = 5, 12


def small_curriculum(name: str = "small", skills: int = SKILLS, items: int = ITEMS) -> Curriculum:
    return Curriculum(
        name=name,
        skills=tuple(Skill(id=f"skill {number}") for number in range(skills)),
        items=tuple(
            Item(id=f"item {number}", skills=(f"skill {number % skills}",))
            for number in range(items)
        ),
    )


def made_up_history(answers: int, seed: int, most_skills: int = 1) -> History:
    """Random answers; with ``most_skills`` > 1, items with none to all of so many skills."""
    random = np.random.default_rng([seed, answers])
    skills = random.integers(0, SKILLS, (answers, most_skills), dtype=np.int32)
    if most_skills > 1:
        known = random.integers(0, most_skills + 1, answers)
        skills[np.arange(most_skills) >= known[:, None]] = -1
    return History(
        items=random.integers(0, ITEMS, answers, dtype=np.int32),
        skills=skills,
        correct=random.integers(0, 2, answers).astype(np.float32),
        when=np.arange(answers, dtype=np.float64),
    )


def together(*histories: History) -> History:
    """One history after the other."""
    return History(
        *(
            np.concatenate([getattr(history, name) for history in histories])
            for name in ("items", "skills", "correct", "when")
        )
    )


def random_weights(spec: ModelSpec, scale: float = 0.3, seed: int = 1) -> Weights:
    random = np.random.default_rng(seed)
    return {
        name: (scale * random.standard_normal(shape)).astype(np.float32)
        for name, shape in spec.shapes().items()
    }


class PairedNoise:
    """Reproducible bits, a stream for each number of bytes that is asked for at once.

    Two runs whose data sets differ by a learner draw different numbers of coins, but the same
    numbers of Gaussians: those are equal in both, unless as many coins are ever drawn at once.
    """

    has_guarantee = False

    def __init__(self, key: int) -> None:
        self._key = key
        self._streams: dict[int, KeyedNoise] = {}

    def random_bytes(self, count: int) -> bytes:
        stream = self._streams.setdefault(count, KeyedNoise(self._key, count))
        return stream.random_bytes(count)


class ConstantNoise:
    """The same bits for ever: every draw of a kind, negatives too, is equal in all data sets."""

    has_guarantee = False

    def random_bytes(self, count: int) -> bytes:
        return bytes([77]) * count


@dataclass
class RecordingSource:
    """Hands on what another source has, and remembers who was asked for."""

    source: HistorySource
    asked: list[tuple[Purpose, Collection[str] | None]] = field(default_factory=list)
    loaded: list[Sequence[str]] = field(default_factory=list)

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        self.asked.append((purpose, cohorts))
        return self.source.learners(purpose, cohorts)

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        self.loaded.append(list(learners))
        return self.source.load(learners, purpose)

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        return self.source.groups(learners, purpose)
