"""Initial weights from public synthetic answers: knowledge of how learning goes, of nobody.

Answers follow a Rasch-like model with a learning curve (Rasch 1960; additive factors: Cen,
Koedinger, Junker 2006, section 2): logit = ability + gain · log(1 + practice) - difficulty, with
guessing and slipping. Every parameter is drawn from a wide public distribution, so that no real
school is described.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sklearn.linear_model import LogisticRegression

from cloister_client.histories import History, MemoryHistorySource
from cloister_client.models.dkt import practice_of
from cloister_client.training import train_round
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import KeyedNoise
from cloister_simulations.config import Pretraining


def pretrained_weights(
    spec: ModelSpec, curriculum: Curriculum, settings: Pretraining, seed: int
) -> Weights:
    """The spec's initial weights after Adam on synthetic answers; public and reproducible.

    Raises ``ConfigError`` for ``wide_only`` where the spec has no wide part.
    """
    initial = spec.initial_weights(curriculum, seed)
    random = np.random.default_rng(seed)
    answer = partial(synthetic_history, curriculum, settings.answers, random)
    histories = [answer() for _ in range(settings.learners)]
    if settings.wide_only:
        return _wide_start(spec, initial, histories)
    source = MemoryHistorySource({str(place): one for place, one in enumerate(histories)})
    rate = min(1.0, 128 / settings.learners)
    result = train_round(
        initial,
        source,
        Mechanism(noise_multiplier=0, clip_norm=1, sampling_rate=rate),
        spec,
        KeyedNoise(seed, "pretraining"),
        local=LocalTraining(
            steps=settings.steps, optimizer="adam", learning_rate=settings.learning_rate
        ),
        declared_size=settings.learners,
    )
    return {name: initial[name] + result.delta[name] for name in initial}


def _wide_start(spec: ModelSpec, initial: Weights, histories: Sequence[History]) -> Weights:
    """Weights of practice at their maximum likelihood; every skill's own weights are zero."""
    if not isinstance(spec, DktSpec) or not spec.practice:
        raise ConfigError("pretraining with wide_only needs a dkt model with practice: true")
    learners = np.repeat(np.arange(len(histories)), list(map(len, histories)))
    whole = History.concatenate(histories)
    shared, _ = practice_of(spec, whole, learners)
    model = LogisticRegression(C=10.0, fit_intercept=False, max_iter=1000)
    model.fit(shared, whole.correct > 0.5)
    zeros = {name: np.zeros_like(initial[name]) for name in ("output", "skill_practice")}
    return {**initial, **zeros, "practice": model.coef_.astype(np.float32)}


def synthetic_history(curriculum: Curriculum, answers: int, random: np.random.Generator) -> History:
    """One learner who stays with a skill for a while and then takes another."""
    count = max(2, int(random.lognormal(np.log(answers), 0.5)))
    items = _walk(curriculum, count, random)
    skills = curriculum.item_skills[items]
    skill = skills[:, 0]
    practice = _earlier_answers(skill)
    ability = random.normal(0, 1.5) + random.normal(0, 1.0, len(curriculum.skills))
    gain = random.lognormal(-1.0, 0.8)
    guess, slip = random.uniform(0, 0.3), random.uniform(0, 0.2)
    logit = ability[skill] + gain * np.log1p(practice) + random.normal(0, 0.5)
    chance = guess + (1 - guess - slip) / (1 + np.exp(-logit))
    return History(
        items=items.astype(np.int32),
        skills=skills.astype(np.int32),
        correct=(random.random(count) < chance).astype(np.float32),
        when=np.arange(count, dtype=np.float64),
    )


def _walk(curriculum: Curriculum, count: int, random: np.random.Generator) -> np.ndarray:
    """Items of one skill for a geometric number of answers, then of another."""
    by_skill = [np.flatnonzero(curriculum.item_skills[:, 0] == k) for k in _taught(curriculum)]
    stay = random.uniform(0.6, 0.95)
    changes = np.cumsum(random.random(count) > stay)
    order = random.integers(0, len(by_skill), changes[-1] + 1)
    return np.array([random.choice(by_skill[order[change]]) for change in changes])


def _taught(curriculum: Curriculum) -> np.ndarray:
    return np.unique(curriculum.item_skills[:, 0])


def _earlier_answers(skill: np.ndarray) -> np.ndarray:
    """For each answer, how many earlier ones were to the same skill."""
    order = np.argsort(skill, kind="stable")
    sorted_skill = skill[order]
    starts = np.searchsorted(sorted_skill, sorted_skill)
    practice = np.empty(len(skill))
    practice[order] = np.arange(len(skill)) - starts
    return practice
